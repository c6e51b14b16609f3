"""make bench: Stalk beside a real Celery prefork worker, in one run on the same brokers.

Both have two slots (-c 2). Each rate is the median of runs that alternate between the two, one of them frozen while the other
works, so that whatever else the machine does meets both alike. The limit is bench/client: a Go program that does with a
message what a worker must, and is no worker. What is measured:

    tasks/s     tasks that wait in the queue, from the first tenth done to (nearly) the last
    CPU         seconds per 1,000 of these tasks: of the worker with its children, and of broker and store
    one task    tasks/s when the next is sent as soon as the result of the one before is published
    latency     delay() to get() in Python with an idle worker
    start       from starting the process to the result of a task that waits for it
    memory      resident (VmRSS of all its processes) and proportional (PSS), idle and the most while busy
    idle        CPU and context switches of a worker that has nothing to do
    events      tasks/s and CPU again with -E: what telling monitors of each task costs either worker
    thumbnails  delay() to get() of one photo; and CPU of an image, file to file, in many cases (thumbnails.py)

A full run writes bench/latest.json, bench/ratios.svg and the tables in README.md and docs/performance.md.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import report
import thumbnails
from processes import ROOT, Worker, cpu, fine_cpu, memory

REDIS = os.environ["CELERY_REDIS_URL"]
AMQP = os.environ["CELERY_AMQP_URL"]
RESULTS = REDIS + "/1"  # a database of its own, so that its size counts results
CLIENT = ROOT / ".build" / "benchclient"
KINDS = ("stalk", "celery")


class Setup:
    def __init__(self, key, name, broker, backend, ignored=False):
        self.key, self.name, self.broker, self.backend, self.ignored = key, name, broker, backend, ignored
        self.amqp = broker.startswith("amqp")
        self.servers = [int(os.environ["STALK_AMQP_PID"])] if self.amqp else []
        if not self.amqp or backend.startswith("redis") and not ignored:
            self.servers.append(int(os.environ["STALK_REDIS_PID"]))


SETUPS = [
    Setup("redis", "Redis + Redis", REDIS + "/0", RESULTS),
    Setup("rpc", "RabbitMQ + rpc", AMQP, "rpc://"),
    Setup("amqp_redis", "RabbitMQ + Redis", AMQP, RESULTS),
    Setup("ignored", "RabbitMQ, results ignored", AMQP, RESULTS, ignored=True),
]
PARTS = ("rates", "events", "flight", "latency", "start", "idle", "thumbnails")


class Bench:
    """The client's side of one setup."""

    def __init__(self, setup, folder, seconds):
        import redis
        from celery import Celery

        os.environ.update(BENCH_BROKER=setup.broker, BENCH_BACKEND=setup.backend, BENCH_MEDIA=str(folder))
        self.setup, self.folder, self.seconds = setup, folder, seconds
        self.app = Celery("client", broker=setup.broker, backend=setup.backend, set_as_current=False)
        self.store = redis.Redis.from_url(RESULTS)
        self.connection = self.app.connection_for_write()
        self.channel = self.connection.default_channel
        self.size = {"stalk": 10000, "celery": 1500, "limit": 20000}  # of a run; follows what the last one has shown

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def worker(self, kind, options=(), **more):
        queue = f"bench-{kind}-{uuid.uuid4().hex[:8]}"
        return Worker(kind, self.setup.broker, self.setup.backend, queue, self.folder, options=options, **more)

    def declare(self, queue):
        self.app.amqp.queues[queue](self.channel).declare()

    def post(self, queue):
        """Sends one task as Celery does, and returns its id. Its result goes to reply, if to a queue."""
        identity = str(uuid.uuid4())
        message = self.app.amqp.as_task_v2(identity, "demo.add", (1, 2), {}, reply_to=self.reply)
        headers = message.headers | ({"ignore_result": True} if self.setup.ignored else {})
        self.app.amqp.Producer(self.channel, auto_declare=False).publish(
            message.body, exchange="", routing_key=queue, serializer="json", delivery_mode=2, retry=False, headers=headers, **message.properties)
        return identity

    def fresh(self):
        """No results are there."""
        self.reply = "bench-reply-" + uuid.uuid4().hex[:8]
        self.store.flushdb()
        if self.setup.backend.startswith("rpc"):
            self.channel.queue_declare(self.reply, durable=False, auto_delete=False)

    def stale(self):
        if self.setup.backend.startswith("rpc"):
            self.channel.queue_delete(self.reply)

    def mould(self):
        """A queue with one message, for the client to copy."""
        queue = "bench-mould"
        self.declare(queue)
        self.post(queue)
        if self.setup.amqp:  # a round trip: it is there
            self.channel.queue_declare(queue, passive=True)
        return queue

    def client(self, command, *options):
        results = "" if self.setup.ignored else self.setup.backend
        argv = [str(CLIENT), command, "-broker", self.setup.broker, "-results", results, *map(str, options)]
        out = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=600).stdout
        return json.loads(out) if out else None

    def fill(self, queue, n):
        self.client("fill", "-mould", self.mould(), "-queue", queue, "-n", n)

    def done(self, queue, n):
        """How many of n tasks are: by their results, or by what is left."""
        if self.setup.ignored:
            return n - self.channel.queue_declare(queue, passive=True).message_count
        if self.setup.backend.startswith("redis"):
            return self.store.dbsize()
        return self.channel.queue_declare(self.reply, passive=True).message_count

    def ready(self, worker):
        """Waits until the worker has done something, and freezes it."""
        self.send(worker).get(timeout=60)
        for _ in range(20):
            self.send(worker).get(timeout=60)
        time.sleep(0.3)
        worker.freeze()

    def send(self, worker, name="demo.add", args=(1, 2)):
        return self.app.send_task(name, args, queue=worker.queue)

    # ---- what is measured

    def rate(self, worker):
        """One run over waiting tasks."""
        n = self.size[worker.kind]
        self.fresh()
        self.fill(worker.queue, n)
        worker.thaw()
        begin = last = None
        deadline, looked, most = time.monotonic() + 120, 0, (0, 0)
        pids = worker.pids()
        while True:
            count, now = self.done(worker.queue, n), time.monotonic()
            if begin is None and count >= n // 10:
                begin = (now, count, cpu(worker.pids()), cpu(self.setup.servers))
            if count >= n:
                break
            last = (now, count)
            if now > deadline:
                raise SystemExit(f"bench: {worker.kind} did {count} of {n} tasks in two minutes ({self.setup.name})")
            if now - looked > 0.25:
                looked, most = now, max(most, memory(pids))
            time.sleep(0.01)
        end = (now, n, cpu(worker.pids()), cpu(self.setup.servers))
        worker.freeze()
        self.stale()
        if begin is None or begin[1] >= n:
            raise SystemExit(f"bench: {n} tasks were done at once")
        # To the last look before the end, unless that is far from it: what came of the rest is not known to the moment.
        until = last if last and last[1] > n * 0.8 else end
        seconds, tasks = until[0] - begin[0], until[1] - begin[1]
        per_s, total = tasks / seconds, n - begin[1]
        self.size[worker.kind] = int(min(max(per_s * self.seconds, 500), 200_000))
        return {"tasks_per_s": per_s, "cpu_s_per_1000": (end[2] - begin[2]) * 1000 / total, "server_cpu_s_per_1000": (end[3] - begin[3]) * 1000 / total,
                "busy_rss_mb": most[0], "busy_pss_mb": most[1]}

    def limit(self):
        """One run of the program that is no worker."""
        n, queue = self.size["limit"], "bench-limit-" + uuid.uuid4().hex[:8]
        self.fresh()
        self.declare(queue)
        self.fill(queue, n)
        before = cpu(self.setup.servers)
        got = self.client("drain", "-queue", queue, "-n", n)
        served = cpu(self.setup.servers) - before
        self.stale()
        if self.setup.amqp:
            self.channel.queue_delete(queue)
        self.size["limit"] = int(min(max(got["tasks_per_s"] * self.seconds, 500), 200_000))
        return {"tasks_per_s": got["tasks_per_s"], "cpu_s_per_1000": got["cpu_s"] * 1000 / n, "server_cpu_s_per_1000": served * 1000 / n}

    def flight(self, worker):
        """One task at a time; worker None: the limit."""
        self.fresh()
        queue = worker.queue if worker else "bench-flight-" + uuid.uuid4().hex[:8]
        options = ["-mould", self.mould(), "-queue", queue, "-for", f"{self.seconds}s"]
        if worker is None:
            return self.client("flight", "-self", *options)
        worker.thaw()
        got = self.client("flight", *options)
        worker.freeze()
        return got

    def latency(self, worker, n):
        """delay() to get(), in milliseconds."""
        worker.thaw()
        took = []
        for i in range(n + 3):
            began = time.perf_counter()
            self.send(worker).get(timeout=60)
            took.append((time.perf_counter() - began) * 1000)
        worker.freeze()
        return took[3:]

    def start(self, kind):
        """From the start of the process to the result of a task that waits for it."""
        self.fresh()
        queue = "bench-start-" + uuid.uuid4().hex[:8]
        self.declare(queue)
        self.post(queue)
        if self.setup.amqp:
            self.channel.queue_declare(queue, passive=True)
        with Worker(kind, self.setup.broker, self.setup.backend, queue, self.folder) as worker:
            while not self.done(queue, 1):
                if time.perf_counter() - worker.began > 60:
                    raise SystemExit(f"bench: {kind} did nothing within a minute of its start")
                time.sleep(0.001)
            took = time.perf_counter() - worker.began
            worker.pids()
        self.stale()
        return took

    def thumbnails(self, kind, name, args, n):
        """Median time and CPU of one thumbnail, one slot."""
        with self.worker(kind, slots=1, images=True) as worker:
            self.send(worker, name, args).get(timeout=60)
            before, took = cpu(worker.pids()), []
            for _ in range(n):
                began = time.perf_counter()
                self.send(worker, name, args).get(timeout=60)
                took.append(time.perf_counter() - began)
            return {"ms": statistics.median(took) * 1000, "cpu_ms": (cpu(worker.pids()) - before) / n * 1000}


