package redisresult_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

func member(group, task string, index, value protocol.Value) resultbackend.Member {
	return resultbackend.Member{GroupID: group, TaskID: task, Index: index, State: protocol.Success, Value: value}
}

// tally counts a part, which must have that effect.
func tally(t *testing.T, b *redisresult.Backend, m resultbackend.Member, want resultbackend.TallyState) resultbackend.Claim {
	t.Helper()
	got, err := b.Count(t.Context(), m)
	if err != nil || got.State != want {
		t.Fatalf("Count(%s) = %v, %v; want %v", m.TaskID, got.State, err, want)
	}
	return got.Claim
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// What a chord leaves in Redis at each step, with its lifetimes, as Celery 5.7 has them. Nothing is published.
func TestChordKeys(t *testing.T) {
	d := func(s string) *time.Duration { v, _ := time.ParseDuration(s); return &v }
	servers(t, func(t *testing.T, url string) {
		for _, tt := range []struct {
			name           string
			expires, chord *time.Duration
			life           time.Duration // of the chord's keys; 0: for ever
			record, later  time.Duration // of the group record, before and after the first part
		}{
			{"by default", nil, nil, 24 * time.Hour, 24 * time.Hour, 24 * time.Hour},
			{"as results", d("1h"), nil, time.Hour, time.Hour, time.Hour},
			{"shorter than results", d("1h"), d("100s"), 100 * time.Second, 100 * time.Second, time.Hour},
			{"longer than results", d("1h"), d("2h"), 2 * time.Hour, 2 * time.Hour, 2 * time.Hour},
			{"for ever", d("1h"), d("0s"), 0, 0, 0},
			{"results for ever", d("0s"), d("1h"), time.Hour, time.Hour, time.Hour},
		} {
			t.Run(tt.name, func(t *testing.T) {
				b, client, key := open(t, url, redisresult.Config{Expires: tt.expires, ChordExpires: tt.chord})
				g := chordKey(key, "g")
				heard := client.PSubscribe(t.Context(), strings.TrimSuffix(key, "celery-task-meta-")+"*")
				defer heard.Close()
				if _, err := heard.Receive(t.Context()); err != nil {
					t.Fatal(err)
				}
				see := func(step string, want map[string]string) {
					t.Helper()
					got := map[string]string{}
					for _, k := range client.Keys(t.Context(), g+"*").Val() {
						suffix := strings.TrimPrefix(k, g)
						value := dump(client, k)
						if suffix == ".go" || suffix == ".c" && value != "done" {
							value = "token"
						}
						life := client.TTL(t.Context(), k).Val().Round(5 * time.Second)
						if life < 0 {
							life = 0
						}
						if value == "token" { // 6 s would be rounded away
							life = client.TTL(t.Context(), k).Val().Round(time.Second)
						}
						got[suffix] = value + " for " + life.String()
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s (-want +got):\n%s", step, diff)
					}
				}
				life := func(value string) string { return value + " for " + tt.life.String() }

				must(t, client.Set(t.Context(), g+".c", "done", 0).Err(), b.Begin(t.Context(), "g"))
				see("begun", map[string]string{})
				tuple := []protocol.Value{[]protocol.Value{"g", nil}, []protocol.Value{[]protocol.Value{[]protocol.Value{"a", nil}, nil}}}
				must(t, b.SaveGroup(t.Context(), "g", tuple), b.Expect(t.Context(), "g", 1), b.Add(t.Context(), "g", 1))
				record := `{"result": [["g", null], [[["a", null], null]]]}`
				see("started", map[string]string{"": record + " for " + tt.record.String(), ".s": life("1"), ".t": life("1")})
				for _, suffix := range []string{".s", ".t", ""} { // each part renews them
					if tt.life > 0 {
						client.Expire(t.Context(), g+suffix, 30*time.Second)
					}
				}
				tally(t, b, member("g", "a", int64(0), "x"), resultbackend.Open)
				record += " for " + tt.later.String()
				if tt.expires != nil && *tt.expires == 0 {
					record = strings.Replace(record, tt.later.String(), "30s", 1) // Celery renews it only when both are finite
				}
				see("one part", map[string]string{
					"": record, ".s": life("1"), ".t": life("1"), ".j": life(`[0 [1, "a", "SUCCESS", "x"]]`), ".d": life("[a:0]"),
				})
				c := tally(t, b, member("g", "b", nil, 1.0), resultbackend.Claimed)
				parts := `[0 [1, "a", "SUCCESS", "x"] inf [1, "b", "SUCCESS", 1.0]]`
				claimed := map[string]string{"": record, ".s": life("1"), ".t": life("1"), ".j": life(parts), ".d": life("[a:0 b:+inf]"), ".go": "token for 6s"}
				see("claimed", claimed)
				must(t, c.Renew(t.Context()))
				claimed[".go"], claimed[".c"] = "token for 30s", "token for 30s"
				see("renewed", claimed)
				must(t, c.Finish(t.Context()))
				see("finished", map[string]string{"": record, ".c": "done for 5m0s"})

				must(t, b.Begin(t.Context(), "f"), b.Expect(t.Context(), "f", 1))
				g = chordKey(key, "f")
				e := &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"bad", int64(42)}}
				c = tally(t, b, resultbackend.Member{GroupID: "f", TaskID: "a", Index: int64(0), State: protocol.Failure, Exception: e}, resultbackend.Claimed)
				must(t, c.Fail(t.Context()))
				see("failed", map[string]string{
					".j": life(`[0 [1, "a", "FAILURE", {"exc_type": "ValueError", "exc_message": ["bad", 42], "exc_module": "builtins"}]]`), ".d": life("[a:0]"),
				})
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				if m, err := heard.ReceiveMessage(ctx); err == nil {
					t.Errorf("published: %v", m)
				}
			})
		}
	})
}

