package memresult_test

import (
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
		time.Sleep(1)
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
		time.Sleep(1)
		count(resultbackend.Open)
	})
}
