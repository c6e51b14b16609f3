"""Malformed remote control messages and events, thrown at one worker: for interop_test/controlgarbage_test.go.

The worker under attack has control and event exchanges of its own: of these messages some end a Python worker.
"""
import base64
import gzip
import json
import pickle
import random
import time
import uuid
import zlib
from urllib.parse import urlparse

import amqp

DEEP = "[" * 5000 + "]" * 5000
VALUES = [None, 0, -1, 1.5, True, "", "x", "x" * 100_000, [], [1], ["x", None], [[]], {}, {"a": 1}, {"exchange": "x"}, 10 ** 30, "\u0000", "\ud83d\ude00", "\ud800"]
COMMANDS = [
    "ping", "active", "dump_active", "reserved", "scheduled", "revoked", "registered", "stats", "conf", "query_task", "active_queues", "clock", "report", "hello",
    "memsample", "memdump", "objgraph", "revoke", "terminate", "revoke_by_stamped_headers", "rate_limit", "time_limit", "enable_events", "disable_events", "heartbeat",
    "cancel_consumer", "pool_restart", "autoscale", "election",
]
KEYS = {
    "revoke": ["task_id", "signal"], "terminate": ["task_id", "signal"], "query_task": ["ids"], "registered": ["taskinfoitems"], "hello": ["from_node", "revoked"],
    "revoke_by_stamped_headers": ["headers"], "rate_limit": ["task_name", "rate_limit"], "time_limit": ["task_name", "soft", "hard"],
    "autoscale": ["max", "min"], "election": ["id", "topic", "action"], "cancel_consumer": ["queue"],
}


def command(**change):
    """A good one, with something changed."""
    body = {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None, "ticket": str(uuid.uuid4()),
            "reply_to": {"exchange": "reply.nobody.pidbox", "routing_key": "nobody"}}
    body.update(change)
    return json.dumps(body).encode()