// dump is a key's value as text.
func dump(client *redis.Client, key string) string {
	ctx := context.Background()
	switch client.Type(ctx, key).Val() {
	case "zset":
		var list []string
		for _, z := range client.ZRangeWithScores(ctx, key, 0, -1).Val() {
			score := fmt.Sprint(z.Score)
			if math.IsInf(z.Score, 1) {
				score = "inf"
			}
			list = append(list, score+" "+z.Member.(string))
		}
		return fmt.Sprint(list)
	case "list":
		return fmt.Sprint(client.LRange(ctx, key, 0, -1).Val())
	case "set":
		members := client.SMembers(ctx, key).Val()
		slices.Sort(members)
		return fmt.Sprint(members)
	}
	return client.Get(ctx, key).Val()
}

// Workers before 5.7 write no .d, ignore .c and delete neither. They are played by what they send.
func TestOldWorkers(t *testing.T) {
	servers(t, func(t *testing.T, url string) {
		for _, ordered := range []bool{true, false} {
			t.Run(fmt.Sprintf("ordered=%v", ordered), func(t *testing.T) {
				b, client, key := open(t, url, redisresult.Config{Options: map[string]any{"result_chord_ordered": ordered}})
				oldPart := func(g, part string, index float64) {
					t.Helper()
					if ordered {
						must(t, client.ZAdd(t.Context(), chordKey(key, g)+".j", redis.Z{Score: index, Member: part}).Err())
					} else {
						must(t, client.RPush(t.Context(), chordKey(key, g)+".j", part).Err())
					}
				}
				oldEnd := func(g string) {
					t.Helper()
					for _, suffix := range []string{".j", ".t", ".s"} {
						must(t, client.Del(t.Context(), chordKey(key, g)+suffix).Err())
					}
				}
				results := func(c resultbackend.Claim, want ...protocol.Value) {
					t.Helper()
					h, err := c.Results(t.Context())
					must(t, err)
					if diff := cmp.Diff(want, h.Values); diff != "" {
						t.Errorf("Results (-want +got):\n%s", diff)
					}
				}
				t.Run("a task run there is not counted again here", func(t *testing.T) {
					must(t, b.Expect(t.Context(), "g1", 3))
					oldPart("g1", `[1, "a", "SUCCESS", "old"]`, 0)
					tally(t, b, member("g1", "a", int64(0), "new"), resultbackend.Open)
					tally(t, b, member("g1", "a", int64(0), "old"), resultbackend.Open)
					tally(t, b, member("g1", "aa", int64(1), "b"), resultbackend.Open)
					oldPart("g1", `[1, "c", "SUCCESS", "c"]`, 2)
					results(tally(t, b, member("g1", "c", int64(2), "other"), resultbackend.Claimed), "old", "b", "c")
				})
				t.Run("written compactly it is the same bytes, or told by .d", func(t *testing.T) {
					must(t, b.Expect(t.Context(), "g2", 2))
					tally(t, b, member("g2", "a", int64(0), []protocol.Value{1.0, "é"}), resultbackend.Open)
					if ordered {
						oldPart("g2", `[1, "a", "SUCCESS", [1.0, "\u00e9"]]`, 0)
					}
					tally(t, b, member("g2", "a", int64(0), "x"), resultbackend.Open)
					tally(t, b, member("g2", "b", int64(1), "x"), resultbackend.Claimed)
				})
				t.Run("the last part there is completed here, if it died", func(t *testing.T) {
					must(t, b.Expect(t.Context(), "g3", 2))
					tally(t, b, member("g3", "a", int64(0), "a"), resultbackend.Open)
					oldPart("g3", `[1, "b", "SUCCESS", "b"]`, 1)
					results(tally(t, b, member("g3", "b", int64(1), "b"), resultbackend.Claimed), "a", "b")
				})
				t.Run("a late copy of what it completed fires nothing", func(t *testing.T) {
					must(t, b.Expect(t.Context(), "g4", 2))
					tally(t, b, member("g4", "a", int64(0), "a"), resultbackend.Open)
					oldPart("g4", `[1, "b", "SUCCESS", "b"]`, 1)
					oldEnd("g4")
					tally(t, b, member("g4", "a", int64(0), "a"), resultbackend.Open)
					tally(t, b, member("g4", "b", int64(1), "b"), resultbackend.Open)
				})
				t.Run("the same chord again after it completed it", func(t *testing.T) {
					must(t, b.Expect(t.Context(), "g5", 2))
					tally(t, b, member("g5", "a", int64(0), "a"), resultbackend.Open)
					oldPart("g5", `[1, "b", "SUCCESS", "b"]`, 1)
					oldEnd("g5") // and .d is left behind
					must(t, b.Begin(t.Context(), "g5"), b.Expect(t.Context(), "g5", 2))
					tally(t, b, member("g5", "a", int64(0), "a2"), resultbackend.Open)
					results(tally(t, b, member("g5", "b", int64(1), "b2"), resultbackend.Claimed), "a2", "b2")
				})
				t.Run("a chord that expired halfway can be run again", func(t *testing.T) {
					must(t, b.Expect(t.Context(), "g6", 2))
					tally(t, b, member("g6", "a", int64(0), "a"), resultbackend.Open)
					must(t, client.Del(t.Context(), chordKey(key, "g6")+".j").Err())
					tally(t, b, member("g6", "a", int64(0), "a"), resultbackend.Open)
					results(tally(t, b, member("g6", "b", int64(1), "b"), resultbackend.Claimed), "a", "b")
				})
			})
		}
	})
}

