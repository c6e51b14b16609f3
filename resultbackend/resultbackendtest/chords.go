package resultbackendtest

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// RunChords runs the cases of resultbackend.Chords as subtests, for a factory whose Backend implements it
// and has Lapse.
func RunChords(t *testing.T, f Factory) {
	for _, c := range []struct {
		name string
		run  func(*chordBench)
	}{
		{"the last part has the claim, and the results in the header's order", inOrder},
		{"a header of one task", headerOfOne},
		{"every kind of value arrives unchanged", partValues},
		{"parts counted before the size is known count", lateSize},
		{"nothing is complete without a size", noSize},
		{"the size that counts is the last one told", sizeTwice},
		{"a header that grew waits for what was added", grown},
		{"more parts than expected never complete", tooMany},
		{"a task counts once, with its first result", duplicates},
		{"a task counts once at each index", sharedID},
		{"tasks without index come last, ties by their ids", noIndex},
		{"the copy of a part is finished once the body is out", afterFinish},
		{"the copy of the last part waits, and takes over when the claim lapses", takeover},
		{"a lapsed claim that nobody took can be renewed", renewLapsed},
		{"a claim that is renewed is nobody else's", renewed},
		{"a finished chord can be started again", startedAgain},
		{"the first failure in the header's order is told", failedParts},
		{"a chord that failed is never failed again", failedOnce},
		{"of many workers at once one has the claim", manyParts},
		{"workers that die under their claims are followed by others", manyDeaths},
		{"chords do not mix", manyChords},
		{"a member of no group counts nowhere", noGroup},
		{"a header with groups gives lists in the list", nestedGroups},
		{"a header with groups waits for its tasks", nestedLate},
		{"a header with groups whose task does not end is a join error", nestedNever},
		{"a header with groups whose task failed is a join error", nestedFailed},
		{"a header with groups gives None for a task that ignores its results", nestedIgnored},
		{"a header with groups whose ignored task failed is a join error", nestedFailedIgnored},
		{"a group record that is none is a join error", nestedNonsense},
		{"a value that cannot be written is an EncodeError and counts nothing", unwritablePart},
		{"an index that is no number is an EncodeError", badIndex},
		{"a store that is away is ErrUnavailable", chordsAway},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &chordBench{bench: &bench{T: t, Backend: f(t)}}
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			b.loader, _ = b.Backend.Backend.(resultbackend.Loader)
			var ok bool
			if b.chords, ok = b.Backend.Backend.(resultbackend.Chords); !ok || b.Lapse == nil {
				t.Fatal("resultbackendtest: the Backend must be resultbackend.Chords, and Lapse be there")
			}
			c.run(b)
		})
	}
}

// A chordBench is one case about chords at work.
type chordBench struct {
	*bench
	chords resultbackend.Chords
}

func part(group, task string, index, value protocol.Value) resultbackend.Member {
	return resultbackend.Member{GroupID: group, TaskID: task, Index: index, State: protocol.Success, Value: value}
}

func failedPart(group, task string, index protocol.Value, s protocol.State, e *protocol.Exception) resultbackend.Member {
	return resultbackend.Member{GroupID: group, TaskID: task, Index: index, State: s, Exception: e}
}

