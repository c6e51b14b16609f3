package worker

import (
	"testing"
	"testing/synctest"
	"time"
)

func (p *pace) runs(n int, took time.Duration) {
	for range n {
		p.ran(took, true)
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
			lone.ran(10*time.Microsecond, false) // one after the other: nothing waits
		}
		wantPace(t, lone, 4)
		p.runs(1000, 5*time.Millisecond)
		wantPace(t, p, 4)
		p.runs(1000, time.Millisecond)
		wantPace(t, p, 16)
		p.runs(1000, 10*time.Microsecond)
		wantPace(t, p, 64)
		p.ran(8*time.Millisecond, true) // somebody else had the CPU
		wantPace(t, p, 64)
		p.runs(1000, 3*time.Millisecond)
		wantPace(t, p, 8)
		p.runs(1000, 10*time.Microsecond)
		wantPace(t, p, 64)
		p.ran(time.Second, true)
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

// TestAnOrderedPrefetchIsExact: who says how many messages are to be taken gets these.
func TestAnOrderedPrefetchIsExact(t *testing.T) {
	for prefetch, want := range map[int]int{1: 1, 4: 4, 100: 100, -1: -1} {
		p := newPace(prefetch, 0)
		p.runs(1000, time.Microsecond)
		p.stalled()
		wantPace(t, p, want)
	}
}
