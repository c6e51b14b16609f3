package redisresult_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

func record(id string, s protocol.State) resultbackend.Record {
	r := protocol.Result{TaskID: id, Status: s, Value: "mine"}
	if s.Exceptional() {
		r.Exception = &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"mine"}}
	}
	return resultbackend.Record{Result: r}
}

func TestKeyPrefix(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, prefix, want string }{
		{"a word gets an underscore", "myapp", "myapp_celery-task-meta-t"},
		{"a colon is enough", "myapp:", "myapp:celery-task-meta-t"},
		{"an underscore is enough", "myapp_", "myapp_celery-task-meta-t"},
		{"a dash is enough", "myapp-", "myapp-celery-task-meta-t"},
		{"a dot is enough", "myapp.", "myapp.celery-task-meta-t"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// A server for each: two of the prefixes come to the same key, and open clears what it leaves.
			b, client, _ := open(t, miniURL(t), redisresult.Config{Options: map[string]any{"global_keyprefix": tt.prefix}})
			ch := watch(t, client, tt.want)
			if err := b.Store(t.Context(), record("t", protocol.Success)); err != nil {
				t.Fatalf("Store: %v", err)
			}
			<-ch // the channel has the key's name
			if n := client.Exists(t.Context(), tt.want).Val(); n != 1 {
				t.Errorf("no key %q: %q", tt.want, client.Keys(t.Context(), "*").Val())
			}
		})
	}
}

func TestLifetime(t *testing.T) {
	d := func(s string) *time.Duration { v, _ := time.ParseDuration(s); return &v }
	servers(t, func(t *testing.T, url string) {
		for _, tt := range []struct {
			name              string
			expires, failures *time.Duration
			state             protocol.State
			want              time.Duration // -1: for ever
		}{
			{"a day by default", nil, nil, protocol.Success, 24 * time.Hour},
			{"as set", d("1h"), nil, protocol.Started, time.Hour},
			{"whole seconds", d("90.7s"), nil, protocol.Success, 90 * time.Second},
			{"zero is for ever", d("0s"), nil, protocol.Success, -1},
			{"under a second is for ever", d("900ms"), nil, protocol.Success, -1},
			{"failures follow", d("1h"), nil, protocol.Failure, time.Hour},
			{"failures have their own", d("1h"), d("50s"), protocol.Failure, 50 * time.Second},
			{"failures for ever", d("1h"), d("0s"), protocol.Failure, -1},
			{"REVOKED is no FAILURE", d("1h"), d("50s"), protocol.Revoked, time.Hour},
			{"RETRY is no FAILURE", d("1h"), d("50s"), protocol.Retry, time.Hour},
		} {
			t.Run(tt.name, func(t *testing.T) {
				b, client, key := open(t, url, redisresult.Config{Expires: tt.expires, FailureExpires: tt.failures})
				if err := b.Store(t.Context(), record("t", protocol.Progress)); err != nil {
					t.Fatalf("Store: %v", err)
				}
				client.Expire(t.Context(), key+"t", 7*time.Second) // each write starts it again
				if err := b.Store(t.Context(), record("t", tt.state)); err != nil {
					t.Fatalf("Store: %v", err)
				}
				got := client.TTL(t.Context(), key+"t").Val()
				if tt.want < 0 && got != -1 || tt.want >= 0 && (got > tt.want || got < tt.want-5*time.Second) {
					t.Errorf("TTL = %v, want %v", got, tt.want)
				}
			})
		}
	})
}