func (b *chordBench) must(what string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

func (b *chordBench) start(group string, n int) {
	b.Helper()
	b.must("Begin", b.chords.Begin(b.ctx(), group))
	b.must("Expect", b.chords.Expect(b.ctx(), group, n))
}

// count reports a part, which must have that effect.
func (b *chordBench) count(m resultbackend.Member, want resultbackend.TallyState) resultbackend.Claim {
	b.Helper()
	t, err := b.chords.Count(b.ctx(), m)
	if err != nil {
		b.Fatalf("Count(%s): %v", m.TaskID, err)
	}
	if t.State != want {
		b.Fatalf("Count(%s) is %v, want %v", m.TaskID, t.State, want)
	}
	if (t.Claim != nil) != (want == resultbackend.Claimed) || (t.Wait > 0) != (want == resultbackend.Busy) || t.Wait > time.Minute {
		b.Errorf("Count(%s) is %v with claim %v and wait %v", m.TaskID, t.State, t.Claim, t.Wait)
	}
	return t.Claim
}

// values are the results of a claim on a header that went well.
func (b *chordBench) values(c resultbackend.Claim) []protocol.Value {
	b.Helper()
	h, err := c.Results(b.ctx())
	b.must("Results", err)
	if h.Failed != nil {
		b.Fatalf("Results: task %s failed", h.Failed.TaskID)
	}
	return h.Values
}

func (b *chordBench) results(c resultbackend.Claim, want ...protocol.Value) {
	b.Helper()
	if diff := cmp.Diff(protocol.Repr(slices.Clone(want)), protocol.Repr(b.values(c))); diff != "" {
		b.Errorf("Results (-want +got):\n%s", diff)
	}
}

// publish ends a claim as a worker does when the body is out.
func (b *chordBench) publish(c resultbackend.Claim) {
	b.Helper()
	b.must("Renew", c.Renew(b.ctx()))
	b.must("Finish", c.Finish(b.ctx()))
}

func (b *chordBench) lost(what string, err error) {
	b.Helper()
	if !errors.Is(err, resultbackend.ErrClaimLost) {
		b.Errorf("%s: %v, want ErrClaimLost", what, err)
	}
}

func inOrder(b *chordBench) {
	b.start("g", 12)
	order := []int{11, 3, 0, 7, 1, 10, 2, 9, 4, 8, 5, 6}
	for _, i := range order[:11] {
		b.count(part("g", fmt.Sprint("t", i), int64(i), int64(100+i)), resultbackend.Open)
	}
	c := b.count(part("g", "t6", int64(6), int64(106)), resultbackend.Claimed)
	var want []protocol.Value
	for i := range 12 {
		want = append(want, int64(100+i))
	}
	b.results(c, want...)
	b.publish(c)
	b.must("Finish a second time", c.Finish(b.ctx()))
}

func headerOfOne(b *chordBench) {
	b.start("g", 1)
	c := b.count(part("g", "t", int64(0), nil), resultbackend.Claimed)
	b.results(c, nil)
	b.publish(c)
}

func partValues(b *chordBench) {
	huge, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	values := []protocol.Value{
		nil, true, int64(-1), int64(math.MaxInt64), huge, 3.0, 1e16, 1e-7, math.Inf(-1), "", "café \U0001F600 <&> \"\\\n\x00",
		[]protocol.Value{},
		protocol.ObjectOf(), []byte("\x00\xff"), protocol.Decimal("1.10"),
		protocol.ObjectOf(protocol.Member{Key: "z", Value: []protocol.Value{int64(1), nil}}, protocol.Member{Key: "a", Value: 0.1}),
		"[1, \"t3\", \"SUCCESS\", 5]",
	}
	b.start("g", len(values))
	for i, v := range values[1:] {
		b.count(part("g", fmt.Sprint("t", i+1), int64(i+1), v), resultbackend.Open)
	}
	b.results(b.count(part("g", "t0", int64(0), values[0]), resultbackend.Claimed), values...)
}

func lateSize(b *chordBench) {
	b.must("Begin", b.chords.Begin(b.ctx(), "g"))
	b.count(part("g", "a", int64(0), int64(1)), resultbackend.Open)
	b.count(part("g", "b", int64(1), int64(2)), resultbackend.Open)
	b.must("Expect", b.chords.Expect(b.ctx(), "g", 3))
	b.count(part("g", "a", int64(0), int64(1)), resultbackend.Open)
	b.results(b.count(part("g", "c", int64(2), int64(3)), resultbackend.Claimed), int64(1), int64(2), int64(3))
}

func noSize(b *chordBench) {
	b.must("Begin", b.chords.Begin(b.ctx(), "g"))
	b.must("Add", b.chords.Add(b.ctx(), "g", 1))
	for i := range 3 {
		b.count(part("g", fmt.Sprint(i), int64(i), nil), resultbackend.Open)
	}
}

func sizeTwice(b *chordBench) {
	b.start("g", 3)
	b.count(part("g", "a", int64(0), "a"), resultbackend.Open)
	b.must("Expect", b.chords.Expect(b.ctx(), "g", 2))
	b.results(b.count(part("g", "b", int64(1), "b"), resultbackend.Claimed), "a", "b")
}

func grown(b *chordBench) {
	b.start("g", 1)
	b.must("Add", b.chords.Add(b.ctx(), "g", 1))
	b.must("Add", b.chords.Add(b.ctx(), "g", 2))
	b.count(part("g", "t", int64(0), "t"), resultbackend.Open)
	b.count(part("g", "x", int64(0), "x"), resultbackend.Open)
	b.count(part("g", "y", int64(0), "y"), resultbackend.Open)
	b.results(b.count(part("g", "a", int64(0), "a"), resultbackend.Claimed), "a", "t", "x", "y")
}

func tooMany(b *chordBench) {
	b.must("Begin", b.chords.Begin(b.ctx(), "g"))
	for i := range 3 {
		b.count(part("g", fmt.Sprint(i), int64(i), nil), resultbackend.Open)
	}
	b.must("Expect", b.chords.Expect(b.ctx(), "g", 2))
	for i := range 3 {
		b.count(part("g", fmt.Sprint(i), int64(i), nil), resultbackend.Open)
	}
}

func duplicates(b *chordBench) {
	boom := &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"boom"}}
	b.start("g", 3)
	b.count(part("g", "a", int64(0), "first"), resultbackend.Open)
	b.count(part("g", "a", int64(0), "first"), resultbackend.Open)
	b.count(part("g", "a", int64(0), "second"), resultbackend.Open)
	b.count(failedPart("g", "a", int64(0), protocol.Failure, boom), resultbackend.Open)
	b.count(part("g", "a-longer", int64(1), "b"), resultbackend.Open)
	b.count(part("g", "a", int64(0), []protocol.Value{"third"}), resultbackend.Open)
	c := b.count(part("g", "c", int64(2), "c"), resultbackend.Claimed)
	b.results(c, "first", "b", "c")
}

