package redisresult_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// Whoever starts the chord and whoever runs its first, middle and last task: the body goes out once, with
// all results in order, and what is left behind is the same.
func TestMixedChords(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		t.Run(fmt.Sprintf("ordered=%v", ordered), func(t *testing.T) {
			m := newMixed(t, map[string]any{"result_chord_ordered": ordered})
			sides := []string{"go", "py"}
			for n := range 16 {
				starter := sides[n>>3]
				reporters := []string{sides[n>>2&1], sides[n>>1&1], sides[n&1]}
				t.Run(starter+" starts, then "+strings.Join(reporters, ", "), func(t *testing.T) {
					m := &mixed{t, m.b, m.py, m.client, m.key}
					g := fmt.Sprint("g", n)
					if starter == "go" {
						if err := m.b.Begin(t.Context(), g); err != nil {
							t.Fatal(err)
						}
						if err := m.b.Expect(t.Context(), g, 3); err != nil {
							t.Fatal(err)
						}
					} else {
						m.py.call("start", g, []any{"t0", "t1", "t2"})
						m.py.call("size", g, 3)
					}
					indexes := []int{2, 0, 1}
					for i, side := range reporters {
						index := indexes[i]
						id, value := fmt.Sprint("t", index), fmt.Sprint("v", index)
						want := ""
						if i == 2 {
							if want = `["v0", "v1", "v2"]`; !ordered {
								want = `["v2", "v0", "v1"]`
							}
						}
						if got := m.part(side, g, id, index, value); got != want {
							t.Errorf("part %d, by %s, publishes %s, want %s", i, side, got, want)
						}
						if i == 1 { // copies before the end: the same on either side, and another value where that is known
							for _, copy := range sides {
								other := value + "!"
								if copy == "py" && m.py.old() {
									other = value
									if !ordered {
										continue // an old worker counts every copy in a list
									}
								}
								if got := m.part(copy, g, id, index, other); got != "" {
									t.Errorf("a copy of part %d, by %s, publishes %s", i, copy, got)
								}
							}
						}
					}
					last := reporters[2]
					want := []string{".c"}
					if last == "py" && m.py.old() {
						want = []string{".d"} // of our copy, which an old worker does not know
					}
					if last == "go" || !m.py.old() {
						if got := m.part("go", g, "t0", 0, "late"); got != "" {
							t.Errorf("a late copy publishes %s", got)
						}
					}
					if diff := cmp.Diff(want, m.leftovers(g)); diff != "" {
						t.Errorf("leftover keys (-want +got):\n%s", diff)
					}
				})
			}
		})
	}
}