def median(runs):
    """Of each figure in a list of runs; the rates themselves, too, to show how far they lie apart."""
    out = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    if "tasks_per_s" in out:
        out["runs"] = [round(run["tasks_per_s"]) for run in runs]
    return out


def duel(setup, folder, seconds, rounds, parts, options=()):
    """Both workers side by side, each in its turn."""
    out = {kind: {} for kind in (*KINDS, "limit")}
    with Bench(setup, folder, seconds) as bench, bench.worker("stalk", options) as stalk, bench.worker("celery", options) as celery:
        workers = (stalk, celery)
        for w in workers:
            bench.ready(w)
        if "latency" in parts:
            took = {kind: [] for kind in KINDS}
            for _ in range(rounds):
                for w in workers:
                    took[w.kind] += bench.latency(w, max(20, int(80 * seconds)))
            for kind, all_of_it in took.items():
                all_of_it.sort()
                out[kind] |= {"latency_p50_ms": statistics.median(all_of_it), "latency_p99_ms": all_of_it[int(len(all_of_it) * 0.99)]}
        if "flight" in parts and setup.key == "redis":
            runs = {kind: [] for kind in (*KINDS, "limit")}
            for _ in range(rounds):
                for w in (*workers, None):
                    runs[w.kind if w else "limit"].append(bench.flight(w))
            for kind in runs:
                out[kind] |= {"one_in_flight_per_s": statistics.median(r["tasks_per_s"] for r in runs[kind])}
        if "rates" in parts:
            runs = {kind: [] for kind in (*KINDS, "limit")}
            for w in workers:  # each finds out how many tasks make a run
                bench.rate(w)
            for _ in range(rounds):
                for w in workers:
                    runs[w.kind].append(bench.rate(w))
                if not options:
                    runs["limit"].append(bench.limit())
            for kind in runs:
                if runs[kind]:
                    out[kind] |= median(runs[kind])
    return out