func sharedID(b *chordBench) {
	b.start("g", 3)
	b.count(part("g", "same", int64(0), "0"), resultbackend.Open)
	b.count(part("g", "same", int64(1), "1"), resultbackend.Open)
	b.count(part("g", "same", int64(1), "1"), resultbackend.Open)
	b.results(b.count(part("g", "same", int64(2), "2"), resultbackend.Claimed), "0", "1", "2")
}

func noIndex(b *chordBench) {
	b.start("g", 6)
	b.count(part("g", "z", nil, "z"), resultbackend.Open)
	b.count(part("g", "a", nil, "a"), resultbackend.Open)
	b.count(part("g", "z", nil, "again"), resultbackend.Open)
	b.count(part("g", "h", 1.5, "h"), resultbackend.Open)
	b.count(part("g", "i", int64(2), "i"), resultbackend.Open)
	b.count(part("g", "m", int64(-1), "m"), resultbackend.Open)
	b.results(b.count(part("g", "b", int64(1), "b"), resultbackend.Claimed), "m", "b", "h", "i", "a", "z")
}

func afterFinish(b *chordBench) {
	b.start("g", 2)
	b.count(part("g", "a", int64(0), "a"), resultbackend.Open)
	b.publish(b.count(part("g", "b", int64(1), "b"), resultbackend.Claimed))
	for range 2 {
		b.count(part("g", "a", int64(0), "a"), resultbackend.Finished)
		b.count(part("g", "b", int64(1), "other"), resultbackend.Finished)
		b.count(part("g", "stranger", int64(2), "x"), resultbackend.Finished)
	}
}

