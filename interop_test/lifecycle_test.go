package interop_test

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPurgeAtTheStart passes on Celery's own worker, too.
func TestPurgeAtTheStart(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("purge")
		p := s.python(t, queue)
		p.run(`old = [add.apply_async((i,), queue=Q) for i in range(3)]`)
		w := s.stalk(t, queue, "--purge")
		if !strings.Contains(string(w.output()), "purge: Erased 3 messages from the queue.\n\n") {
			t.Errorf("nothing is said about the purge:\n%s", w.output())
		}
		p.run(`
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			assert {r.state for r in old} == {"PENDING"}
		`)
		w.stop()
		again := s.stalk(t, queue, "--discard")
		if strings.Contains(string(again.output()), "Erased") {
			t.Error("an empty queue is worth a line")
		}
		again.stop()
	})
}

// TestAQueueOfTheNodeAlone: worker_direct, sent to as Celery's own worker_direct() says. It passes on Celery's worker, too.
func TestAQueueOfTheNodeAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("direct")
		p := s.python(t, queue)
		s = s.with("worker_direct", true)
		w, other := s.stalk(t, queue), s.stalk(t, queue)
		p.run(`
			from celery.utils.nodenames import worker_direct
			sent = [add.apply_async((i,), queue=worker_direct(NODE)) for i in range(20)]
			assert [r.get(timeout=60) for r in sent] == list(range(1, 21))
			rows = app.control.inspect(destination=[NODE], timeout=60).active_queues()[NODE]
			row = {r["name"]: r for r in rows}[NODE + ".dq2"]
			assert (row["exchange"]["name"], row["exchange"]["type"], row["routing_key"]) == ("C.dq2", "direct", NODE), row
		`, map[string]any{"NODE": w.name + "@test"})
		if countLog(other, "received") != 0 {
			t.Error("another node ran what was for this one")
		}
		w.stop()
		other.stop()
		p.run(`
			with app.connection() as c:
				for node in NODES:
					c.default_channel.queue_delete(node + ".dq2")
		`, map[string]any{"NODES": []string{w.name + "@test", other.name + "@test"}})
	})
}

// TestPrefetchCountsAsCelerys: what inspect stats says, and that no more is taken. It passes on Celery's worker, too.
func TestPrefetchCountsAsCelerys(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings map[string]any
		flags    []string
		etas     int
		want     int
	}{
		{"concurrency times multiplier", map[string]any{"worker_prefetch_multiplier": 3}, []string{"-c", "2"}, 0, 6},
		{"the flag wins", map[string]any{"worker_prefetch_multiplier": 3}, []string{"-c", "2", "--prefetch-multiplier", "2"}, 0, 4},
		{"0 is without limit", map[string]any{"worker_prefetch_multiplier": 0}, []string{"-c", "2"}, 0, 0},
		{"one more for each eta", map[string]any{"worker_prefetch_multiplier": 2}, []string{"-c", "2"}, 7, 11},
		{"up to their limit", map[string]any{"worker_prefetch_multiplier": 2, "worker_eta_task_limit": 6}, []string{"-c", "2"}, 5, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s setup) {
				queue := unique("prefetch")
				p := s.python(t, queue)
				for name, v := range tt.settings {
					s = s.with(name, v)
				}
				w := s.stalk(t, queue, tt.flags...)
				p.run(`
					later = [add.apply_async((i,), queue=Q, countdown=3600) for i in range(ETAS)]
					i = app.control.inspect(destination=[NODE], timeout=60)
					wait(lambda: len(i.scheduled()[NODE]) == ETAS, 40)
					wait(lambda: i.stats()[NODE]["prefetch_count"] == WANT, 40)
				`, map[string]any{"NODE": w.name + "@test", "ETAS": tt.etas, "WANT": tt.want})
				w.stop()
				p.run(`
					with app.connection() as c:
						c.default_channel.queue_delete(Q)
				`)
			})
		})
	}
}

// TestAWorkerTakesNoMoreThanItsPrefetch: what comes while it is busy is done by others, also when it holds a task for
// its eta.
func TestAWorkerTakesNoMoreThanItsPrefetch(t *testing.T) {
	if celeryInstead {
		t.Skip("Celery adds one for the message that is on its way to the pool")
	}
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("fair")
		p := s.python(t, queue)
		w := s.stalk(t, queue, "-c", "1", "worker_prefetch_multiplier=1")
		p.run(`
			later = add.apply_async((1,), queue=Q, countdown=3600)
			running = sleep.apply_async((600,), queue=Q)
		`)
		w.waitLogs("received", 2)
		w.waitActive(p)
		p.run(`rest = [add.apply_async((i,), queue=Q) for i in range(10)]`)
		other := s.stalk(t, queue, "-c", "1")
		p.run(`assert [r.get(timeout=60) for r in rest] == list(range(1, 11))`)
		other.stop()
		w.signal(syscall.SIGQUIT)
		w.wait(90 * time.Second)
		p.run(`
			with app.connection() as c:
				c.default_channel.queue_delete(Q)
		`)
	})
}
