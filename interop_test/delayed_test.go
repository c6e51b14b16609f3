package interop_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// onQuorum is a project whose only queue is a quorum queue behind a topic exchange, as Celery's own documentation
// wants it for delayed delivery.
func onQuorum(queue string) setup {
	return onRabbitMQ().with("task_queues", map[string]any{queue: map[string]any{
		"exchange": queue + ".x", "exchange_type": "topic", "routing_key": queue, "queue_arguments": map[string]any{"x-queue-type": "quorum"},
	}}).with("task_default_queue", queue).withClient("task_routes", map[string]any{"demo.*": map[string]any{"queue": queue}})
}

// spying binds a queue of its own to what goes to the delay exchanges for a routing key, and reads it.
const spying = `
	def channel(do):
		with app.connection() as c:
			return do(c.default_channel)
	def spy(key):
		name = "spy-" + str(uuid.uuid4())
		channel(lambda ch: (ch.queue_declare(name, durable=True, auto_delete=False), ch.queue_bind(name, "celery_delayed_27", "#." + key)))
		return name
	def seen(name):
		def read(ch):
			got = []
			while True:
				m = ch.basic_get(name, no_ack=True)
				if m is None:
					return got
				got.append(m)
		return channel(read)
	def forget(*names):
		channel(lambda ch: [ch.queue_delete(name) for name in names])
`

// TestDelayedDeliveryBothWays: a Stalk worker alone sets up what Python publishers need, runs what they delay, and
// delays its retries and follow-ups itself.
func TestDelayedDeliveryBothWays(t *testing.T) {
	on(t, func(t *testing.T, _ setup) {
		since(t, 5, "native delayed delivery")
		queue := unique("delayed")
		s := onQuorum(queue)
		s.stalk(t, queue)
		p := s.python(t, queue)
		p.run(spying)
		p.run(`
			watch = spy(Q)
			def timed(send, least):
				began = time.monotonic()
				value = send().get(timeout=60)
				assert time.monotonic() - began > least, time.monotonic() - began
				return value
			assert timed(lambda: add.apply_async((1, 2), countdown=2), 1.7) == 3
			assert [m.delivery_info["routing_key"][-8-len(Q):] for m in seen(watch)] == ["0.0.1.0." + Q]
		`)
		// Its own: two retries, a link and a step of a chain, none of which grows another prefix.
		p.run(`
			assert timed(lambda: retry.apply_async((2, 1), countdown=1), 2.5) == 2
			got = seen(watch)
			assert [(m.delivery_info["exchange"], m.delivery_info["routing_key"]) for m in got] == [("celery_delayed_27", "0." * 27 + "1." + Q)] * 3, got
			assert [m.headers["retries"] for m in got] == [0, 1, 2]
			assert not [k for m in got for k in m.headers if k.startswith("x-")], got
			assert timed(lambda: (add.s(1, 1) | add.s(10).set(countdown=2)).apply_async(countdown=1), 2.2) == 12
			assert [m.delivery_info["routing_key"][-4-len(Q):] for m in seen(watch)] == ["0.1." + Q, "1.0." + Q]
			linked = str(uuid.uuid4())
			add.apply_async((1, 1), link=add.s(5).set(countdown=1, task_id=linked))
			assert AsyncResult(linked).get(timeout=60) == 7
			assert len(seen(watch)) == 1
			forget(watch)
		`)
	}, onRabbitMQ)
}

// TestDelayedMessagesAreBytesOfCelery compares what both workers publish to the delay exchanges for the same retries.
func TestDelayedMessagesAreBytesOfCelery(t *testing.T) {
	on(t, func(t *testing.T, _ setup) {
		since(t, 5, "native delayed delivery")
		queue := unique("bytes")
		s := onQuorum(queue)
		var published [2]json.RawMessage
		for i, start := range []func(*testing.T, string, ...string) *worker{s.celery, s.stalk} {
			w := start(t, queue)
			p := s.python(t, queue)
			p.run(spying)
			published[i] = p.run(`
				watch = spy(Q)
				r = retry.apply_async((2, 1), headers={"mine": 1}, priority=3, expires=600)
				assert r.get(timeout=60) == 2
				def fields(m):
					h = dict(m.headers)
					assert h.pop("origin") and h.pop("eta") and h.pop("id") == h.pop("root_id") == h.pop("parent_id") == r.id and h.pop("expires")
					props = dict(m.properties)
					assert props.pop("correlation_id") == r.id and props.pop("reply_to") and 590000 < int(props.pop("expiration")) < 600001
					props.pop("application_headers", None)
					return [m.delivery_info["exchange"], m.delivery_info["routing_key"], sorted(h.items()), sorted(props.items()), m.body if isinstance(m.body, str) else m.body.decode()]
				value = [fields(m) for m in seen(watch)]
				assert len(value) == 2, value
				forget(watch)
			`)
			w.stop()
		}
		if diff := cmp.Diff(string(published[0]), string(published[1])); diff != "" {
			t.Errorf("Celery (-) and Stalk (+) publish differently:\n%s", diff)
		}
	}, onRabbitMQ)
}

// TestKombuFindsItsDelayExchanges: what a Stalk worker has declared is what Kombu would declare, for Kombu can declare
// it again; and the other way round.
func TestKombuFindsItsDelayExchanges(t *testing.T) {
	on(t, func(t *testing.T, _ setup) {
		since(t, 5, "native delayed delivery")
		queue := unique("declared")
		s := onQuorum(queue)
		w := s.stalk(t, queue)
		p := s.python(t, queue)
		p.run(`
			from kombu.transport import native_delayed_delivery as native
			with app.connection() as c:
				native.declare_native_delayed_delivery_exchanges_and_queues(c, "quorum")
				for q in app.amqp.queues.values():
					native.bind_queue_to_native_delayed_delivery_exchange(c, q)
		`)
		w.stop()
		other := s.stalk(t, queue)
		p.run(`assert add.apply_async((1,), countdown=1).get(timeout=60) == 2`)
		other.stop()
	}, onRabbitMQ)
}