func takeover(b *chordBench) {
	b.start("g", 2)
	b.count(part("g", "a", int64(0), "a"), resultbackend.Open)
	dead := b.count(part("g", "b", int64(1), "b"), resultbackend.Claimed)
	b.count(part("g", "b", int64(1), "b"), resultbackend.Busy)
	b.count(part("g", "a", int64(0), "a"), resultbackend.Busy)
	b.Lapse("g")
	c := b.count(part("g", "b", int64(1), "b"), resultbackend.Claimed)
	b.count(part("g", "a", int64(0), "a"), resultbackend.Busy)
	b.lost("Renew of the dead one's claim", dead.Renew(b.ctx()))
	b.lost("Finish of the dead one's claim", dead.Finish(b.ctx()))
	b.lost("Fail of the dead one's claim", dead.Fail(b.ctx()))
	b.results(c, "a", "b")
	b.publish(c)
	b.lost("Renew after the end", dead.Renew(b.ctx()))
	if h, err := dead.Results(b.ctx()); !errors.Is(err, resultbackend.ErrClaimLost) {
		b.Errorf("Results after the end: %v, %v; want ErrClaimLost", h, err)
	}
	b.count(part("g", "b", int64(1), "b"), resultbackend.Finished)
}

func renewLapsed(b *chordBench) {
	b.start("g", 1)
	c := b.count(part("g", "a", int64(0), "a"), resultbackend.Claimed)
	b.Lapse("g")
	b.lost("Finish of what has lapsed", c.Finish(b.ctx()))
	b.publish(c)
	b.count(part("g", "a", int64(0), "a"), resultbackend.Finished)
}

func renewed(b *chordBench) {
	b.start("g", 1)
	c := b.count(part("g", "a", int64(0), "a"), resultbackend.Claimed)
	for range 3 {
		b.must("Renew", c.Renew(b.ctx()))
		b.count(part("g", "a", int64(0), "a"), resultbackend.Busy)
	}
	b.publish(c)
}

func startedAgain(b *chordBench) {
	for range 3 {
		b.start("g", 2)
		b.count(part("g", "a", int64(0), "a"), resultbackend.Open)
		c := b.count(part("g", "b", int64(1), "b"), resultbackend.Claimed)
		b.results(c, "a", "b")
		b.publish(c)
	}
}

func failedParts(b *chordBench) {
	for i, tt := range []struct {
		state protocol.State
		e     *protocol.Exception
		want  string
	}{
		{protocol.Failure, &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"bad", int64(42)}}, "ValueError('bad', 42)"},
		{protocol.Failure, &protocol.Exception{Module: "myapp.errors", Type: "Outer.Broken", Args: []protocol.Value{}}, "Broken()"},
		{protocol.Revoked, protocol.TaskRevoked("revoked"), "TaskRevokedError('revoked')"},
		{protocol.Revoked, protocol.TaskRevoked("expired"), "TaskRevokedError('expired')"},
	} {
		g := fmt.Sprint("g", i)
		b.start(g, 4)
		b.count(part(g, "t3", int64(3), "fine"), resultbackend.Open)
		b.count(failedPart(g, "t2", int64(2), protocol.Failure, &protocol.Exception{Module: "builtins", Type: "KeyError", Args: []protocol.Value{"late"}}), resultbackend.Open)
		b.count(failedPart(g, "t1", int64(1), tt.state, tt.e), resultbackend.Open)
		c := b.count(part(g, "t0", int64(0), "fine"), resultbackend.Claimed)
		h, err := c.Results(b.ctx())
		b.must("Results", err)
		if h.Failed == nil || h.Failed.TaskID != "t1" || h.Failed.Status != tt.state || h.Values != nil {
			b.Fatalf("Results = %+v, want that t1 failed", h)
		}
		if e := h.Failed.Exception; e == nil || e.Repr() != tt.want || e.Module != tt.e.Module {
			b.Errorf("the exception is %v, want %s", e, tt.want)
		}
	}
}

func failedOnce(b *chordBench) {
	boom := &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"boom"}}
	b.start("g", 2)
	b.count(part("g", "a", int64(0), "a"), resultbackend.Open)
	c := b.count(failedPart("g", "b", int64(1), protocol.Failure, boom), resultbackend.Claimed)
	b.count(part("g", "a", int64(0), "a"), resultbackend.Busy)
	b.must("Renew", c.Renew(b.ctx()))
	b.must("Fail", c.Fail(b.ctx()))
	b.must("Fail a second time", c.Fail(b.ctx()))
	b.count(failedPart("g", "b", int64(1), protocol.Failure, boom), resultbackend.Open)
	b.count(part("g", "b", int64(1), "at last"), resultbackend.Open)
	b.count(part("g", "a", int64(0), "a"), resultbackend.Open)
	b.lost("Renew after the end", c.Renew(b.ctx()))
}

