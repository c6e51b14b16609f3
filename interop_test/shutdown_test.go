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
				p.run(`running = sleep.apply_async((5,), queue=Q)`)
				w.waitLog("received")
				p.run(`
					rest = [add.apply_async((i,), queue=Q) for i in range(10)]
					later = add.apply_async((1,), queue=Q, countdown=3)
				`)
				w.signal(sig)
				if code := w.wait(40 * time.Second); code != 0 {
					t.Errorf("exit code %d, want 0", code)
				}
				p.run(`
					assert running.state == "SUCCESS", running.state
					assert {r.state for r in rest} == {"PENDING"}, [r.state for r in rest]
				`)
				// At once: nothing waits for a lease to run out.
				s.stalk(t, queue)
				p.run(`
					assert [r.get(timeout=40) for r in rest] == list(range(1, 11))
					assert later.get(timeout=40) == 2
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
		p.run(`running = sleep.apply_async((8,), queue=Q)`)
		w.waitLog("received")
		w.signal(syscall.SIGTERM)
		w.waitLog("Warm shutdown") // two signals at the same moment may be delivered as one
		w.signal(syscall.SIGTERM)
		w.wait(40 * time.Second)
		if countLog(w, "succeeded in") != 0 {
			t.Error("the second signal did not end the worker before its task")
		}
		p.run(`assert running.state == "PENDING", running.state`)
		s.stalk(t, queue)
		p.run(`assert running.get(timeout=40) == 8`)
	})
}