def messages(node, exchange, other):
    """Body and properties of every malformed message. other is an exchange of another type."""
    good = command()
    for body in (
        b"", b" ", b"null", b"true", b"17", b"1e999", b'"ping"', b"[]", b"[{}]", b"{", b"}", b"{}", b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"NaN", b'{"method": NaN}', b"{'method': 'ping'}",
        DEEP.encode(), b"[" * 100_000, b'{"a":' * 50_000, b'{"method": "ping", "arguments": ' + DEEP.encode() + b"}", b'{"method": ' + DEEP.encode() + b"}",
        b'{"method": "ping", "method": 1}', good[:-1], good + good, good.replace(b"ping", b"p\x00ng"), b'{"method": "p\\ud800"}', b"x" * 3_000_000,
        command(arguments={"x": "y" * 4_000_000}), command(method="z" * 1_000_000), command(arguments={str(i): i for i in range(100_000)}),
        command(destination=["x"] * 200_000), command(destination=[node] * 1000), json.dumps({"method": "ping", **{str(i): None for i in range(50_000)}}).encode(),
    ):
        yield body, {}
    for content_type in (None, "", "text/plain", "application/json; charset=utf-8", "Application/JSON", "application/x-yaml", "application/x-msgpack", "application/data", "x" * 200, "application/octet-stream"):
        yield good, {"content_type": content_type}
    yield pickle.dumps({"method": "ping"}), {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
    yield b"cos\nsystem\n(S'true'\ntR.", {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
    yield b"a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d]\nf: [*e,*e,*e,*e]\n", {"content_type": "application/x-yaml"}
    yield b"!!python/object/apply:os.system ['true']", {"content_type": "application/x-yaml"}
    yield b"\xdf\xff\xff\xff\xff", {"content_type": "application/x-msgpack", "content_encoding": "binary"}
    yield b"\xc1", {"content_type": "application/x-msgpack", "content_encoding": "binary"}
    for encoding in (None, "", "utf-16", "binary", "latin-1", "nonsense", "ascii"):
        yield good, {"content_encoding": encoding}
    for compression in ("gzip", "application/x-gzip", "bzip2", "zstd", "nonsense", "", 5):
        yield good, {"headers": {"compression": compression}}
    yield zlib.compress(b"[" * 50_000_000, 9), {"headers": {"compression": "application/x-gzip"}}
    yield gzip.compress(good), {"headers": {"compression": "application/x-gzip"}}
    for key in ("method", "arguments", "destination", "pattern", "matcher", "ticket", "reply_to"):
        body = json.loads(good)
        del body[key]
        yield json.dumps(body).encode(), {}
        for value in VALUES:
            yield command(**{key: value}), {}
    for matcher, pattern in (
        ("glob", "*" * 3000 + "x"), ("glob", "["), ("glob", "[!" * 500), ("glob", "[z-a]"), ("glob", "\\"), ("pcre", "(a+)+$"), ("pcre", "(((((" * 100), ("pcre", "(?P<x>"),
        ("pcre", "(a{1000}){1000}"), ("pcre", "\\"), ("pcre", "(?=x)"), ("pcre", "(x)\\1"), ("pcre", "(?:" * 1000 + ")" * 1000), ("pcre", "a" * 100_000), ("pcre", ".*" * 2000),
        ("nonsense", "x"), ("PCRE", "x"), ("glob" * 10_000, "x"),
    ):
        yield command(matcher=matcher, pattern=pattern), {}
    for clock in ("x", "5", -5, 2 ** 63 - 1, -2 ** 63, 1e308, -0.5, None, [], {}, True, [1, "x"]):
        yield good, {"headers": {"clock": clock, "expires": 0}}
    for expires in ("x", -1, 1e300, None, [], {}, 1.0):
        yield good, {"headers": {"clock": 1, "expires": expires}}
    for headers in ({"id": 5, "task": {}}, {"x" * 200: "y" * 10_000}, {str(i): i for i in range(1000)}, {"a": {"b": {"c": {"d": [1, [2, [3, [4]]]]}}}}):
        yield good, {"headers": headers}
    for reply_to in (
        {"exchange": "", "routing_key": "nobody"}, {"exchange": "nosuch", "routing_key": "x"}, {"exchange": other, "routing_key": "x"}, {"exchange": other, "routing_key": ""},
        {"exchange": exchange, "routing_key": ""}, {"exchange": "amq.direct", "routing_key": "x"}, {"exchange": "amq.topic", "routing_key": "x"}, {"exchange": "amq.nosuch", "routing_key": "x"},
        {"exchange": "a b\nc", "routing_key": "x"}, {"exchange": "h\u00e5", "routing_key": "\u00e5"}, {"exchange": "x" * 300, "routing_key": "x"}, {"exchange": "x", "routing_key": "y" * 300},
        {"exchange": None, "routing_key": None}, {"exchange": 5, "routing_key": "x"}, {"exchange": "x", "routing_key": []}, {"routing_key": "x"}, {"exchange": "x"}, {"exchange": ["x"], "routing_key": {}},
        {"exchange": "nosuch", "routing_key": "x", "more": DEEP[:50]}, {"exchange": "\u0000", "routing_key": "\u0000"},
    ):
        yield command(reply_to=reply_to), {}
        yield command(method="nosuch", reply_to=reply_to), {}
    for method in COMMANDS:
        yield command(method=method, arguments={"x" * 1000: ["y"] * 1000, "safe": {}, "builtins": []}), {}
    for method, keys in KEYS.items():
        for key in keys:
            for value in ([{}], {"a": [None]}, [["x"] * 10], "x" * 50_000, 1e300, -1, 10 ** 30, list(range(5000))):
                yield command(method=method, arguments={**({"task_name": "demo.add", "rate_limit": "1/s", "headers": {}, "id": "e", "topic": "t"} if len(keys) > 1 else {}), key: value}), {}
    # Words for everybody, without an answer.
    for method in ("ping", "nosuch", "stats", "heartbeat"):
        yield json.dumps({"method": method}).encode(), {}
    for body in (b"", b"[]", b"[1, {}]", b"null", b"{", b'{"type": 5}', b'{"type": "worker-heartbeat"}', DEEP.encode(), b"[" + b'{"type": "task-sent"},' * 1000 + b"1]"):
        yield body, {}  # events that came to the wrong exchange


def events(node):
    """Malformed events: body and properties."""
    base = {"type": "worker-heartbeat", "hostname": "other@test", "timestamp": time.time(), "utcoffset": 0, "pid": 1, "clock": 1, "freq": 2.0, "active": 0}
    yield from ((b, {}) for b in (b"", b"null", b"[]", b"[[]]", b"[1]", b"{", b"{}", b"x" * 2_000_000, DEEP.encode(), b"\xff"))
    for key in [*base, "sw_ident"]:
        for value in (None, "", "x", -1, 1e300, [], {}, True, 2 ** 62):
            yield json.dumps({**base, key: value}).encode(), {}
    for kind in ("worker-elect", "worker-elect-ack", "worker-online", "worker-offline", "task-received", "nonsense", "x" * 10_000, "-", "task-multi"):
        yield json.dumps({**base, "type": kind}).encode(), {}
        yield json.dumps({**base, "type": kind, "hostname": node}).encode(), {}
    yield json.dumps({**base, "type": "worker-elect", "id": "e", "topic": "task", "action": {"a": 1}, "cver": 1}).encode(), {}
    yield json.dumps({**base, "type": "worker-elect", "id": [], "topic": {}, "action": 5, "cver": "x", "clock": "x"}).encode(), {}
    yield json.dumps([base] * 5000).encode(), {}
    for headers in ({}, {"hostname": 5}, {"hostname": node}, {"hostname": []}, {"hostname": "x" * 10_000}):
        yield json.dumps(base).encode(), {"headers": headers}
    for content_type in (None, "text/plain", "application/x-python-serialize", "application/x-msgpack"):
        yield json.dumps(base).encode(), {"content_type": content_type}


def envelopes():
    """What is no message of Kombu's at all: Redis alone."""
    body = base64.b64encode(command()).decode()
    envelope = {"body": body, "content-encoding": "utf-8", "content-type": "application/json", "headers": {"clock": 1, "expires": 0},
                "properties": {"delivery_mode": 2, "delivery_info": {"exchange": "x", "routing_key": ""}, "priority": 0, "body_encoding": "base64", "delivery_tag": "t"}}
    yield from (b"", b"null", b"[]", b"17", b"{}", b"{", b'"x"', b"\xff\xfe", DEEP.encode(), b"x" * 2_000_000, b'{"body": 1}', b'{"body": {}, "properties": {}}')
    for key in envelope:
        less = dict(envelope)
        del less[key]
        yield json.dumps(less).encode()
        for value in (None, 5, "x", [], {}, [1], {"a": {"b": 1}}):
            yield json.dumps({**envelope, key: value}).encode()
    for key in envelope["properties"]:
        properties = dict(envelope["properties"])
        del properties[key]
        yield json.dumps({**envelope, "properties": properties}).encode()
        for value in (None, 5, "nonsense", [], {}):
            yield json.dumps({**envelope, "properties": {**envelope["properties"], key: value}}).encode()


def mutations(seed, n):
    """Good messages with some bytes changed, cut or doubled."""
    chance = random.Random(seed)
    good = [command(), command(method="active", arguments={"safe": True}), command(method="query_task", arguments={"ids": ["a", "b"]}),
            command(method="rate_limit", arguments={"task_name": "demo.add", "rate_limit": "1000/s"}), command(matcher="glob", pattern="*@*"),
            command(method="hello", arguments={"from_node": "x@y", "revoked": {"a": [1.5, "a"], "b": 2}})]
    for _ in range(n):
        body = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(body))
            match chance.randrange(4):
                case 0:
                    body[at] = chance.randrange(256)
                case 1:
                    del body[at:at + chance.randint(1, 20)]
                case 2:
                    body[at:at] = body[at:at + chance.randint(1, 40)]
                case 3:
                    body[at:at] = chance.choice([b"null", b"[", b"{", b'"', b"\\u0000", b"1e400", b"-", b"\x00", b",", b"true"])
            if not body:
                break
        yield bytes(body), {}


class Sender:
    """Publishes bytes as they are."""

    def __init__(self, broker):
        self.url = urlparse(broker)
        self.redis = None
        if self.url.scheme == "redis":
            import redis
            self.redis = redis.Redis.from_url(broker)
        else:
            self.open()

    def open(self):
        self.connection = amqp.Connection("%s:%s" % (self.url.hostname, self.url.port), userid=self.url.username, password=self.url.password,
                                          virtual_host=self.url.path[1:] or "/")
        self.connection.connect()
        self.channel = self.connection.channel()

    def channel_of(self, exchange, key=""):
        db = self.url.path[1:] or "0"
        return "/%s.%s%s" % (db, exchange, "/" + key if key else "")

    def send(self, exchange, key, body, properties):
        content_type, encoding = properties.get("content_type", "application/json"), properties.get("content_encoding", "utf-8")
        headers = properties.get("headers", {"clock": 1, "expires": 0})
        if self.redis is not None:
            envelope = {"body": base64.b64encode(body).decode(), "content-encoding": encoding, "content-type": content_type, "headers": headers,
                        "properties": {"delivery_mode": 2, "delivery_info": {"exchange": exchange, "routing_key": key}, "priority": 0, "body_encoding": "base64",
                                       "delivery_tag": str(uuid.uuid4())}}
            return self.raw(exchange, key, json.dumps(envelope).encode())
        given = {k: v for k, v in (("content_type", content_type), ("content_encoding", encoding), ("application_headers", headers)) if v is not None}
        self.channel.basic_publish(amqp.Message(body, **given), exchange=exchange, routing_key=key)

    def raw(self, exchange, key, data):
        self.redis.publish(self.channel_of(exchange, key), data)

    def close(self):
        if self.redis is None:
            self.connection.close()


class Attack:
    def __init__(self, app, node, broker, control, event, queue, other):
        self.app, self.node, self.control, self.event, self.queue, self.other = app, node, control, event, queue, other
        self.sender, self.thrown, self.slowest, self.slow = Sender(broker), 0, 0.0, 0
        if self.sender.redis is None:  # the exchange of another type: to declare it as direct closes the channel
            self.sender.channel.exchange_declare(other, "topic", durable=False, auto_delete=False)
        else:
            self.sender.redis.set("_kombu.binding." + other, "no set")

    def ping(self, most=60):
        began = time.monotonic()
        answer = self.app.control.ping(destination=[self.node], timeout=most)
        took = time.monotonic() - began
        assert answer == [{self.node: {"ok": "pong"}}], answer
        self.slowest, self.slow = max(self.slowest, took), self.slow + (took > 5)

    def throw(self, what, *message):
        """One message; then the worker must answer."""
        try:
            (self.sender.raw if len(message) == 3 else self.sender.send)(*message)
        except Exception as exc:  # what the client's library refuses to send
            self.refused.append("%s: %r" % (what, exc))
            if self.sender.redis is None and not self.sender.connection.connected:
                self.sender.open()
            return
        self.thrown += 1
        try:
            self.ping()
        except AssertionError as exc:
            raise AssertionError("no answer after %s: %.300r" % (what, message)) from exc

    def everything(self, seeds, mutated):
        self.refused = []
        for i, (body, properties) in enumerate(messages(self.node, self.control, self.other)):
            self.throw("message %d" % i, self.control, "", body, properties)
            if i % 50 == 0:
                self.task()
        for i, (body, properties) in enumerate(events(self.node)):
            self.throw("event %d" % i, self.event, "worker.heartbeat", body, properties)
        if self.sender.redis is not None:
            for i, data in enumerate(envelopes()):
                self.throw("envelope %d" % i, self.control, "", data)
                self.throw("event envelope %d" % i, self.event, "worker.heartbeat", data)
        for seed in seeds:
            for i, (body, properties) in enumerate(mutations(seed, mutated)):
                self.throw("mutation %d of seed %s" % (i, seed), self.control, "", body, properties)
        self.task()
        return {"thrown": self.thrown, "refused": self.refused, "slowest": round(self.slowest, 3), "slow": self.slow}

    def task(self):
        assert self.app.send_task("diff.add", (2, 3), queue=self.queue).get(timeout=60) == 5

    def burst(self, n):
        """Commands without end while tasks run."""
        before = [self.app.send_task("diff.sleep", (0.2,), queue=self.queue) for _ in range(10)]
        reply = command(destination=[self.node], reply_to={"exchange": "reply.nobody.pidbox", "routing_key": "nobody"})
        cast = json.dumps({"method": "ping", "arguments": {}, "destination": None}).encode()
        unknown = command(method="nosuch")
        began = time.monotonic()
        for i in range(n):
            self.sender.send(self.control, "", (cast, cast, cast, reply, unknown)[i % 5], {})
        sent = time.monotonic() - began
        after = [self.app.send_task("diff.add", (i, 1), queue=self.queue) for i in range(10)]
        assert [r.get(timeout=60) for r in before] == [0.2] * 10
        assert [r.get(timeout=60) for r in after] == [i + 1 for i in range(10)]
        end = time.monotonic() + 60
        while not self.app.control.ping(destination=[self.node], timeout=1):
            assert time.monotonic() < end, "the worker is deaf after the burst"
        self.ping()
        return {"sent": round(sent, 2), "all": round(time.monotonic() - began, 2)}

    def close(self):
        if self.sender.redis is None:
            for exchange in (self.other, "nosuch", "x", self.control, "reply.nobody.pidbox", "a b\nc", "h\u00e5"):
                try:
                    self.sender.channel.exchange_delete(exchange)
                except Exception:
                    self.sender.close()
                    self.sender.open()
        else:
            self.sender.redis.delete("_kombu.binding." + self.other)
        self.sender.close()
