package memresult_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/resultbackend/resultbackendtest"
)

func TestChords(t *testing.T) {
	resultbackendtest.RunChords(t, func(t *testing.T) resultbackendtest.Backend {
		b := memresult.New()
		return resultbackendtest.Backend{Backend: b, Away: b.Away, Lapse: b.Lapse}
	})
}

// A claim lapses by itself: after 6 s, and 30 s after it was renewed. A finished chord is known for 300 s.
func TestClaimTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memresult.New()
		count := func(want resultbackend.TallyState) resultbackend.Claim {
			t.Helper()
			tally, err := b.Count(t.Context(), resultbackend.Member{GroupID: "g", TaskID: "t", State: protocol.Success})
			if err != nil || tally.State != want {
				t.Fatalf("Count = %v, %v; want %v", tally.State, err, want)
			}
			return tally.Claim
		}
		if err := b.Expect(t.Context(), "g", 1); err != nil {
			t.Fatal(err)
		}
		count(resultbackend.Claimed)
		time.Sleep(6*time.Second - 1)
		count(resultbackend.Busy)
		time.Sleep(time.Nanosecond)
		c := count(resultbackend.Claimed)
		if err := c.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30*time.Second - 1)
		count(resultbackend.Busy)
		if err := c.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300*time.Second - 1)
		count(resultbackend.Finished)
		time.Sleep(time.Nanosecond)
		count(resultbackend.Open)
	})
}

// The tasks inside of groups may take a minute, and the claim is kept meanwhile.
func TestClaimWhileJoining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memresult.New()
		tuple := func(id string, members protocol.Value) protocol.Value {
			return []protocol.Value{[]protocol.Value{id, nil}, members}
		}
		header := tuple("g", []protocol.Value{tuple("h", []protocol.Value{tuple("late", nil)})})
		if err := errors.Join(b.SaveGroup(t.Context(), "g", header), b.Expect(t.Context(), "g", 1)); err != nil {
			t.Fatal(err)
		}
		part := resultbackend.Member{GroupID: "g", TaskID: "t", State: protocol.Success}
		tally, err := b.Count(t.Context(), part)
		if err != nil || tally.State != resultbackend.Claimed {
			t.Fatalf("Count = %v, %v", tally.State, err)
		}
		go func() {
			for range 59 {
				time.Sleep(time.Second)
				if other, err := b.Count(t.Context(), part); err != nil || other.State != resultbackend.Busy {
					t.Errorf("meanwhile Count = %v, %v", other.State, err)
				}
			}
			_ = b.Store(t.Context(), resultbackend.Record{Result: protocol.Result{TaskID: "late", Status: protocol.Success, Value: "x"}})
		}()
		began := time.Now()
		h, err := tally.Claim.Results(t.Context())
		if err != nil || fmt.Sprint(h.Values) != "[[x]]" || time.Since(began) != 59*time.Second {
			t.Errorf("Results = %v, %v after %v", h.Values, err, time.Since(began))
		}
	})
}