def idle(folder, seconds):
    """What all workers use while nothing is to be done: four at a time, two of either kind on either broker."""
    out, workers = {}, []
    benches = [Bench(s, folder, 1) for s in SETUPS if s.key in ("redis", "amqp_redis")]
    try:
        for b in benches:
            for kind in KINDS:
                w = b.worker(kind)
                workers.append((b.setup.key, w))
                b.ready(w)
        for _, w in workers:
            w.thaw()
        time.sleep(3)  # what they did before is over
        before = [fine_cpu(w.pids()) for _, w in workers]
        began = time.monotonic()
        time.sleep(seconds)
        for (key, w), (used, switched) in zip(workers, before):
            now, switches = fine_cpu(w.pids())
            passed = time.monotonic() - began
            rss, pss = memory(w.pids())
            out.setdefault(key, {})[w.kind] = {"idle_cpu_percent": (now - used) / passed * 100, "idle_switches_per_s": (switches - switched) / passed,
                                               "idle_rss_mb": rss, "idle_pss_mb": pss}
    finally:
        for _, w in workers:
            w.__exit__()
        for b in benches:
            b.close()
    return out


def one_photo(folder, n):
    subprocess.run([ROOT / ".build" / "photo", "make", Path(folder) / "photo.jpg"], check=True)
    out = {}
    with Bench(SETUPS[0], folder, 1) as bench:
        for key, kind, task, args in [
            ("stalk", "stalk", "stalk.images.thumbnail", ("photo.jpg", "stalk.jpg", (256, 256))),
            ("pillow_draft", "celery", "bench.pillow", ("photo.jpg", "draft.jpg", (256, 256), True)),
            ("pillow", "celery", "bench.pillow", ("photo.jpg", "plain.jpg", (256, 256), False)),
        ]:
            out[key] = bench.thumbnails(kind, task, args, n)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short runs: does it work at all? Writes nothing but .build/bench-quick.*")
    parser.add_argument("--only", default="", help="some of: " + ", ".join((*PARTS, *(s.key for s in SETUPS))) + "; writes as --quick does")
    options = parser.parse_args()
    only = [o for o in options.only.split(",") if o]
    if unknown := set(only) - set(PARTS) - {s.key for s in SETUPS}:
        parser.error(f"--only: no such thing: {', '.join(sorted(unknown))}")
    parts = [p for p in PARTS if p in only] or list(PARTS)
    setups = [s for s in SETUPS if s.key in only] or SETUPS
    seconds, rounds = (0.4, 1) if options.quick else (2.0, 3)

    began = time.monotonic()
    out = report.heading() | {"slots": 2, "rounds": rounds, "seconds": seconds, "setups": {}}
    with tempfile.TemporaryDirectory(prefix="stalk-bench-") as folder:
        for setup in setups:
            found = out["setups"].setdefault(setup.key, {"name": setup.name})
            if "start" in parts and not setup.ignored:
                say(f"{setup.name}: start")
                with Bench(setup, folder, seconds) as bench:
                    took = {kind: [] for kind in KINDS}
                    for i in range(rounds):
                        for kind in KINDS:
                            took[kind].append(bench.start(kind))
                    for kind in KINDS:
                        found.setdefault(kind, {})["start_s"] = statistics.median(took[kind])
            wanted = set(parts) & ({"rates"} if setup.ignored else {"rates", "flight", "latency"})
            if wanted:
                say(f"{setup.name}: {', '.join(sorted(wanted))}")
                for kind, figures in duel(setup, folder, seconds, rounds, wanted).items():
                    found.setdefault(kind, {}).update(figures)
            if "events" in parts and not setup.ignored:
                say(f"{setup.name}: events")
                for kind, figures in duel(setup, folder, seconds, rounds, {"rates"}, ["-E"]).items():
                    if figures:
                        found.setdefault(kind, {})["events"] = figures
        if "idle" in parts:
            say("idle")
            for key, figures in idle(folder, 3 if options.quick else 60).items():
                found = out["setups"].setdefault(key, {"name": key})
                for kind in KINDS:
                    found.setdefault(kind, {}).update(figures[kind])
        if "thumbnails" in parts:
            say("thumbnail of 12 megapixels")
            out["thumbnail"] = one_photo(folder, 3 if options.quick else 15)
            out["thumbnails"] = thumbnails.measure(folder, rounds if options.quick else 5, seconds / 4, say=say)
    out["took_s"] = round(time.monotonic() - began)
    print(report.text(out))
    report.write(out, final=not options.quick and not only)


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