// Unordered, the results come as they arrived, and a task that runs twice counts once.
func TestChordUnordered(t *testing.T) {
	servers(t, func(t *testing.T, url string) {
		b, client, key := open(t, url, redisresult.Config{Options: map[string]any{"result_chord_ordered": false}})
		ordered, _, _ := open(t, url, redisresult.Config{Options: map[string]any{"global_keyprefix": strings.TrimSuffix(key, "celery-task-meta-")}})
		must(t, b.Expect(t.Context(), "g", 4))
		tally(t, b, member("g", "c", int64(2), "c"), resultbackend.Open)
		tally(t, b, member("g", "c", int64(2), "c2"), resultbackend.Open)
		tally(t, b, member("g", "a", int64(0), "a"), resultbackend.Open)
		tally(t, b, member("g", "a", int64(1), "a"), resultbackend.Open) // one id at two places is two tasks
		// A worker that was told otherwise does as the first one did.
		c := tally(t, ordered, member("g", "b", int64(3), "b"), resultbackend.Claimed)
		h, err := c.Results(t.Context())
		must(t, err)
		if diff := cmp.Diff([]protocol.Value{"c", "a", "a", "b"}, h.Values); diff != "" {
			t.Errorf("Results (-want +got):\n%s", diff)
		}
		must(t, c.Renew(t.Context()), c.Finish(t.Context()))
		if n := client.Exists(t.Context(), chordKey(key, "g")+".j").Val(); n != 0 {
			t.Error("the list is left")
		}
	})
	if _, err := redisresult.New(redisresult.Config{URL: "redis://127.0.0.1/0", Options: map[string]any{"result_chord_ordered": "no"}}); err == nil {
		t.Error("result_chord_ordered may be a text")
	}
}