func manyParts(b *chordBench) {
	const parts, workers = 200, 16
	b.start("g", parts)
	jobs := make(chan int, 3*parts)
	for _, i := range rand.Perm(3 * parts) { // each part three times
		jobs <- i % parts
	}
	close(jobs)
	var claims, finished atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range jobs {
				b.finish(part("g", fmt.Sprint("t", i), int64(i), int64(i)), func(c resultbackend.Claim) bool {
					claims.Add(1)
					if values := b.values(c); len(values) != parts || values[0] != int64(0) || values[parts-1] != int64(parts-1) {
						b.Errorf("the body gets %d values: %v", len(values), values)
					}
					return true
				}, &finished)
			}
		})
	}
	wg.Wait()
	if claims.Load() != 1 {
		b.Errorf("%d parts had the claim, want 1", claims.Load())
	}
}

// finish counts a part as a worker does: while it is busy, again. A claim is given to use, which says
// whether its holder lived to publish.
func (b *chordBench) finish(m resultbackend.Member, use func(resultbackend.Claim) bool, finished *atomic.Int64) {
	deadline := time.Now().Add(b.patience())
	for {
		t, err := b.chords.Count(b.ctx(), m)
		switch {
		case err != nil:
			b.Errorf("Count: %v", err)
			return
		case t.State == resultbackend.Finished:
			finished.Add(1)
			return
		case t.State == resultbackend.Open:
			return
		case t.State == resultbackend.Claimed && use(t.Claim):
			if err := t.Claim.Renew(b.ctx()); err != nil {
				b.Errorf("Renew: %v", err)
			}
			if err := t.Claim.Finish(b.ctx()); err != nil {
				b.Errorf("Finish: %v", err)
			}
			finished.Add(1)
			return
		}
		if time.Now().After(deadline) {
			b.Errorf("a part is %v for %v", t.State, b.patience())
			return
		}
		time.Sleep(time.Millisecond) // busy: Wait, in a hurry
	}
}

func manyDeaths(b *chordBench) {
	for round := range 5 {
		g := fmt.Sprint("g", round)
		b.start(g, 8)
		var holders, published, died, finished atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				b.finish(part(g, fmt.Sprint("t", i), int64(i), nil), func(resultbackend.Claim) bool {
					if holders.Add(1) > 1 {
						b.Error("two hold the claim")
					}
					defer holders.Add(-1)
					if died.Load() < 3 {
						died.Add(1)
						holders.Add(-1)
						b.Lapse(g) // and a copy of the same part comes later
						holders.Add(1)
						return false
					}
					published.Add(1)
					return true
				}, &finished)
			})
		}
		wg.Wait()
		if published.Load() != 1 {
			b.Errorf("after %d deaths the body was published %d times, want once", died.Load(), published.Load())
		}
	}
}

func manyChords(b *chordBench) {
	var wg sync.WaitGroup
	for n := range 10 {
		wg.Go(func() {
			g := fmt.Sprint("g", n)
			if err := b.chords.Expect(b.ctx(), g, 5); err != nil {
				b.Errorf("Expect: %v", err)
			}
			var claims, finished atomic.Int64
			for i := range 5 {
				b.finish(part(g, fmt.Sprint("t", i), int64(i), g), func(c resultbackend.Claim) bool {
					claims.Add(1)
					h, err := c.Results(b.ctx())
					if err != nil || fmt.Sprint(h.Values) != fmt.Sprint([]protocol.Value{g, g, g, g, g}) {
						b.Errorf("%s gets %v, %v", g, h.Values, err)
					}
					return true
				}, &finished)
			}
			if claims.Load() != 1 {
				b.Errorf("%s was claimed %d times", g, claims.Load())
			}
		})
	}
	wg.Wait()
}