// A claim goes from a dead Python worker to us, and the other way round.
func TestMixedTakeover(t *testing.T) {
	m := newMixed(t, nil)
	if m.py.old() {
		t.Skip("workers before 5.7 have no claim")
	}
	for _, g := range []string{"py dies", "go dies", "go publishes"} {
		m.py.call("start", g, []any{"a", "b"})
		m.py.call("size", g, 2)
		m.part("py", g, "a", 0, "A")
	}

	if got := m.py.call("part", "py dies", "b", 1, "SUCCESS", "B", true); got != "died" {
		t.Fatalf("python says %v", got)
	}
	if tally := m.count("py dies", "b", 1, "B"); tally.State != resultbackend.Busy || tally.Wait <= 0 {
		t.Errorf("while Python's claim lives Count is %v, wait %v; want busy", tally.State, tally.Wait)
	}
	if ttl := m.client.PTTL(t.Context(), m.group("py dies")+".c").Val(); ttl <= 0 || ttl > 6*time.Second {
		t.Errorf("Python's claim lives %v", ttl)
	}
	m.client.PExpire(t.Context(), m.group("py dies")+".c", time.Millisecond)
	deadline := time.Now().Add(60 * time.Second)
	for {
		tally := m.count("py dies", "b", 1, "B")
		if tally.State == resultbackend.Claimed {
			if got := m.publish(tally.Claim); got != `["A", "B"]` {
				t.Errorf("the body gets %s", got)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Count is %v for ever", tally.State)
		}
	}
	if got := m.part("py", "py dies", "b", 1, "B"); got != "" {
		t.Errorf("python publishes %s again", got)
	}

	// Killed with the claim: its part goes to a Python worker at once, which acknowledges it whatever it finds. It must
	// find no claim, or nobody is left to publish the body.
	tally := m.count("go dies", "b", 1, "B")
	if tally.State != resultbackend.Claimed {
		t.Fatalf("Count is %v, want claimed", tally.State)
	}
	if got := m.part("py", "go dies", "b", 1, "other"); got != `["A", "B"]` {
		t.Errorf("after our death python publishes %s", got)
	}
	if err := tally.Claim.Renew(t.Context()); !errors.Is(err, resultbackend.ErrClaimLost) {
		t.Errorf("our claim can be renewed after python finished the chord: %v", err)
	}

	tally = m.count("go publishes", "b", 1, "B")
	if tally.State != resultbackend.Claimed {
		t.Fatalf("Count is %v, want claimed", tally.State)
	}
	must(t, tally.Claim.Renew(t.Context()))
	if got := m.part("py", "go publishes", "b", 1, "B"); got != "" {
		t.Errorf("python publishes %s while we do", got)
	}
	m.client.Del(t.Context(), m.group("go publishes")+".c")
	if got := m.part("py", "go publishes", "b", 1, "other"); got != `["A", "B"]` {
		t.Errorf("after our death python publishes %s", got)
	}
	if err := tally.Claim.Finish(t.Context()); err != nil {
		t.Errorf("our claim, finished after python's: %v", err) // done is done
	}
}

// A failed part is told in the same words, whoever reported it and whoever completes the chord.
func TestMixedFailures(t *testing.T) {
	m := newMixed(t, nil)
	failures := []struct {
		state string
		args  []any
		e     *protocol.Exception
	}{
		{"FAILURE", []any{"bad", 42}, &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"bad", int64(42)}}},
		{"FAILURE", []any{}, &protocol.Exception{Module: "builtins", Type: "ValueError"}},
		{"REVOKED", []any{"revoked"}, protocol.TaskRevoked("revoked")},
	}
	for i, f := range failures {
		var texts []string
		for _, reporter := range []string{"go", "py"} {
			for _, last := range []string{"go", "py"} {
				g := fmt.Sprint(reporter, "-", last, "-", i)
				m.py.call("start", g, []any{"a", "b"})
				m.py.call("size", g, 2)
				if reporter == "py" {
					m.py.call("part", g, "a", 0, f.state, f.args)
				} else if _, err := m.b.Count(t.Context(), resultbackend.Member{
					GroupID: g, TaskID: "a", Index: int64(0), State: protocol.State(f.state), Exception: f.e,
				}); err != nil {
					t.Fatal(err)
				}
				texts = append(texts, m.failed(g, last, "b", 1))
			}
		}
		if s := slices.Compact(slices.Clone(texts)); len(s) != 1 || !strings.HasPrefix(s[0], "Dependency a raised ") {
			t.Errorf("failure %d is told as %q", i, texts)
		}
	}
}

// failed completes a chord that has failed and returns the text of the error. Copies of its parts then
// change nothing.
func (m *mixed) failed(g, last, id string, index int) string {
	m.Helper()
	var text string
	if last == "py" {
		if got := m.part("py", g, id, index, "fine"); got != "" {
			m.Errorf("python publishes %s", got)
		}
		r, err := m.b.Load(m.Context(), "body-of-"+g)
		if err != nil || r.Status != protocol.Failure {
			m.Fatalf("the body is %s, %v", r.Status, err)
		}
		text = fmt.Sprint(r.Exception.Args...)
	} else {
		t := m.count(g, id, index, "fine")
		if t.State != resultbackend.Claimed {
			m.Fatalf("Count is %v, want claimed", t.State)
		}
		h, err := t.Claim.Results(m.Context())
		if join, ok := errors.AsType[*resultbackend.JoinError](err); ok {
			text = canvas.JoinErrorText(join.Exception)
		} else if err != nil || h.Failed == nil {
			m.Fatalf("Results = %+v, %v", h, err)
		} else {
			text = canvas.DependencyText(h.Failed.TaskID, h.Failed.Exception)
		}
		if err := t.Claim.Fail(m.Context()); err != nil {
			m.Fatalf("Fail: %v", err)
		}
	}
	if last == "go" || !m.py.old() {
		if t := m.count(g, id, index, "fine"); t.State == resultbackend.Claimed {
			m.Errorf("after the error a copy is %v", t.State)
		}
		if got := m.part("py", g, id, index, "fine"); got != "" {
			m.Errorf("after the error python publishes %s", got)
		}
	}
	return text
}

