package interop_test

import (
	"syscall"
	"testing"
	"time"
)

func TestAWarmShutdownFinishesWhatRunsAndLeavesTheRest(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 0, syscall.SIGINT: 1} {
		t.Run(sig.String(), func(t *testing.T) {
			onBoth(t, func(t *testing.T, s setup) {
				queue := unique("warm")
				p := s.python(t, queue)
				w := s.stalk(t, queue, "-c", "1")
				p.run(`
					running = sleep.apply_async((5,), queue=Q)
					rest = [add.apply_async((i,), queue=Q) for i in range(10)]
					later = add.apply_async((1,), queue=Q, countdown=3)
				`)
				w.waitActive(p)
				w.signal(sig)
				if got := w.wait(90 * time.Second); got != code {
					t.Errorf("exit code %d, want %d", got, code)
				}
				p.run(`
					assert running.state == "SUCCESS", running.state
					assert {r.state for r in rest} == {"PENDING"}, [r.state for r in rest]
				`)
				// At once: nothing waits for a lease to run out.
				s.stalk(t, queue)
				p.run(`
					assert [r.get(timeout=60) for r in rest] == list(range(1, 11))
					assert later.get(timeout=60) == 2
				`)
			})
		})
	}
}
