package worker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

func (p *pace) runs(n int, took time.Duration) {
	for range n {
		p.ran(took, 100, 2, true)
	}
}

func wantPace(t *testing.T, p *pace, want int) {
	t.Helper()
	if n := p.perSlot(); n != want {
		t.Errorf("%d messages per slot, want %d (mean %v)", n, want, p.mean)
	}
}

// TestThePaceFollowsTheTasks: short tasks make it grow, one long task among them makes it fall, and long tasks that come again
// and again keep it down for longer each time.
func TestThePaceFollowsTheTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(4, 64)
		wantPace(t, p, 4)
		lone := newPace(4, 64)
		for range 1000 {
			lone.ran(10*time.Microsecond, 100, 2, false) // one after the other: nothing waits
		}
		wantPace(t, lone, 4)
		p.runs(1000, 5*time.Millisecond)
		wantPace(t, p, 4)
		p.runs(1000, time.Millisecond)
		wantPace(t, p, 16)
		p.runs(1000, 10*time.Microsecond)
		wantPace(t, p, 64)
		p.ran(8*time.Millisecond, 100, 2, true) // somebody else had the CPU
		wantPace(t, p, 64)
		p.runs(1000, 3*time.Millisecond)
		wantPace(t, p, 8)
		p.runs(1000, 10*time.Microsecond)
		wantPace(t, p, 64)
		p.ran(time.Second, 100, 2, true)
		wantPace(t, p, 4)

		p.runs(1000, 10*time.Microsecond)
		wantPace(t, p, 4) // still calm
		time.Sleep(1100 * time.Millisecond)
		p.runs(1000, 10*time.Microsecond)
		wantPace(t, p, 64)
		p.stalled()
		wantPace(t, p, 4)
		time.Sleep(1100 * time.Millisecond)
		p.runs(1000, 10*time.Microsecond)
		wantPace(t, p, 4) // for twice as long
		time.Sleep(time.Second)
		p.runs(1000, 10*time.Microsecond)
		wantPace(t, p, 64)

		time.Sleep(time.Hour) // all is forgiven
		p.stalled()
		p.runs(1000, 10*time.Microsecond)
		time.Sleep(1100 * time.Millisecond)
		p.runs(1000, 10*time.Microsecond)
		wantPace(t, p, 64)
	})
}

// TestThePaceIsBoundedInBytes: what it allows beyond the multiplier has room in aheadBytes, and comes back when messages are small again.
func TestThePaceIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(4, 64)
		runs := func(n, bytes, slots int) {
			for range n {
				p.ran(10*time.Microsecond, bytes, slots, true)
			}
			time.Sleep(2 * calmBase)
		}
		runs(1000, 50_000, 2)
		wantPace(t, p, 64)
		runs(1000, 1<<20, 2)
		wantPace(t, p, 8)
		runs(1000, 1<<20, 16)
		wantPace(t, p, 4)
		runs(1000, 50_000, 2)
		wantPace(t, p, 64)
		large := newPace(4, 64)
		for range 1000 {
			large.ran(10*time.Microsecond, 10<<20, 2, true)
		}
		wantPace(t, large, 4)
		for range 100 { // some large ones among small ones do no harm
			runs(15, 1000, 2)
			runs(1, 200_000, 2)
			wantPace(t, p, 64)
		}
	})
}

// TestWeight: near enough, and quick whatever is in it.
func TestWeight(t *testing.T) {
	many := make([]protocol.Value, 1_000_000)
	for i := range many {
		many[i] = strings.Repeat("x", 100)
	}
	nested := protocol.Value(strings.Repeat("x", 5000))
	for range 100 {
		nested = protocol.ObjectOf(protocol.Member{Key: "k", Value: []protocol.Value{nested}})
	}
	for name, tt := range map[string]struct {
		v           protocol.Value
		least, most int
	}{
		"nothing": {nil, 0, 20},
		"number":  {int64(1), 0, 20},
		"text":    {strings.Repeat("x", 1<<20), 1 << 20, 1<<20 + 50},
		"bytes":   {make([]byte, 1000), 1000, 1050},
		"list":    {many, 95 << 20, 130 << 20},
		"deep":    {nested, 5000, 10000},
		"object":  {protocol.ObjectOf(protocol.Member{Key: "a", Value: strings.Repeat("x", 500)}, protocol.Member{Key: "b", Value: many[:10]}), 1500, 2000},
	} {
		if n := weight(tt.v); n < tt.least || n > tt.most {
			t.Errorf("%s: %d bytes, want %d to %d", name, n, tt.least, tt.most)
		}
	}
}

// TestAnOrderedPrefetchIsExact: who says how many messages are to be taken gets these.
func TestAnOrderedPrefetchIsExact(t *testing.T) {
	for prefetch, want := range map[int]int{1: 1, 4: 4, 100: 100, -1: -1} {
		p := newPace(prefetch, 0)
		p.runs(1000, time.Microsecond)
		p.stalled()
		wantPace(t, p, want)
	}
}