// A header with groups in it: the record is Python's, and either side joins it.
func TestMixedGroups(t *testing.T) {
	m := newMixed(t, map[string]any{"result_chord_join_timeout": 1})
	for _, starter := range []string{"go", "py"} {
		for _, last := range []string{"go", "py"} {
			g := starter + "-" + last
			a, b, c := "a-"+g, "b-"+g, "c-"+g
			if starter == "py" {
				m.py.call("start", g, []any{a, []any{"inner-" + g, b, c}})
			} else {
				pair := func(id string) protocol.Value { return []protocol.Value{[]protocol.Value{id, nil}, nil} }
				if err := m.b.SaveGroup(t.Context(), g, []protocol.Value{
					[]protocol.Value{g, nil},
					[]protocol.Value{pair(a), []protocol.Value{[]protocol.Value{"inner-" + g, nil}, []protocol.Value{pair(b), pair(c)}}},
				}); err != nil {
					t.Fatal(err)
				}
			}
			want := fmt.Sprintf(`{"result": [["%s", null], [[["%s", null], null], [["inner-%s", null], [[["%s", null], null], [["%s", null], null]]]]]}`, g, a, g, b, c)
			if got := m.client.Get(t.Context(), m.group(g)).Val(); got != want {
				t.Errorf("%s saves %s, want %s", starter, got, want)
			}
			m.py.call("size", g, 3)
			for i, id := range []string{a, b, c} {
				m.py.call("store", id, i)
				side, want := "go", ""
				if i == 2 {
					side, want = last, `[0, [1, 2]]`
				}
				if got := m.part(side, g, id, i, i); got != want {
					t.Errorf("part %d of %s publishes %s, want %s", i, g, got, want)
				}
			}
		}
	}
	// A failure in there is told in the same words.
	for inside := range 2 {
		var texts []string
		for _, last := range []string{"go", "py"} {
			g := fmt.Sprint("failed-", inside, last)
			ids := []string{"x-" + g, "y-" + g}
			m.py.call("start", g, []any{ids[0], []any{"inner-" + g, ids[1]}})
			m.py.call("size", g, 2)
			m.py.call("fail", ids[inside], "boom")
			m.py.call("store", ids[1-inside], 1)
			m.part("go", g, ids[1], 1, "not looked at")
			texts = append(texts, m.failed(g, last, ids[0], 0))
		}
		if want := "Join error: ValueError('boom')"; texts[0] != want || texts[1] != want {
			t.Errorf("a failure in a header with groups is told as %q, want %q", texts, want)
		}
	}
	// A task that ignores its results is None.
	for _, last := range []string{"go", "py"} {
		g := "ignored-" + last
		m.py.call("start", g, []any{"x-" + g, []any{"inner-" + g, "y-" + g}})
		m.py.call("size", g, 2)
		m.py.call("store", "y-"+g, 1)
		m.part("go", g, "y-"+g, 1, 1)
		if got := m.part(last, g, "x-"+g, 0, "x"); got != `[null, [1]]` {
			t.Errorf("%s publishes %s", last, got)
		}
	}
}

// add_to_chord counts on both sides.
func TestMixedAdd(t *testing.T) {
	m := newMixed(t, nil)
	for _, last := range []string{"go", "py"} {
		m.py.call("start", last, []any{"a"})
		m.py.call("size", last, 1)
		m.py.call("add", last)
		if err := m.b.Add(t.Context(), last, 1); err != nil {
			t.Fatal(err)
		}
		for i, id := range []string{"a", "c", "b"} {
			side, want := "go", ""
			if i == 2 {
				side, want = last, `["a", "b", "c"]`
			}
			if got := m.part(side, last, id, 0, id); got != want {
				t.Errorf("part %d publishes %s, want %s", i, got, want)
			}
		}
	}
}

