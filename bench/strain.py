"""make strain: what a worker does when much is asked of it, with real servers and bounds that end the run when they are broken.

    eta      many tasks (100,000) held for their time: memory for each, CPU while they wait, and all of them run when it comes
    queues   one worker consumes from a hundred queues
    large    arguments and results of 1 MB
    long     a task that fills one slot slows nothing in the other
    soak     minutes of a modest rate: memory, goroutines and connections do not grow; what 24 hours would add

Each on Redis and on RabbitMQ. The worker is bin/stalk, without the race detector, whose memory is another.
"""
import argparse
import os
import re
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

from bench import SETUPS, Bench, say
from processes import fine_cpu, memory

BROKERS = [s for s in SETUPS if s.key in ("redis", "amqp_redis")]

# Bounds. Memory is that of one process (RSS), with Go's own slack in it.
HELD_BYTES = 10_000  # for each task that is held: its message, as it came and as it was read
PREFETCH_MOST = 65535  # as many as AMQP can say; the others wait in the queue until one is due
LARGE_MB = 400       # the worker with 1 MB messages: a window of them, each in a few forms
QUEUES_MB = 80
GROWTH_MB_DAY = 200  # what an hour of soak may extrapolate to; shorter runs are told, not judged


class Broken(Exception):
    """A bound was."""


def check(true, text):
    if not true:
        raise Broken(text)


class Strain(Bench):
    """A setup whose tasks are counted by their results in Redis."""

    def template(self, name, args, eta=None):
        self.name, self.args, self.eta = name, args, eta

    def post(self, queue):
        identity = str(uuid.uuid4())
        message = self.app.amqp.as_task_v2(identity, self.name, self.args, {}, eta=self.eta)
        self.app.amqp.Producer(self.channel, auto_declare=False).publish(
            message.body, exchange="", routing_key=queue, serializer="json", delivery_mode=2, retry=False, headers=message.headers, **message.properties)
        return identity

    def worker(self, kind, options=(), **more):
        w = super().worker(kind, options, **more)
        self.declare(w.queue)  # tasks may come before it has
        return w

    def wait(self, condition, seconds, what):
        deadline = time.monotonic() + seconds
        while not condition():
            check(time.monotonic() < deadline, f"{what}: not within {seconds} s")
            time.sleep(0.05)

    def taken(self, queue):
        """How many of the queue's messages the broker has not got any more, for it gave them to somebody."""
        if self.setup.amqp:
            return -self.channel.queue_declare(queue, passive=True).message_count
        return -self.queue_length(queue)

    def queue_length(self, queue):
        import redis

        return redis.Redis.from_url(self.setup.broker).llen(queue)


def eta(s, n, hold):
    """n tasks that are wanted in hold seconds."""
    with s.worker("stalk") as w:
        s.template("demo.add", (1, 2))
        s.fresh()
        s.fill(w.queue, 1000)
        s.wait(lambda: s.store.dbsize() >= 1000, 60, "a worker that works")
        before = memory(w.pids())[0]
        s.fresh()
        due = datetime.now(timezone.utc) + timedelta(seconds=hold)
        s.template("demo.add", (1, 2), eta=due.isoformat())
        began = time.monotonic()
        s.fill(w.queue, n)
        holds = min(n, PREFETCH_MOST) if s.setup.amqp else n
        s.wait(lambda: -s.taken(w.queue) <= n - holds, hold, f"taking {holds} tasks")
        took = time.monotonic() - began
        time.sleep(2)
        check(s.store.dbsize() == 0, "a task ran before its time")
        left = (due - datetime.now(timezone.utc)).total_seconds()
        check(left > 5, f"{n} tasks took longer to be taken than they were to wait; give more time (--hold)")
        rss = memory(w.pids())[0]
        used, began = fine_cpu(w.pids())[0], time.monotonic()
        watched = min(left - 3, 70)
        time.sleep(watched)  # on Redis, a renewal of all leases is among it
        idle = (fine_cpu(w.pids())[0] - used) / (time.monotonic() - began) * 100
        most = max(rss, memory(w.pids())[0])
        time.sleep(max(0, (due - datetime.now(timezone.utc)).total_seconds()))
        s.wait(lambda: s.store.dbsize() >= n, 300, f"running {n} tasks that were due")
        late = (datetime.now(timezone.utc) - due).total_seconds()
        each = (most - before) * 2**20 / holds
        say(f"  {holds} of {n} held: taken in {took:.1f} s, {each:.0f} bytes each ({before:.0f} to {most:.0f} MB), {idle:.2f} % CPU while they waited {watched:.0f} s; the last had run {late:.1f} s after its time")
        check(each < HELD_BYTES or most - before < 20, f"{each:.0f} bytes for each held task, want less than {HELD_BYTES}")