// SUCCESS is final in whatever form it is stored.
func TestSuccessInEveryForm(t *testing.T) {
	success := func(e protocol.Encoding, v protocol.Value) string {
		data, err := (protocol.Result{TaskID: "t", Status: protocol.Success, Value: v}).Encode(e)
		if err != nil {
			t.Fatalf("Encode: %v", err)
		}
		return string(data)
	}
	servers(t, func(t *testing.T, url string) {
		for _, tt := range []struct {
			name       string
			serializer string
			stored     string
			final      bool
		}{
			{"as Python writes it", "json", success(protocol.Encoding{}, int64(1)), true},
			{"with NaN, which Lua could not read", "json", success(protocol.Encoding{}, math.NaN()), true},
			{"compressed", "json", success(protocol.Encoding{Compression: "gzip"}, "x"), true},
			{"msgpack", "msgpack", success(protocol.Encoding{Serializer: "msgpack"}, "x"), true},
			{"msgpack compressed", "msgpack", success(protocol.Encoding{Serializer: "msgpack", Compression: "zlib"}, "x"), true},
			{"yaml", "yaml", success(protocol.Encoding{Serializer: "yaml"}, "x"), true},
			{"compact JSON", "json", `{"status":"SUCCESS","result":1,"task_id":"t"}`, true},
			{"status not first", "json", `{"task_id": "t", "result": 1, "status": "SUCCESS"}`, true},
			{"status escaped", "json", `{"status": "\u0053UCCESS", "result": 1}`, true},

			{"STARTED with SUCCESS in its result", "json", `{"status": "STARTED", "result": {"status": "SUCCESS", "result": 1}}`, false},
			{"compact STARTED", "json", `{"status":"STARTED","result":"\"status\": \"SUCCESS\""}`, false},
			{"a custom state in compact JSON", "json", `{"status":"SUCCESSFUL","result":null}`, false},
			{"poisoned: no document", "json", "\x80\x05N.", false},
			{"poisoned: cut off", "json", `{"status": "SUCCESS"`, false},
			{"poisoned: compressed by nobody knows what", "json", "\x00celery-compressed\x00application/x-what\x00abc", false},
			{"poisoned: another serializer", "msgpack", `{"status":"SUCCESS","result":1}`, false},
			{"poisoned: empty", "json", "", false},
			{"poisoned: a list", "json", `["SUCCESS"]`, false},
		} {
			t.Run(tt.name, func(t *testing.T) {
				for _, way := range []string{"script", "watch"} {
					b, client, key := open(t, url, redisresult.Config{Encoding: protocol.Encoding{Serializer: tt.serializer}})
					if way == "watch" {
						b.ForbidScripts()
					}
					client.Set(t.Context(), key+"t", tt.stored, 0)
					if err := b.Store(t.Context(), record("t", protocol.Failure)); err != nil {
						t.Fatalf("Store: %v", err)
					}
					kept := client.Get(t.Context(), key+"t").Val() == tt.stored
					if kept != tt.final {
						t.Errorf("by %s: kept = %v, want %v", way, kept, tt.final)
					}
					// A write over certain states never replaces what nobody can read.
					client.Set(t.Context(), key+"t", tt.stored, 0)
					revoke := record("t", protocol.Revoked)
					revoke.Over = []protocol.State{protocol.Pending, protocol.Retry}
					if err := b.Store(t.Context(), revoke); err != nil {
						t.Fatalf("Store: %v", err)
					}
					if client.Get(t.Context(), key+"t").Val() != tt.stored {
						t.Errorf("by %s: replaced although it is not among Over", way)
					}
				}
			})
		}
	})
}

