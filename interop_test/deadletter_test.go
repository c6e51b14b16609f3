package interop_test

import "testing"

// TestDeadLetters: what a worker gives up goes to the dead-letter exchange of its queue, as it would from Celery's
// worker; a worker that consumes the dead letters runs them, and their retries are messages like any other.
func TestDeadLetters(t *testing.T) {
	for _, kind := range []string{"classic", "quorum"} {
		t.Run(kind, func(t *testing.T) {
			on(t, func(t *testing.T, s setup) {
				queue := unique("letters")
				arguments := map[string]any{"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue + ".dead"}
				s = s.with("task_default_queue", queue).with("task_acks_late", true).with("task_queues", map[string]any{
					queue: map[string]any{"queue_arguments": arguments},
				})
				w := s.shop(t, queue)
				p := s.python(t, queue)
				p.run(`
					DEAD = Q + ".dead"
					with app.connection() as c:
						c.default_channel.queue_declare(DEAD, durable=True, auto_delete=False)
					def reasons():
						with app.connection() as c:
							got = []
							while True:
								m = c.default_channel.basic_get(DEAD, no_ack=True)
								if m is None:
									return got
								got.append((m.headers["task"], m.headers["x-first-death-reason"], m.headers["x-first-death-queue"] == Q, len(m.headers["x-death"])))
					# Reject, and a name that nobody serves
					raises("Reject", None, drop.apply_async(("no",), queue=Q).get, timeout=60)
					raises("NotRegistered", None, app.send_task("shop.nobody", queue=Q).get, timeout=60)
					wait(lambda: left(DEAD) == 2)
					assert sorted(reasons()) == [("shop.drop", "rejected", True, 1), ("shop.nobody", "rejected", True, 1)]
				`)
				w.stop()

				// A failure that is not to be acknowledged is a dead letter as well.
				s2 := s.with("task_acks_on_failure_or_timeout", false)
				w = s2.stalk(t, queue)
				p.run(`
					raises("ValueError", None, fail.apply_async(("boom",), queue=Q).get, timeout=60)
					wait(lambda: left(DEAD) == 1)
					assert reasons() == [("demo.fail", "rejected", True, 1)]
				`)
				w.stop()

				// What expires while no worker is there is run from the queue of the dead letters.
				p.run(`
					late = [add.apply_async((i,), queue=Q, headers={"mine": i}) for i in range(3)]
					again = retry.apply_async((2, 0), queue=Q)
					wait(lambda: left(Q) == 4)
					with app.connection() as c:
						ch = c.default_channel
						ch.queue_declare(Q + ".short", durable=True, auto_delete=False, arguments={"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD})
						n = 0
						while True: # the same messages, byte for byte, into a queue where they expire at once
							m = ch.basic_get(Q, no_ack=True)
							if m is None:
								break
							ch.basic_publish(m, routing_key=Q + ".short")
							n += 1
						assert n == 4
					wait(lambda: left(DEAD) == 4)
				`)
				dead := s.stalk(t, queue+".dead")
				p.run(`
					assert [r.get(timeout=60) for r in late] == [1, 2, 3]
					assert again.get(timeout=60) == 2
					wait(lambda: left(DEAD) == 0)
				`)
				dead.stop()
			}, onRabbitMQ)
		})
	}
}

// TestRetriesLeaveTheirDeathsBehind: RabbitMQ takes a message that it sees die twice in the same place for one that
// goes round in circles, and drops it; so a retry must not inherit how its task came.
func TestRetriesLeaveTheirDeathsBehind(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		queue := unique("deaths")
		p := s.python(t, queue)
		p.run(`
			with app.connection() as c:
				ch = c.default_channel
				ch.queue_declare(Q + ".first", durable=True, auto_delete=False, arguments={"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": Q})
				r = retry.apply_async((1, 600), queue=Q, headers={"mine": 1})
				m = wait(lambda: ch.basic_get(Q, no_ack=True))
				ch.basic_publish(m, routing_key=Q + ".first")
				wait(lambda: left(Q + ".first") == 0)
			wait(lambda: left(Q) == 1)
		`)
		w := s.stalk(t, queue)
		p.run(`wait(lambda: r.state == "RETRY")`)
		w.stop() // the retry, held for its eta, goes back
		p.run(`
			with app.connection() as c:
				m = wait(lambda: c.default_channel.basic_get(Q, no_ack=True))
			assert m.headers["retries"] == 1 and m.headers["mine"] == 1, m.headers
			assert not [k for k in m.headers if k.startswith("x-")], m.headers
		`)
	}, onRabbitMQ)
}