func noGroup(b *chordBench) {
	b.start("", 1)
	b.start("g", 1)
	b.count(part("", "t", int64(0), nil), resultbackend.Open)
	b.count(part("g", "", int64(0), nil), resultbackend.Open)
	b.results(b.count(part("g", "t", int64(0), "x"), resultbackend.Claimed), "x")
}

// taskTuple and groupTuple are result tuples.
func taskTuple(id string) protocol.Value { return []protocol.Value{[]protocol.Value{id, nil}, nil} }

func groupTuple(id string, members ...protocol.Value) protocol.Value {
	return []protocol.Value{[]protocol.Value{id, nil}, members}
}

// nested is a chord whose header is [a, [b, [c], []], d]. Those in done have stored their results, those in
// parts have reported; with the last of them it is claimed.
func (b *chordBench) nested(done, parts string) resultbackend.Claim {
	b.Helper()
	b.must("Begin", b.chords.Begin(b.ctx(), "g"))
	b.must("SaveGroup", b.chords.SaveGroup(b.ctx(), "g", groupTuple("g",
		taskTuple("a"), groupTuple("h", taskTuple("b"), groupTuple("i", taskTuple("c")), groupTuple("empty")), taskTuple("d"))))
	b.must("Expect", b.chords.Expect(b.ctx(), "g", len(parts)))
	for _, id := range done {
		b.store(b.success(string(id), "result of "+string(id)))
	}
	var c resultbackend.Claim
	for i, id := range parts {
		want := resultbackend.Open
		if i == len(parts)-1 {
			want = resultbackend.Claimed
		}
		c = b.count(part("g", string(id), int64(-i), "counted, not used"), want)
	}
	return c
}

var nestedWant = []protocol.Value{
	"result of a", []protocol.Value{"result of b", []protocol.Value{"result of c"}, []protocol.Value{}}, "result of d",
}

func nestedGroups(b *chordBench) {
	c := b.nested("abcd", "dcba")
	b.results(c, nestedWant...)
	b.publish(c)
	b.count(part("g", "a", int64(0), nil), resultbackend.Finished)
}

// Celery counts a chain that ends in a group for less than it has tasks.
func nestedLate(b *chordBench) {
	c := b.nested("a", "a")
	b.store(b.state("c", protocol.Started, "x"))
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, id := range []string{"d", "b", "c"} {
			time.Sleep(20 * time.Millisecond) // so that it is waited for; nothing depends on it
			b.store(b.success(id, "result of "+id))
		}
	})
	b.results(c, nestedWant...)
	wg.Wait()
}

func nestedIgnored(b *chordBench) {
	c := b.nested("ac", "abcd")
	b.results(c, "result of a", []protocol.Value{nil, []protocol.Value{"result of c"}, []protocol.Value{}}, nil)
}

func nestedNever(b *chordBench) {
	c := b.nested("abc", "abc")
	began := time.Now()
	h, err := c.Results(b.ctx())
	e, ok := errors.AsType[*resultbackend.JoinError](err)
	if !ok {
		b.Fatalf("Results = %v, %v; want a JoinError", h.Values, err)
	}
	if want := "TimeoutError('The operation timed out.')"; e.Exception.Repr() != want {
		b.Errorf("the exception is %s, want %s", e.Exception.Repr(), want)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		b.Errorf("it was given up after %v", took)
	}
	b.must("Renew", c.Renew(b.ctx()))
	b.must("Fail", c.Fail(b.ctx()))
	b.count(part("g", "a", int64(0), nil), resultbackend.Open)
}

func nestedFailed(b *chordBench) {
	b.store(b.state("c", protocol.Failure, "boom"))
	c := b.nested("abd", "abcd")
	b.joinError(c, "ValueError('boom')")
}

func nestedFailedIgnored(b *chordBench) {
	b.nested("ab", "abc")
	b.must("Expect", b.chords.Expect(b.ctx(), "g", 4))
	b.Lapse("g")
	m := failedPart("g", "d", nil, protocol.Failure, &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"boom"}})
	b.joinError(b.count(m, resultbackend.Claimed), "ValueError('boom')")
}