// The bytes of parts, and the names of tasks, in each serializer.
func TestChordParts(t *testing.T) {
	huge, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	for _, tt := range []struct {
		name     string
		encoding protocol.Encoding
		index    protocol.Value
		value    protocol.Value
		want     string // in .j
		known    string // in .d
	}{
		{"json", protocol.Encoding{}, int64(7), "é", `[1, "t", "SUCCESS", "\u00e9"]`, "t:7"},
		{"no index", protocol.Encoding{}, nil, nil, `[1, "t", "SUCCESS", null]`, "t:+inf"},
		{"a float for an index", protocol.Encoding{}, 2.0, nil, `[1, "t", "SUCCESS", null]`, "t:2.0"},
		{"an infinite one", protocol.Encoding{}, math.Inf(-1), nil, `[1, "t", "SUCCESS", null]`, "t:-inf"},
		{"a huge one", protocol.Encoding{}, huge, nil, `[1, "t", "SUCCESS", null]`, "t:123456789012345678901234567890"},
		{"msgpack", protocol.Encoding{Serializer: "msgpack"}, int64(0), int64(5), "\x94\x01\xa1t\xa7SUCCESS\x05", "t:0"},
		{"compressed", protocol.Encoding{Compression: "gzip"}, int64(0), "x", "\x00celery-compressed\x00application/x-gzip\x00", "t:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, client, key := open(t, miniURL(t), redisresult.Config{Encoding: tt.encoding})
			must(t, b.Expect(t.Context(), "g", 1))
			c := tally(t, b, member("g", "t", tt.index, tt.value), resultbackend.Claimed)
			parts := client.ZRange(t.Context(), chordKey(key, "g")+".j", 0, -1).Val()
			if len(parts) != 1 || (parts[0] != tt.want && !(tt.encoding.Compression != "" && strings.HasPrefix(parts[0], tt.want))) {
				t.Errorf("the part is %q, want %q", parts, tt.want)
			}
			if got := dump(client, chordKey(key, "g")+".d"); got != "["+tt.known+"]" {
				t.Errorf(".d is %s, want %s", got, tt.known)
			}
			if h, err := c.Results(t.Context()); err != nil || len(h.Values) != 1 || h.Values[0] != tt.value {
				t.Errorf("Results = %v, %v", h.Values, err)
			}
		})
	}
}

// Parts and records that cannot be read are chord errors; compressed ones are read whatever our own setting.
func TestForeignParts(t *testing.T) {
	gz := func(r protocol.Result) string {
		data, err := r.EncodePart(protocol.Encoding{Compression: "gzip"})
		must(t, err)
		return string(data)
	}
	for _, tt := range []struct {
		name, part string
		value      protocol.Value // nil: a JoinError
		failed     bool
	}{
		{"compact", `[1,"t","SUCCESS",5]`, int64(5), false},
		{"compressed", gz(protocol.Result{TaskID: "t", Status: protocol.Success, Value: "x"}), "x", false},
		{"a custom state is a value", `[1, "t", "DONE", 5]`, int64(5), false},
		{"failed without exception", `[1, "t", "FAILURE", null]`, nil, true},
		{"compressed failure", gz(protocol.Result{TaskID: "t", Status: protocol.Failure, Exception: protocol.NewException("ValueError")}), nil, true},
		{"a failure that is a text", `[1, "t", "FAILURE", "boom"]`, nil, false},
		{"an object", `{"result": 5}`, nil, false},
		{"too short", `[1, "t", "SUCCESS"]`, nil, false},
		{"too long", `[1, "t", "SUCCESS", 5, 6]`, nil, false},
		{"no state", `[1, "t", null, 5]`, nil, false},
		{"no id", `[1, 2, "SUCCESS", 5]`, nil, false},
		{"no JSON", "\x80\x05N.", nil, false},
		{"empty", "", nil, false},
		{"compressed by nobody knows what", "\x00celery-compressed\x00application/x-what\x00abc", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, client, key := open(t, miniURL(t), redisresult.Config{})
			must(t, client.ZAdd(t.Context(), chordKey(key, "g")+".j", redis.Z{Score: 0, Member: tt.part}).Err(), b.Expect(t.Context(), "g", 2))
			h, err := tally(t, b, member("g", "last", int64(1), "fine"), resultbackend.Claimed).Results(t.Context())
			_, join := errors.AsType[*resultbackend.JoinError](err)
			switch {
			case tt.failed:
				if err != nil || h.Failed == nil || h.Failed.TaskID != "t" || !strings.HasPrefix(canvas.DependencyText("t", h.Failed.Exception), "Dependency t raised ") {
					t.Errorf("Results = %+v, %v; want that t failed", h, err)
				}
			case tt.value == nil:
				if !join {
					t.Errorf("Results = %+v, %v; want a JoinError", h, err)
				}
			case err != nil || len(h.Values) != 2 || h.Values[0] != tt.value:
				t.Errorf("Results = %+v, %v; want %v", h, err, tt.value)
			}
		})
	}
	t.Run("a record that is none", func(t *testing.T) {
		b, client, key := open(t, miniURL(t), redisresult.Config{})
		must(t, client.Set(t.Context(), chordKey(key, "g"), "[", 0).Err(), b.Expect(t.Context(), "g", 1))
		_, err := tally(t, b, member("g", "t", nil, nil), resultbackend.Claimed).Results(t.Context())
		if _, join := errors.AsType[*resultbackend.JoinError](err); !join {
			t.Errorf("Results: %v, want a JoinError", err)
		}
	})
}