func TestLoadsEveryForm(t *testing.T) {
	t.Parallel()
	url := miniURL(t)
	for _, e := range []protocol.Encoding{
		{}, {Compression: "gzip"}, {Compression: "bzip2"}, {Serializer: "msgpack"}, {Serializer: "yaml"}, {Serializer: "msgpack", Compression: "zstd"},
	} {
		writer, client, key := open(t, url, redisresult.Config{Encoding: e})
		if err := writer.Store(t.Context(), record("t", protocol.Success)); err != nil {
			t.Fatalf("%+v: Store: %v", e, err)
		}
		raw := client.Get(t.Context(), key+"t").Val()
		if packed := strings.HasPrefix(raw, "\x00celery-compressed\x00"); packed != (e.Compression != "") {
			t.Errorf("%+v: stored compressed = %v", e, packed)
		}
		reader, _, _ := open(t, url, redisresult.Config{
			Encoding: protocol.Encoding{Serializer: e.Serializer}, // the reader's setting says nothing of compression
			Options:  map[string]any{"global_keyprefix": strings.TrimSuffix(key, "celery-task-meta-")},
		})
		if r, err := reader.Load(t.Context(), "t"); err != nil || r.Value != "mine" {
			t.Errorf("%+v: Load = %v, %v", e, r.Value, err)
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	t.Parallel()
	b, client, key := open(t, miniURL(t), redisresult.Config{})
	client.Set(t.Context(), key+"t", "\x80\x05", 0)
	_, err := b.Load(t.Context(), "t")
	if _, ok := errors.AsType[*protocol.DecodeError](err); !ok {
		t.Errorf("Load: %v, want a DecodeError", err)
	}
}

func TestRoundTrips(t *testing.T) {
	servers(t, func(t *testing.T, url string) {
		b, client, key := open(t, url, redisresult.Config{})
		if err := b.Store(t.Context(), record("first", protocol.Started)); err != nil { // the script is known after it
			t.Fatalf("Store: %v", err)
		}
		n := b.Commands()
		for _, tt := range []struct {
			name, stored string
			want         int64
		}{
			{"no record", "", 1},
			{"STARTED before", `{"status": "STARTED", "result": {}, "task_id": "t"}`, 1},
			{"SUCCESS before", `{"status": "SUCCESS", "result": {}, "task_id": "t"}`, 1},
			{"unusual SUCCESS before", `{"status":"SUCCESS","result":1}`, 1},
			{"unusual STARTED before", `{"status":"STARTED","result":1}`, 2},
		} {
			client.Del(t.Context(), key+"t")
			if tt.stored != "" {
				client.Set(t.Context(), key+"t", tt.stored, 0)
			}
			n.Store(0)
			if err := b.Store(t.Context(), record("t", protocol.Success)); err != nil {
				t.Fatalf("Store: %v", err)
			}
			if n.Load() != tt.want {
				t.Errorf("%s: %d round trips, want %d", tt.name, n.Load(), tt.want)
			}
		}
	})
}

func TestServerErrors(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	b, _, _ := open(t, "redis://"+m.Addr()+"/0", redisresult.Config{})
	for _, text := range []string{
		"LOADING Redis is loading the dataset in memory",
		"OOM command not allowed when used memory > 'maxmemory'.",
		"READONLY You can't write against a read only replica.",
		"MISCONF Redis is configured to save RDB snapshots",
		"NOPERM this user has no permissions to run the 'evalsha' command",
		"NOAUTH Authentication required.",
		"MASTERDOWN Link with MASTER is down",
	} {
		m.SetError(text)
		if err := b.Store(t.Context(), record("t", protocol.Success)); !errors.Is(err, resultbackend.ErrUnavailable) {
			t.Errorf("Store: %v, want ErrUnavailable", err)
		}
		if _, err := b.Load(t.Context(), "t"); !errors.Is(err, resultbackend.ErrUnavailable) {
			t.Errorf("Load: %v, want ErrUnavailable", err)
		}
	}
	m.SetError("ERR Protocol error: invalid bulk length")
	if err := b.Store(t.Context(), record("t", protocol.Success)); !errors.Is(err, resultbackend.ErrTooLarge) {
		t.Errorf("Store: %v, want ErrTooLarge", err)
	}
	m.SetError("")
	if err := b.Store(t.Context(), record("t", protocol.Success)); err != nil || !b.Scripted() {
		t.Errorf("Store after the errors: %v, scripted %v", err, b.Scripted())
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	b, client, key := open(t, miniURL(t), redisresult.Config{})
	b.SetMaxValue(1000)
	r := record("t", protocol.Success)
	r.Result.Value = strings.Repeat("x", 1000)
	if err := b.Store(t.Context(), r); !errors.Is(err, resultbackend.ErrTooLarge) {
		t.Errorf("Store: %v, want ErrTooLarge", err)
	}
	if n := client.Exists(t.Context(), key+"t").Val(); n != 0 {
		t.Error("something was stored")
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	url := "redis://:secret@" + m.Addr() + "/0"
	m.Close()
	b, err := redisresult.New(redisresult.Config{URL: url})
	if err != nil {
		t.Fatalf("New: %v, want no error before it is used", err)
	}
	defer b.Close()
	err = b.Store(t.Context(), record("t", protocol.Success))
	if !errors.Is(err, resultbackend.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Store: %v, want ErrUnavailable without the password", err)
	}
	if strings.Contains(b.String(), "secret") {
		t.Errorf("String = %q", b.String())
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	negative := -time.Second
	for _, tt := range []struct {
		name string
		cfg  redisresult.Config
		want []string
	}{
		{"no URL", redisresult.Config{}, []string{"url"}},
		{"every mistake at once", redisresult.Config{
			URL:            "rediss://h/0",
			Options:        map[string]any{"global_keyprefix": 5},
			Expires:        &negative,
			FailureExpires: &negative,
			Encoding:       protocol.Encoding{Serializer: "pickle"},
		}, []string{"ssl_cert_reqs", "global_keyprefix", "Config.Expires", "Config.FailureExpires", "pickle"}},
		{"two servers", redisresult.Config{URL: "redis://a/0;redis://b/0"}, []string{"one server"}},
	} {
		_, err := redisresult.New(tt.cfg)
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q in it", tt.name, err, want)
			}
		}
	}
}

// A SUCCESS that arrives between our reading a record and our writing over it stays.
func TestChangedMeanwhile(t *testing.T) {
	servers(t, func(t *testing.T, url string) {
		for _, way := range []string{"script", "watch"} {
			b, client, key := open(t, url, redisresult.Config{})
			const success = `{"status": "SUCCESS", "result": "other's", "task_id": "t"}`
			other := func() { client.Set(t.Context(), key+"t", success, 0) }
			if way == "watch" {
				b.ForbidScripts()
				b.AfterFirst("get", other)
			} else {
				if err := b.Store(t.Context(), record("first", protocol.Started)); err != nil { // the script is known after it
					t.Fatalf("Store: %v", err)
				}
				b.AfterFirst("evalsha", other)
			}
			client.Set(t.Context(), key+"t", `{"status":"STARTED","result":"unusual, so it is read here"}`, 0)
			if err := b.Store(t.Context(), record("t", protocol.Failure)); err != nil {
				t.Fatalf("Store: %v", err)
			}
			if got := client.Get(t.Context(), key+"t").Val(); got != success {
				t.Errorf("by %s: the record is %s, want the SUCCESS that came between", way, got)
			}
		}
	})
}