// Two Python workers and many of ours report overlapping parts of many chords at once: each body goes out once.
func TestMixedStorm(t *testing.T) {
	const chords, size, workers = 20, 12, 8
	m := newMixed(t, nil)
	prefix := strings.TrimSuffix(m.key, "celery-task-meta-")
	pythons := []*pyBackend{m.py, newPyBackend(t, realURL(t), prefix, nil)}
	if m.py.old() {
		t.Skip("of workers before 5.7 every one that finds the chord complete publishes its body")
	}
	type job struct{ chord, task int }
	id := func(j job) (string, string) { return fmt.Sprint("g", j.chord), fmt.Sprintf("g%d-t%d", j.chord, j.task) }
	ours, theirs := []job{}, make([][]any, len(pythons))
	for c := range chords {
		must(t, m.b.Begin(t.Context(), fmt.Sprint("g", c)), m.b.Expect(t.Context(), fmt.Sprint("g", c), size))
		for i := range size {
			j := job{c, i}
			g, task := id(j)
			who := rand.Perm(1 + len(pythons))
			for _, w := range who[:1+rand.IntN(2)] { // one or two run the task
				if w == 0 {
					ours = append(ours, j)
				} else {
					theirs[w-1] = append(theirs[w-1], []any{g, task, i})
				}
			}
		}
	}
	var mu sync.Mutex
	bodies := map[string]int{} // guarded by mu
	var wg sync.WaitGroup
	for i, py := range pythons {
		wg.Go(func() {
			list, _ := py.call("storm", theirs[i]).([]any)
			mu.Lock()
			defer mu.Unlock()
			for _, pair := range list {
				bodies[strings.TrimPrefix(pair.([]any)[0].(string), "body-of-")]++
			}
		})
	}
	jobs := make(chan job, len(ours))
	for _, j := range ours {
		jobs <- j
	}
	close(jobs)
	for range workers {
		wg.Go(func() {
			for j := range jobs {
				g, task := id(j)
				for again := true; again; {
					tally, err := m.b.Count(t.Context(), member(g, task, int64(j.task), task))
					if err != nil {
						t.Errorf("Count: %v", err)
						return
					}
					if again = tally.State == resultbackend.Busy; again {
						time.Sleep(time.Millisecond) // Wait, in a hurry
					}
					if tally.Claim == nil {
						continue
					}
					h, err := tally.Claim.Results(t.Context())
					if err == nil {
						if len(h.Values) != size || h.Values[size-1] != fmt.Sprintf("%s-t%d", g, size-1) {
							t.Errorf("Results of %s = %v", g, h.Values)
						}
						err = tally.Claim.Renew(t.Context())
					}
					if errors.Is(err, resultbackend.ErrClaimLost) { // a copy of a part that Python ran was faster
						again = true
						continue
					}
					if err := errors.Join(err, tally.Claim.Finish(t.Context())); err != nil {
						t.Error(err)
					}
					mu.Lock()
					bodies[g]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for c := range chords {
		if n := bodies[fmt.Sprint("g", c)]; n != 1 {
			t.Errorf("the body of chord %d was published %d times, want once", c, n)
		}
	}
}

// Parts are the same bytes as Python's; read by us and written again they are the same still.
func TestPythonParts(t *testing.T) {
	for _, serializer := range []string{"json", "msgpack", "yaml"} {
		t.Run(serializer, func(t *testing.T) {
			m := newMixed(t, map[string]any{"result_serializer": serializer})
			n := int(m.py.call("values", "g").(float64))
			parts := m.client.ZRange(t.Context(), m.group("g")+".j", 0, -1).Val()
			if len(parts) != n || n < 20 {
				t.Fatalf("python wrote %d parts of %d", len(parts), n)
			}
			prefixes := func(id string) []string {
				p, err := protocol.PartPrefixes(serializer, id)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			for i, part := range parts {
				r, err := protocol.DecodePart(serializer, []byte(part), protocol.Limits{})
				if err != nil {
					t.Errorf("%q: %v", part, err)
					continue
				}
				if want := fmt.Sprint("t-", i); r.TaskID != want {
					t.Errorf("%q is read as of task %s", part, r.TaskID)
				}
				begins := func(id string) bool {
					return slices.ContainsFunc(prefixes(id), func(p string) bool { return strings.HasPrefix(part, p) })
				}
				if !begins(r.TaskID) || begins(r.TaskID[:len(r.TaskID)-1]) || begins("t-") {
					t.Errorf("%q: prefixes %q do not tell it", part, prefixes(r.TaskID))
				}
				ours, err := r.EncodePart(protocol.Encoding{Serializer: serializer})
				if err != nil {
					t.Errorf("%q: %v", part, err)
					continue
				}
				if serializer != "yaml" && string(ours) != part {
					t.Errorf("python writes %q, we %q", part, ours)
				}
				before := m.client.ZCard(t.Context(), m.group("g")+".j").Val()
				if _, err := m.b.Count(t.Context(), resultbackend.Member{
					GroupID: "g", TaskID: r.TaskID, Index: int64(i), State: r.Status, Value: "another", Exception: r.Exception,
				}); err != nil {
					t.Fatal(err)
				}
				if after := m.client.ZCard(t.Context(), m.group("g")+".j").Val(); after != before {
					t.Errorf("a copy of %q was counted again", part)
				}
			}
		})
	}
}