// A part too large for Redis is told as such.
func TestChordTooLarge(t *testing.T) {
	b, _, _ := open(t, miniURL(t), redisresult.Config{})
	b.SetMaxValue(100)
	big := strings.Repeat("x", 200)
	if _, err := b.Count(t.Context(), member("g", "t", nil, big)); !errors.Is(err, resultbackend.ErrTooLarge) {
		t.Errorf("Count: %v, want ErrTooLarge", err)
	}
	if err := b.SaveGroup(t.Context(), "g", big); !errors.Is(err, resultbackend.ErrTooLarge) {
		t.Errorf("SaveGroup: %v, want ErrTooLarge", err)
	}
}

// A claim without an end, which nobody should have made, gets one: its holder may be dead.
func TestClaimWithoutEnd(t *testing.T) {
	servers(t, func(t *testing.T, url string) {
		for _, suffix := range []string{".c", ".go"} {
			b, client, key := open(t, url, redisresult.Config{})
			must(t, b.Expect(t.Context(), "g", 1), client.Set(t.Context(), chordKey(key, "g")+suffix, "someone", 0).Err())
			tally(t, b, member("g", "t", nil, nil), resultbackend.Busy)
			if life := client.TTL(t.Context(), chordKey(key, "g")+suffix).Val(); life <= 0 || life > 6*time.Second {
				t.Errorf("the claim in %s lives %v", suffix, life)
			}
		}
	})
}

// While the results of a header with groups are waited for the claim is kept; when it is lost all the same
// the wait ends.
func TestChordClaimWhileJoining(t *testing.T) {
	servers(t, func(t *testing.T, url string) {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("lost=%v", lost), func(t *testing.T) {
				t.Parallel()
				b, client, key := open(t, url, redisresult.Config{})
				g := chordKey(key, "g")
				inner := []protocol.Value{[]protocol.Value{"h", nil}, []protocol.Value{[]protocol.Value{[]protocol.Value{"late", nil}, nil}}}
				must(t, b.SaveGroup(t.Context(), "g", []protocol.Value{[]protocol.Value{"g", nil}, []protocol.Value{inner}}), b.Expect(t.Context(), "g", 1))
				c := tally(t, b, member("g", "other", int64(0), nil), resultbackend.Claimed)
				if lost {
					must(t, client.Set(t.Context(), g+".c", "another", time.Minute).Err())
				}
				type answer struct {
					h   resultbackend.Header
					err error
				}
				got := make(chan answer, 1)
				go func() {
					h, err := c.Results(t.Context())
					got <- answer{h, err}
				}()
				for deadline := time.Now().Add(time.Minute); !lost && client.TTL(t.Context(), g+".go").Val() <= 6*time.Second; {
					if time.Now().After(deadline) {
						t.Fatal("the claim is not renewed")
					}
					time.Sleep(5 * time.Millisecond)
				}
				if !lost {
					must(t, b.Store(t.Context(), record("late", protocol.Success)))
				}
				select {
				case a := <-got:
					if lost && !errors.Is(a.err, resultbackend.ErrClaimLost) || !lost && (a.err != nil || fmt.Sprint(a.h.Values) != "[[mine]]") {
						t.Errorf("Results = %v, %v", a.h.Values, a.err)
					}
				case <-time.After(time.Minute):
					t.Fatal("Results does not return")
				}
			})
		}
	})
}
