"""make strain: what a worker does when much is asked of it, with real servers and bounds that end the run when they are broken.

    eta      many tasks (100,000) held for their time: memory for each, CPU while they wait, and all of them run when it comes
    queues   one worker consumes from a hundred queues
    large    arguments and results of 1 MB
    long     a task that fills one slot slows nothing in the other
    soak     minutes of a modest rate: memory, goroutines and connections do not grow; what 24 hours would add

Each on Redis and on RabbitMQ. The worker is bin/stalk, without the race detector, whose memory is another.
"""
import argparse
import statistics
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

from bench import REDIS, SETUPS, Bench, Setup, say
import steady
from processes import fine_cpu, memory

# Each with its own results, as the soak works on all at once.
BROKERS = [Setup(s.key, s.name, s.broker, f"{REDIS}/{i}") for i, s in enumerate((s for s in SETUPS if s.key in ("redis", "amqp_redis")), 1)]

# Bounds. Memory is that of one process (RSS), with Go's own slack in it.
HELD_BYTES = 10_000  # for each task that is held: its message, as it came and as it was read
LARGE_MB = 200       # the worker with 1 MB messages: a window of them, each in a few forms
QUEUES_MB = 80


class Broken(Exception):
    """A bound was."""


def check(true, text):
    if not true:
        raise Broken(text)


class Strain(Bench):
    """A setup whose tasks are counted by their results in Redis."""

    def __init__(self, setup, folder):
        import redis

        super().__init__(setup, folder, 1)
        self.store = redis.Redis.from_url(setup.backend)

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
        s.wait(lambda: s.taken(w.queue) == 0, hold, f"taking {n} tasks")
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
        deadline = time.monotonic() + 300
        while s.store.dbsize() < n:
            check(time.monotonic() < deadline, f"{s.store.dbsize()} of {n} tasks ran within 300 s of their time")
            most = max(most, memory(w.pids())[0])
            time.sleep(0.2)
        late = (datetime.now(timezone.utc) - due).total_seconds()
        each, peak = (rss - before) * 2**20 / n, (most - before) * 2**20 / n
        say(f"  {n} held: taken in {took:.1f} s, {each:.0f} bytes each ({before:.0f} to {rss:.0f} MB, {most:.0f} at most until all had run), {idle:.2f} % CPU while they waited {watched:.0f} s; the last had run {late:.1f} s after its time")
        check(peak < HELD_BYTES or most - before < 20, f"{peak:.0f} bytes for each held task, want less than {HELD_BYTES}")


def queues(s, n, each):
    names = [f"bench-many-{uuid.uuid4().hex[:6]}-{i}" for i in range(n)]
    s.template("demo.add", (1, 2))
    s.fresh()
    for q in names:
        s.declare(q)
        s.fill(q, each)
    with s.worker("stalk", ["-Q", ",".join(names)]) as w:
        s.wait(lambda: s.store.dbsize() >= n * each / 10, 120, f"a tenth of {n * each} tasks in {n} queues")
        began, some = time.monotonic(), s.store.dbsize()
        s.wait(lambda: s.store.dbsize() >= n * each, 120, f"{n * each} tasks in {n} queues")
        took, rss = time.monotonic() - began, memory(w.pids())[0]
        late = []
        for q in names[:: max(1, n // 20)]:  # an idle worker hears of any of them at once
            count, at = s.store.dbsize(), time.monotonic()
            s.post(q)
            s.wait(lambda: s.store.dbsize() > count, 60, f"a task in {q}")
            late.append(time.monotonic() - at)
        used, at = fine_cpu(w.pids())[0], time.monotonic()
        time.sleep(20)
        idle = (fine_cpu(w.pids())[0] - used) / (time.monotonic() - at) * 100
        say(f"  {n} queues with {each} tasks each: {(n * each - some) / took:.0f} a second, {rss:.0f} MB; then one task in {statistics.median(late) * 1000:.0f} ms at the median; {idle:.2f} % CPU idle")
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="eta,queues,large,long,soak")
    parser.add_argument("--on", default=",".join(s.key for s in BROKERS))
    parser.add_argument("--held", type=int, default=100_000)
    parser.add_argument("--hold", type=int, default=150, help="seconds")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--rate", type=int, default=50, help="of the soak, tasks a second on each broker")
    parser.add_argument("--looks", help="a file for what the soak sees")
    options = parser.parse_args()
    setups = [s for s in BROKERS if s.key in options.on.split(",")]
    parts = {"eta": lambda s: eta(s, options.held, options.hold), "queues": lambda s: queues(s, 100, 200), "large": lambda s: large(s, 300), "long": lambda s: long(s, 2000, 20)}
    broken = []

    def attempt(s, do):
        try:
            with s:
                do(s)
        except Broken as b:
            broken.append(b)
            say(f"  BROKEN: {b}")

    with tempfile.TemporaryDirectory(prefix="stalk-strain-") as folder:
        for setup in setups:
            for name, do in parts.items():
                if name in options.only.split(","):
                    say(f"{setup.name}: {name}")
                    attempt(Strain(setup, folder), do)
        if "soak" in options.only.split(","):
            say("soak")
            notes = open(options.looks, "a") if options.looks else None
            do = lambda s: steady.soak(s, options.minutes, options.rate, say, check, notes)
            with ThreadPoolExecutor() as threads:
                for done in [threads.submit(attempt, Strain(setup, folder), do) for setup in setups]:
                    done.result()
    if broken:
        raise SystemExit(f"strain: {len(broken)} bounds were broken")


if __name__ == "__main__":
    main()