def queues(s, n, each):
    names = [f"bench-many-{uuid.uuid4().hex[:6]}-{i}" for i in range(n)]
    s.template("demo.add", (1, 2))
    s.fresh()
    for q in names:
        s.declare(q)
        for _ in range(each):
            s.post(q)
    with s.worker("stalk", ["-Q", ",".join(names)]) as w:
        began = time.monotonic()
        s.wait(lambda: s.store.dbsize() >= n * each, 120, f"{n * each} tasks in {n} queues")
        took, rss = time.monotonic() - began, memory(w.pids())[0]
        late = []
        for q in names[:: max(1, n // 20)]:  # an idle worker hears of any of them at once
            count, at = s.store.dbsize(), time.monotonic()
            s.post(q)
            s.wait(lambda: s.store.dbsize() > count, 60, f"a task in {q}")
            late.append(time.monotonic() - at)
        used, at = fine_cpu(w.pids())[0], time.monotonic()
        time.sleep(5)
        idle = (fine_cpu(w.pids())[0] - used) / (time.monotonic() - at) * 100
        say(f"  {n} queues with {each} tasks each: {took:.1f} s, {rss:.0f} MB; then one task in {statistics.median(late) * 1000:.0f} ms at the median; {idle:.2f} % CPU idle")
        check(rss < QUEUES_MB, f"{rss:.0f} MB, want less than {QUEUES_MB}")


def large(s, n):
    s.template("demo.echo", ("x" * 2**20,))
    s.fresh()
    with s.worker("stalk") as w:
        s.fill(w.queue, n)
        began, most = time.monotonic(), 0
        while s.store.dbsize() < n:
            check(time.monotonic() - began < 180, f"{s.store.dbsize()} of {n} in three minutes")
            most = max(most, memory(w.pids())[0])
            time.sleep(0.05)
        say(f"  {n} arguments and results of 1 MB: {n / (time.monotonic() - began):.0f} a second, {most:.0f} MB at most")
        check(most < LARGE_MB, f"{most:.0f} MB, want less than {LARGE_MB}")
    s.store.flushdb()


def long(s, n, seconds):
    s.fresh()
    with s.worker("stalk") as w:
        s.template("demo.sleep", (seconds,))
        first = s.post(w.queue)
        s.wait(lambda: s.taken(w.queue) == 0, 30, "the long task's start")
        s.template("demo.add", (1, 2))
        began = time.monotonic()
        s.fill(w.queue, n)
        s.wait(lambda: s.store.dbsize() >= n, seconds, f"{n} tasks beside one of {seconds} s")
        took = time.monotonic() - began
        check(not s.store.exists("celery-task-meta-" + first), "the long task was not long enough to be beside the others; ask for more seconds")
        say(f"  {n} tasks beside one that fills a slot: {took:.1f} s")


def listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def soak(s, minutes, rate):
    """A modest rate; every second a look."""
    port = 20000 + os.getpid() % 20000
    s.template("demo.add", (1, 2))
    s.fresh()
    looks = []
    with s.worker("stalk", ["--http", f"127.0.0.1:{port}", "-E"]) as w:
        s.wait(lambda: listening(port), 60, "the worker's HTTP")
        sent, began = 0, time.monotonic()
        while (passed := time.monotonic() - began) < minutes * 60:
            want = int(passed * rate) + rate
            if want > sent:
                s.fill(w.queue, want - sent)
                sent = want
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                goroutines = int(float(re.search(r"^go_goroutines (\S+)", answer.read().decode(), re.M).group(1)))
            sockets = 0
            for fd in os.listdir(f"/proc/{w.process.pid}/fd"):
                try:
                    sockets += os.readlink(f"/proc/{w.process.pid}/fd/{fd}").startswith("socket:")
                except OSError:
                    pass
            looks.append((passed, memory(w.pids())[0], goroutines, sockets))
            time.sleep(1)
        s.wait(lambda: s.store.dbsize() >= sent, 120, f"all {sent} tasks")
    half = looks[len(looks) // 2:]
    quarter = max(1, len(half) // 4)
    middle = lambda rows, i: statistics.median(r[i] for r in rows)
    rows = [middle(half[:quarter], i) for i in range(4)], [middle(half[-quarter:], i) for i in range(4)]
    hours = max((rows[1][0] - rows[0][0]) / 3600, 1e-9)
    day = (rows[1][1] - rows[0][1]) / hours * 24
    say(f"  {sent} tasks in {minutes:g} min: memory {rows[0][1]:.1f} to {rows[1][1]:.1f} MB in the second half ({day:+.0f} MB a day by that), "
        f"goroutines {rows[0][2]:.0f} to {rows[1][2]:.0f}, connections {rows[0][3]:.0f} to {rows[1][3]:.0f}")
    check(rows[1][2] <= rows[0][2] * 1.2 + 5, "goroutines grow")
    check(rows[1][3] <= rows[0][3] * 1.2 + 3, "connections grow")
    check(rows[1][1] <= rows[0][1] * 1.15 + 5, "memory grows")
    check(minutes < 50 or day < GROWTH_MB_DAY, f"memory would grow by {day:.0f} MB a day, want less than {GROWTH_MB_DAY}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="eta,queues,large,long,soak")
    parser.add_argument("--on", default=",".join(s.key for s in BROKERS))
    parser.add_argument("--held", type=int, default=100_000)
    parser.add_argument("--hold", type=int, default=150, help="seconds")
    parser.add_argument("--minutes", type=float, default=2)
    options = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory(prefix="stalk-strain-") as folder:
        for setup in (s for s in BROKERS if s.key in options.on.split(",")):
            for name, do in [("eta", lambda s: eta(s, options.held, options.hold)), ("queues", lambda s: queues(s, 100, 20)), ("large", lambda s: large(s, 300)),
                             ("long", lambda s: long(s, 2000, 20)), ("soak", lambda s: soak(s, options.minutes, 100))]:
                if name not in options.only.split(","):
                    continue
                say(f"{setup.name}: {name}")
                try:
                    with Strain(setup, folder, 1) as s:
                        do(s)
                except Broken as b:
                    broken += 1
                    say(f"  BROKEN: {b}")
    if broken:
        raise SystemExit(f"strain: {broken} bounds were broken")


if __name__ == "__main__":
    main()
