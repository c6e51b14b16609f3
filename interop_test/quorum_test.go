package interop_test

import (
	"testing"
	"time"
)

// TestQuorumQueuesOfTheSettings: whoever is first declares the queue, the other takes it as it is; both workers serve
// it, and priorities, which such a queue does not know, do no harm.
func TestQuorumQueuesOfTheSettings(t *testing.T) {
	for name, settings := range map[string]func(setup, string) setup{
		"task_default_queue_type": func(s setup, queue string) setup {
			return s.with("task_default_queue", queue).with("task_default_queue_type", "quorum")
		},
		"task_queues": func(s setup, queue string) setup {
			return s.with("task_default_queue", queue).with("task_queues", map[string]any{
				queue: map[string]any{"queue_arguments": map[string]any{"x-queue-type": "quorum", "x-delivery-limit": 12}},
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			on(t, func(t *testing.T, s setup) {
				since(t, 5, "workers take from quorum queues, and task_default_queue_type")
				for _, stalkFirst := range []bool{true, false} {
					queue := unique("first")
					s := settings(s, queue).withClient("task_routes", map[string]any{"demo.*": map[string]any{"queue": queue}})
					p := s.python(t, queue)
					if !stalkFirst {
						p.run(`early = add.delay(1)`)
					}
					s.stalk(t, queue)
					if stalkFirst {
						p.run(`early = add.delay(1)`)
					}
					s.celery(t, queue)
					p.run(`
						sent = [sleep.apply_async((0.05,), priority=i % 10) for i in range(20)] + [add.apply_async((i,), countdown=1) for i in range(5)] + [retry.delay(2, 0.2)]
						assert early.get(timeout=60) == 2
						assert [r.get(timeout=60) for r in sent] == [0.05] * 20 + [1, 2, 3, 4, 5] + [2]
						with app.connection() as c: # it is one: declared as another kind it is refused
							raises("PreconditionFailed", None, c.default_channel.queue_declare, Q, durable=True, auto_delete=False)
					`)
				}
			}, onRabbitMQ)
		})
	}
}

// TestRestartsCostNoMessage: tasks that wait in a worker, or were only fetched, outlive more restarts of it than their
// queue's limit of deliveries.
func TestRestartsCostNoMessage(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery's worker loses them")
		}
		queue := unique("restarts")
		s = s.with("task_default_queue", queue).with("task_queues", map[string]any{
			queue: map[string]any{"queue_arguments": map[string]any{"x-queue-type": "quorum", "x-delivery-limit": 5}},
		})
		p := s.python(t, queue)
		p.run(`
			eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=ETA)
			held = [add.apply_async((i,), queue=Q, eta=eta) for i in range(8)]
		`, map[string]any{"ETA": 600})
		for range 7 {
			w := s.stalk(t, queue)
			w.waitLogs("received", 8)
			w.stop()
		}
		p.run(`
			wait(lambda: left(Q) == 8)
			assert not {r.state for r in held} - {"PENDING"}
			assert left(Q + ".quarantine") == 0
		`)
	}, onRabbitMQ)
}

// TestOurLimitIsBelowTheBrokers: a task under which workers die is told to its caller and set aside at the last delivery
// that its queue allows; then looking at it is harmless, and it can be sent back.
func TestOurLimitIsBelowTheBrokers(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("with Celery the broker drops it, and nobody is told")
		}
		queue := unique("limit")
		s = s.with("task_default_queue", queue).with("task_queues", map[string]any{
			queue: map[string]any{"queue_arguments": map[string]any{"x-queue-type": "quorum", "x-delivery-limit": 2}},
		})
		p := s.python(t, queue)
		p.run(`r = sleep.apply_async((300,), queue=Q)`)
		for range 2 {
			w := s.stalk(t, queue)
			w.waitLog("received")
			time.Sleep(100 * time.Millisecond) // its handler has begun; if not, the count is the same
			w.kill()
		}
		w := s.stalk(t, queue)
		p.run(`
			exc = raises("WorkerLostError", None, r.get, timeout=60)
			assert "quarantine" in str(exc), exc
			wait(lambda: left(Q + ".quarantine") == 1)
		`)
		w.stop()
		for range 22 { // more often than RabbitMQ 4 lets a message come back
			if shown := s.commandLine(t, "quarantine", "show", "-Q", queue); shown.code != 0 {
				t.Fatalf("quarantine show: %+v", shown)
			}
		}
		p.run(`wait(lambda: left(Q + ".quarantine") == 1)`)
		if got := s.commandLine(t, "quarantine", "replay", "-Q", queue, "--all"); got.code != 0 || got.out != "Replayed 1 message.\n" {
			t.Errorf("quarantine replay: %+v", got)
		}
		p.run(`wait(lambda: left(Q) == 1)`)
	}, onRabbitMQ)
}
