"""Writes down every task message that is published, in order.

On Redis: by MONITOR, which shows what each client pushes. On RabbitMQ: by a queue of our own, bound to the
topic exchange that all tasks of the test are published to. In both, MONITOR of the result store tells when
the workers have come to rest.
"""
import base64
import json
import re
import socket
import threading
import time
from urllib.parse import urlsplit

from kombu import Connection

PUSH = re.compile(rb'^\+[0-9.]+ \[[^]]*\] "[LlRr][Pp][Uu][Ss][Hh]" "([^"]*)" "(.*)"\r\n$')
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def unescape(text):
    """What Redis's sdscatrepr made of bytes."""
    return re.sub(rb"\\(x[0-9a-f]{2}|.)", lambda m: bytes([int(m[1][1:], 16)]) if len(m[1]) == 3 else ESCAPES.get(m[1], m[1]), text)


class Message:
    """One published message."""

    def __init__(self, queue, headers, properties, body):
        self.queue, self.headers, self.properties = queue, headers, properties
        self.args, self.kwargs, self.embed = json.loads(body)
        self.id = headers["id"]
        self.label = headers.get("shadow") or ""


class Monitor:
    """Reads MONITOR of one Redis. moved is the time of the last command on a task's or a queue's key."""

    ordered = True

    def __init__(self, url, queues):
        self.queues = tuple(('"%s' % q).encode() for q in queues)
        self.lines, self.moved = [], time.monotonic()
        where = urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port))
        self.socket.sendall(b"MONITOR\r\n")
        self.file = self.socket.makefile("rb")
        assert self.file.readline() == b"+OK\r\n"
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.file:
            start = line[:160]
            if b"celery-task" in start and b'"MGET"' not in start and b'"SUBSCRIBE"' not in start:
                self.moved = time.monotonic()
            elif b'push" "' in start.lower() and any(q in start for q in self.queues):
                self.moved = time.monotonic()
                self.lines.append(line)

    def rest(self, seconds):
        """Waits until nothing has moved for so long."""
        while (left := self.moved + seconds - time.monotonic()) > 0:
            time.sleep(left)

    def clear(self):
        self.lines.clear()

    def close(self):
        self.socket.close()

    def messages(self):
        """Every message once: one that a worker gives back unread is pushed again with its delivery_tag, which
        each publish makes anew."""
        published = set()
        for line in list(self.lines):
            found = PUSH.match(line)
            if not found:
                continue
            raw = json.loads(unescape(found[2]))
            tag = raw["properties"]["delivery_tag"]
            if tag in published:
                continue
            published.add(tag)
            queue = found[1].split(rb"\x06")[0].decode()
            yield Message(queue, raw["headers"], raw["properties"], base64.b64decode(raw["body"]))


class Tap:
    """A queue bound to the topic exchange of all task messages.

    Python publishes on several connections, so the order in which messages arrive means nothing. What has
    expired when it is published RabbitMQ drops, here as in the workers' queues.
    """

    ordered = False

    def __init__(self, url, exchange, queues):
        self.exchange, self.queues = exchange, queues
        self.connection = Connection(url)
        self.channel = self.connection.default_channel
        self.channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
        self.queue = self.channel.queue_declare("", exclusive=True).queue
        self.channel.queue_bind(self.queue, exchange, "#")
        self.seen = []

    def clear(self):
        self.seen.clear()

    def close(self):
        for queue in self.queues:
            self.channel.queue_delete(queue)
        self.channel.exchange_delete(self.exchange)
        self.connection.close()

    def messages(self):
        while (m := self.channel.basic_get(self.queue, no_ack=True)) is not None:
            p = dict(m.properties)
            headers = p.pop("application_headers", {})
            p.setdefault("priority", 0)  # the same for RabbitMQ; Go's client cannot write a 0, and Python leaves out some
            body = m.body if isinstance(m.body, bytes) else m.body.encode()
            self.seen.append(Message(m.delivery_info["routing_key"], headers, p, body))
        return list(self.seen)
