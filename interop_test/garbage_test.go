package interop_test

import (
	"path/filepath"
	"testing"
)

func TestGarbageIsQuarantinedAndTheNextTaskAnswered(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		on(t, func(t *testing.T, s setup) {
			queue := unique("garbage")
			s.stalk(t, queue)
			s.python(t, queue).run(`
				import json, base64
				client = app.backend.client
				def envelope(body=b"[[1], {}, {}]", headers=None, **more):
				    message = {"body": base64.b64encode(body).decode(), "content-encoding": "utf-8", "content-type": "application/json",
				               "headers": headers if headers is not None else {}, "properties": {"body_encoding": "base64", "delivery_tag": str(uuid.uuid4()),
				               "delivery_info": {"exchange": "", "routing_key": Q}}}
				    message.update(more)
				    return json.dumps(message).encode()
				garbage = [
				    b"", b"\x00\xff\xfe", b"null", b"[]", b"17", b"{}", b"{", b'"text"', b"[" * 100000, b'{"body": 1}',
				    envelope(), envelope(headers=[]), envelope(properties=None), envelope(body=b"not json", headers={"task": "demo.add"}),
				    envelope(headers={"task": 5, "id": 6}),
				]
				for g in garbage:
				    client.lpush(Q, g)
				good = add.apply_async((1,), queue=Q)
				assert good.get(timeout=60) == 2
				wait(lambda: client.llen(Q + ".quarantine") == len(garbage))
				kept = set(client.lrange(Q + ".quarantine", 0, -1))
				missing = [g[:200] for g in garbage if g not in kept]
				assert not missing, "not byte for byte in the quarantine: %r" % missing
				wait(lambda: client.llen(Q) == 0)
			`)
		}, onRedis)
	})
	t.Run("rabbitmq", func(t *testing.T) {
		on(t, func(t *testing.T, s setup) {
			queue := unique("garbage")
			s.stalk(t, queue)
			s.python(t, queue).run(`
				import amqp
				from urllib.parse import urlparse
				url = urlparse(app.conf.broker_url)
				connection = amqp.Connection("%s:%s" % (url.hostname, url.port), userid=url.username, password=url.password)
				connection.connect()
				channel = connection.channel()
				channel.queue_declare(Q, durable=True, auto_delete=False)
				deep = current = {}
				for i in range(50):
				    current["x"] = {}
				    current = current["x"]
				garbage = [
				    (b"", {}), (b"\xff\xfe", {"content_type": "application/json", "content_encoding": "utf-8"}), (b"null", {"content_type": "application/json"}),
				    (b"[[1], {}, {}]", {"content_type": "application/json"}), (b"{}", {"content_type": "application/json", "application_headers": {}}),
				    (b"[" * 100000, {"content_type": "application/json", "application_headers": {"task": "demo.add"}}),
				    (b"[[1], {}, {}]", {"content_type": "application/json", "application_headers": {"task": 5, "id": {}}}),
				    (b"hello", {"content_type": "text/plain", "application_headers": deep}),
				]
				for body, properties in garbage:
				    channel.basic_publish(amqp.Message(body, **properties), exchange="", routing_key=Q)
				good = add.apply_async((1,), queue=Q)
				assert good.get(timeout=60) == 2
				kept = []
				def fetched():
				    # Before the first message is quarantined the queue may not be there.
				    channel.queue_declare(Q + ".quarantine", durable=True, auto_delete=False)
				    while (m := channel.basic_get(Q + ".quarantine")) is not None:
				        kept.append(m.body if isinstance(m.body, bytes) else m.body.encode())
				    return len(kept) >= len(garbage)
				wait(fetched)
				assert sorted(kept) == sorted(body for body, _ in garbage), kept
			`)
		}, onRabbitMQ)
	})
}

func TestPickleIsRefusedKeptAndToldToItsCaller(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery drops the message and tells nobody")
		}
		queue, proof := unique("pickle"), filepath.Join(t.TempDir(), "executed")
		w := s.stalk(t, queue)
		p := s.python(t, queue)
		p.run(`
			import base64, json, pickle
			class Evil:
			    def __reduce__(self):
			        return (open, (proof, "w"))
			refused = app.send_task("demo.echo", (Evil(),), queue=Q, serializer="pickle")
			good = add.apply_async((1,), queue=Q)
			exc = raises("ContentDisallowed", None, refused.get, timeout=60)
			assert refused.state == "FAILURE"
			for word in ("demo.echo", "pickle", "task_serializer", "accept_content"):
			    assert word in str(exc), "%r does not name %s" % (exc, word)
			assert good.get(timeout=60) == 2

			import os
			def kept():
			    with app.connection_for_read() as connection:
			        channel = connection.default_channel
			        # Before the message is there the queue may not be.
			        channel.queue_declare(Q + ".quarantine", durable=True, auto_delete=False)
			        return channel.basic_get(Q + ".quarantine")
			message = wait(kept)
			assert message.headers["id"] == refused.id and message.headers["task"] == "demo.echo", message.headers
			assert message.content_type == "application/x-python-serialize", message.content_type
			body = message.body if isinstance(message.body, bytes) else message.body.encode()
			assert not os.path.exists(proof), "the pickle was executed"
			pickle.loads(body) # the message is whole: this executes it
			assert os.path.exists(proof)
		`, map[string]any{"proof": proof})
		w.waitLog("demo.echo")
		w.waitLog("accept_content")
	})
}
