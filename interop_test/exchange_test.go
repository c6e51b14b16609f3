package interop_test

import "testing"

// A Celery 5.7 worker deletes binding tables whose deadline has passed and which nobody has pinned. Stalk
// pins those it needs, or messages published to the exchange would vanish in silence.
func TestATopicBindingSurvivesTheSweepOfAPythonWorker(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		since(t, 7, "binding tables have deadlines, and workers sweep them")
		queue, exchange := unique("topic"), unique("exchange")
		s = s.with("task_queues", map[string]any{
			queue: map[string]any{"exchange": exchange, "exchange_type": "topic", "routing_key": "orders.*.eu"},
		})
		s.stalk(t, queue)
		p := setup{name: s.name, broker: s.broker, backend: s.backend}.python(t, queue)
		p.args["E"] = exchange
		p.run(`
			from kombu import Exchange
			def publish(key):
			    "Through the exchange alone: nothing here declares a queue or binds one."
			    message = app.amqp.as_task_v2(str(uuid.uuid4()), "demo.add", (1, 2), {})
			    with app.connection_for_write() as connection:
			        topic = Exchange(E, type="topic", durable=True)(connection.default_channel)
			        topic.declare()
			        app.amqp.Producer(connection.default_channel).publish(message.body, exchange=topic, routing_key=key, serializer="json",
			            headers=message.headers, **message.properties)
			    return AsyncResult(message.headers["id"])
			assert publish("orders.new.eu").get(timeout=60) == 3

			client = app.backend.client
			assert client.smembers("_kombu.binding." + E) == client.smembers("_kombu.binding_permanent." + E) != set()
			# Both deadlines have passed; only one table is pinned.
			client.sadd("_kombu.binding.loose-" + E, "a\x06\x16\x06\x16q")
			client.zadd("_kombu.binding_deadlines", {E: 1, "loose-" + E: 1})
		`)
		s.celery(t, unique("other"))
		p.run(`
			wait(lambda: not client.exists("_kombu.binding.loose-" + E), 90)
			wait(lambda: client.zscore("_kombu.binding_deadlines", E) is None)
			assert publish("orders.old.eu").get(timeout=60) == 3
		`)
	}, onRedis)
}

func TestATopicExchangeOnRabbitMQ(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		queue, exchange := unique("topic"), unique("exchange")
		s = s.with("task_queues", map[string]any{
			queue: map[string]any{"exchange": exchange, "exchange_type": "topic", "routing_key": "orders.#"},
		})
		s.stalk(t, queue) // makes the queue and its binding, as Celery's worker would
		s.python(t, queue).run(`
			r = app.send_task("demo.retry", (1,), exchange=E, exchange_type="topic", routing_key="orders.new.eu")
			assert r.get(timeout=60) == 1
		`, map[string]any{"E": exchange})
	}, onRabbitMQ)
}