// joinError checks why the claim's Results cannot be had.
func (b *chordBench) joinError(c resultbackend.Claim, want string) {
	b.Helper()
	_, err := c.Results(b.ctx())
	e, ok := errors.AsType[*resultbackend.JoinError](err)
	if !ok {
		b.Fatalf("Results: %v, want a JoinError", err)
	}
	if e.Exception.Repr() != want {
		b.Errorf("the exception is %s, want %s", e.Exception.Repr(), want)
	}
}

func nestedNonsense(b *chordBench) {
	deep := taskTuple("t")
	for i := range 100 {
		deep = groupTuple(fmt.Sprint(i), deep)
	}
	for i, tuple := range []protocol.Value{
		nil, "g",
		[]protocol.Value{},
		taskTuple("t"), groupTuple(""), groupTuple("g", int64(1)),
		[]protocol.Value{[]protocol.Value{"g", nil}, "x"},
		protocol.ObjectOf(), deep,
	} {
		g := fmt.Sprint("g", i)
		b.must("SaveGroup", b.chords.SaveGroup(b.ctx(), g, tuple))
		b.start(g, 1)
		c := b.count(part(g, "t", int64(0), nil), resultbackend.Claimed)
		if h, err := c.Results(b.ctx()); !isJoinError(err) {
			b.Errorf("record %d: Results = %v, %v; want a JoinError", i, h.Values, err)
		}
	}
}

func isJoinError(err error) bool {
	_, ok := errors.AsType[*resultbackend.JoinError](err)
	return ok
}

func unwritablePart(b *chordBench) {
	b.start("g", 1)
	_, err := b.chords.Count(b.ctx(), part("g", "t", int64(0), struct{ X int }{1}))
	if _, ok := errors.AsType[*protocol.EncodeError](err); !ok {
		b.Errorf("Count: %v, want an EncodeError", err)
	}
	b.results(b.count(part("g", "t", int64(0), "x"), resultbackend.Claimed), "x")
}

func badIndex(b *chordBench) {
	b.start("g", 1)
	for _, index := range []protocol.Value{"0", true, math.NaN(), []protocol.Value{}} {
		_, err := b.chords.Count(b.ctx(), part("g", "t", index, nil))
		if _, ok := errors.AsType[*protocol.EncodeError](err); !ok {
			b.Errorf("Count at %v: %v, want an EncodeError", index, err)
		}
	}
}

func chordsAway(b *chordBench) {
	if b.Away == nil {
		b.Skip("this factory cannot make the store go away")
	}
	b.start("g", 1)
	c := b.count(part("g", "a", int64(0), "a"), resultbackend.Claimed)
	b.Backend.Away(true)
	_, counted := b.chords.Count(b.ctx(), part("g", "a", int64(0), "a"))
	_, results := c.Results(b.ctx())
	for what, err := range map[string]error{
		"Begin": b.chords.Begin(b.ctx(), "g"), "Expect": b.chords.Expect(b.ctx(), "g", 1), "Add": b.chords.Add(b.ctx(), "g", 1),
		"SaveGroup": b.chords.SaveGroup(b.ctx(), "g", taskTuple("t")), "Count": counted, "Results": results,
		"Renew": c.Renew(b.ctx()), "Finish": c.Finish(b.ctx()), "Fail": c.Fail(b.ctx()),
	} {
		if !errors.Is(err, resultbackend.ErrUnavailable) {
			b.Errorf("%s while away: %v, want ErrUnavailable", what, err)
		}
	}
	b.Backend.Away(false)
	deadline := time.Now().Add(b.patience())
	for { // the same claim works again, if not at the first attempt
		err := c.Renew(b.ctx())
		if err == nil {
			break
		}
		if !errors.Is(err, resultbackend.ErrUnavailable) || time.Now().After(deadline) {
			b.Fatalf("Renew after the store came back: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.results(c, "a")
	b.must("Finish", c.Finish(b.ctx()))
}
