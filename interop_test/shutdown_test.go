package interop_test

import (
	"os"
	"syscall"
	"testing"
	"time"
)

func TestAWarmShutdownFinishesWhatRunsAndLeavesTheRest(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			onBoth(t, func(t *testing.T, s setup) {
				queue := unique("warm")
				p := s.python(t, queue)
				w := s.stalk(t, queue, "-c", "1")
				p.run(`running = sleep.apply_async((2,), queue=Q)`)
				w.waitLog("received")
				p.run(`
					rest = [add.apply_async((i,), queue=Q) for i in range(10)]
					later = add.apply_async((1,), queue=Q, countdown=3)
				`)
				w.signal(sig)
				if code := w.wait(20 * time.Second); code != 0 {
					t.Errorf("exit code %d, want 0", code)
				}
				p.run(`
					assert running.state == "SUCCESS", running.state
					assert {r.state for r in rest} == {"PENDING"}, [r.state for r in rest]
				`)
				// At once: nothing waits for a lease to run out.
				s.stalk(t, queue)
				p.run(`
					assert [r.get(timeout=10) for r in rest] == list(range(1, 11))
					assert later.get(timeout=10) == 2
				`)
			})
		})
	}
}

func TestASecondSignalGivesTheRunningTaskBack(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("second")
		p := s.python(t, queue)
		w := s.stalk(t, queue, "-c", "1")
		p.run(`running = sleep.apply_async((4,), queue=Q)`)
		w.waitLog("received")
		began := time.Now()
		w.signal(syscall.SIGTERM)
		time.Sleep(300 * time.Millisecond) // two signals at the same moment may be delivered as one
		w.signal(syscall.SIGTERM)
		w.wait(10 * time.Second)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("ended after %v, want before the task would have", took)
		}
		p.run(`assert running.state == "PENDING", running.state`)
		s.stalk(t, queue)
		p.run(`assert running.get(timeout=20) == 4`)
	})
}
