"""make bench: Stalk beside a real Celery prefork worker, in the same run on the same brokers.

Every figure is of two slots (-c 2). Prints a table, ratios first, and writes the same to bench/latest.json.

    tasks/s     tasks that wait in the queue, from the first tenth done to the last
    CPU         seconds per 1,000 of these tasks: of the worker with its children, and of the broker (on Redis
                results: of the store too)
    memory      proportional set size of the worker with its children, idle and the most while busy
    latency     median of delay() to get() with an idle worker
    start       from starting the process to the result of a task that waits for it
    events      tasks/s and CPU again with -E: what telling monitors of each task costs either worker
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

ROOT = Path(__file__).resolve().parent.parent
STALK = ROOT / "bin" / "stalk"
TICK = os.sysconf("SC_CLK_TCK")

REDIS = os.environ["CELERY_REDIS_URL"]
AMQP = os.environ["CELERY_AMQP_URL"]
RESULTS = REDIS + "/1"  # a database of its own, so that its size counts results
SETUPS = [("Redis + Redis", REDIS + "/0", RESULTS), ("RabbitMQ + rpc", AMQP, "rpc://"), ("RabbitMQ + Redis", AMQP, RESULTS)]


# ---- processes


def tree(pid):
    """A process and all below it."""
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                todo += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
        except OSError:
            pass
    return found


def cpu(pids):
    """Seconds of user and system time, of ended children too."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:13]))
    return total / TICK


def memory(pids):
    """Megabytes; pages that processes share are divided among them."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            pass
    return total / 1024


class Worker:
    """One worker process of either kind."""

    def __init__(self, kind, broker, backend, queue, media, slots=2, options=()):
        self.kind = kind
        if kind == "stalk":
            argv = [STALK, "-b", broker, "--result-backend", backend, "worker", "--demo", "--media-root", media]
        else:
            argv = [sys.executable, "-m", "celery", "-A", "app", "worker", "-P", "prefork", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        argv += ["-Q", queue, "-c", str(slots), "-l", "WARNING", "-n", f"{kind}-{uuid.uuid4().hex[:8]}@bench", *options]
        env = os.environ | {"BENCH_BROKER": broker, "BENCH_BACKEND": backend, "BENCH_MEDIA": media, "C_FORCE_ROOT": "1"}
        self.log = open(Path(media) / f"{kind}.log", "ab")
        self.process = subprocess.Popen([str(a) for a in argv], cwd=ROOT / "bench", env=env, stdout=self.log, stderr=self.log, start_new_session=True)

    def pids(self):
        if self.process.poll() is not None:
            raise SystemExit(f"bench: the {self.kind} worker has ended with code {self.process.returncode}:\n" + Path(self.log.name).read_text()[-3000:])
        return tree(self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            for pid in tree(self.process.pid):
                os.kill(pid, 9)
            self.process.wait()
        self.log.close()


# ---- one setup


class Bench:
    def __init__(self, broker, backend, media):
        os.environ.update(BENCH_BROKER=broker, BENCH_BACKEND=backend, BENCH_MEDIA=media)
        from celery import Celery

        self.broker, self.backend, self.media = broker, backend, media
        self.app = Celery("client", broker=broker, backend=backend, set_as_current=False)
        self.queue = "bench-" + uuid.uuid4().hex[:8]
        self.servers = [int(os.environ["STALK_AMQP_PID" if broker.startswith("amqp") else "STALK_REDIS_PID"])]
        if backend.startswith("redis") and broker.startswith("amqp"):
            self.servers.append(int(os.environ["STALK_REDIS_PID"]))

    def send(self, name="demo.add", args=(1, 2)):
        return self.app.send_task(name, args, queue=self.queue)

    def start_to_first(self, kind):
        result = self.send()
        began = time.monotonic()
        with Worker(kind, self.broker, self.backend, self.queue, self.media):
            result.get(timeout=60)
            return time.monotonic() - began

    def idle(self, kind, n):
        """Median latency and idle memory."""
        with Worker(kind, self.broker, self.backend, self.queue, self.media) as worker:
            took = []
            for i in range(n + 10):
                began = time.perf_counter()
                self.send().get(timeout=60)
                took.append(time.perf_counter() - began)
            time.sleep(1)
            return statistics.median(took[10:]), memory(worker.pids())

    def fill(self, n):
        """Puts n tasks into the queue: one real message, with an id of its own each time."""
        self.reply = str(uuid.uuid4())
        with self.app.connection_for_write() as connection:
            channel = connection.default_channel
            self.app.amqp.queues[self.queue](channel).declare()
            message = self.app.amqp.as_task_v2(str(uuid.uuid4()), "demo.add", (1, 2), {}, reply_to=self.reply)
            if self.backend.startswith("rpc"):
                channel.queue_declare(self.reply, durable=False, auto_delete=False)
            producer = self.app.amqp.Producer(channel, auto_declare=False)
            for i in range(n):
                if i % 500 == 0 and self.broker.startswith("amqp"):
                    # A round trip now and then: without it we outrun the broker until it stops reading.
                    channel.queue_declare(self.queue, passive=True)
                identity = str(uuid.uuid4())
                producer.publish(
                    message.body, exchange="", routing_key=self.queue, serializer="json", delivery_mode=2, retry=False,
                    headers=message.headers | {"id": identity, "root_id": identity},
                    **message.properties | {"correlation_id": identity},
                )

    def done(self):
        """How many results are there."""
        if self.backend.startswith("redis"):
            return self.store.dbsize()
        return self.channel.queue_declare(self.reply, passive=True).message_count

    def waiting(self, kind, n, options=()):
        """Rate, CPU of worker and servers per 1,000 tasks, and most memory, over n waiting tasks."""
        import redis

        self.store = redis.Redis.from_url(RESULTS)
        self.store.flushdb()
        self.fill(n)
        with self.app.connection_for_read() as connection:
            self.channel = connection.default_channel if self.broker.startswith("amqp") else None
            with Worker(kind, self.broker, self.backend, self.queue, self.media, options=options) as worker:
                begin, most, deadline = None, 0, time.monotonic() + 180
                while True:
                    count, now, pids = self.done(), time.monotonic(), worker.pids()
                    point = (now, count, cpu(pids), cpu(self.servers))
                    if begin is None and count >= n // 10:
                        begin = point
                    if count >= n:
                        break
                    if now > deadline:
                        raise SystemExit(f"bench: {kind} did {count} of {n} tasks in three minutes")
                    most = max(most, memory(pids))
                    time.sleep(0.05)
            if self.channel is not None and self.backend.startswith("rpc"):
                self.channel.queue_delete(self.reply)
        seconds, tasks = point[0] - begin[0], (point[1] - begin[1])
        return tasks / seconds, (point[2] - begin[2]) * 1000 / tasks, (point[3] - begin[3]) * 1000 / tasks, most

    def thumbnails(self, kind, name, args, n):
        """Median time and CPU of one thumbnail, one slot."""
        with Worker(kind, self.broker, self.backend, self.queue, self.media, slots=1) as worker:
            self.send(name, args).get(timeout=60)
            before, took = cpu(worker.pids()), []
            for _ in range(n):
                began = time.perf_counter()
                self.send(name, args).get(timeout=60)
                took.append(time.perf_counter() - began)
            return statistics.median(took), (cpu(worker.pids()) - before) / n


# ---- the table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks: does it run at all?")
    options = parser.parse_args()
    scale = 0.1 if options.quick else 1.0
    counts = {"stalk": int(30000 * scale), "celery": int(8000 * scale)}
    report = {"when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cpus": os.cpu_count(), "slots": 2, "rows": [], "thumbnail": {}}

    with tempfile.TemporaryDirectory(prefix="stalk-bench-") as media:
        for name, broker, backend in SETUPS:
            row = {"setup": name}
            for kind in ("stalk", "celery"):
                say(f"{name}: {kind}")
                bench = Bench(broker, backend, media)
                start = bench.start_to_first(kind)
                latency, idle = bench.idle(kind, int(200 * scale) + 10)
                rate, worker_cpu, server_cpu, busy = bench.waiting(kind, counts[kind])
                told_rate, told_cpu, _, _ = bench.waiting(kind, counts[kind], ["-E"])
                row[kind] = {"tasks_per_s": rate, "cpu_s_per_1000": worker_cpu, "server_cpu_s_per_1000": server_cpu, "idle_mb": idle,
                             "busy_mb": busy, "latency_ms": latency * 1000, "start_s": start, "tasks": counts[kind],
                             "events_tasks_per_s": told_rate, "events_cpu_s_per_1000": told_cpu}
            report["rows"].append(row)
            say(line(row))

        say("thumbnail of 12 megapixels")
        subprocess.run([ROOT / ".build" / "photo", "make", Path(media) / "photo.jpg"], check=True)
        bench, n = Bench(REDIS + "/0", RESULTS, media), max(3, int(15 * scale))
        for key, kind, task, args in [
            ("stalk", "stalk", "stalk.images.thumbnail", ("photo.jpg", "stalk.jpg", (256, 256))),
            ("pillow_draft", "celery", "bench.pillow", ("photo.jpg", "draft.jpg", (256, 256), True)),
            ("pillow", "celery", "bench.pillow", ("photo.jpg", "plain.jpg", (256, 256), False)),
        ]:
            took, used = bench.thumbnails(kind, task, args, n)
            report["thumbnail"][key] = {"ms": took * 1000, "cpu_ms": used * 1000}

    print(table(report))
    (ROOT / "bench" / "latest.json").write_text(json.dumps(report, indent=1) + "\n")


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def ratios(row):
    s, c = row["stalk"], row["celery"]
    return {"tasks/s": s["tasks_per_s"] / c["tasks_per_s"], "CPU": c["cpu_s_per_1000"] / max(s["cpu_s_per_1000"], 1e-9), "memory": c["busy_mb"] / s["busy_mb"],
            "latency": c["latency_ms"] / s["latency_ms"], "start": c["start_s"] / s["start_s"]}


def line(row):
    return row["setup"] + ": " + ", ".join(f"{k} x{v:.1f}" for k, v in ratios(row).items())


def table(report):
    out = [f"\nStalk against Celery prefork, 2 slots each, {report['cpus']} CPUs. Larger is better for Stalk.\n",
           f"{'':18}{'tasks/s':>10}{'CPU':>10}{'memory':>10}{'latency':>10}{'start':>10}"]
    for row in report["rows"]:
        out.append(f"{row['setup']:18}" + "".join(f"{'x%.1f' % v:>10}" for v in ratios(row).values()))
    out.append(f"\n{'':27}{'tasks/s':>9}{'CPU s/1000':>12}{'broker CPU':>12}{'idle MB':>9}{'busy MB':>9}{'p50 ms':>9}{'start s':>9}")
    for row in report["rows"]:
        for kind in ("stalk", "celery"):
            r = row[kind]
            out.append(f"{row['setup']:19}{kind:8}{r['tasks_per_s']:9.0f}{r['cpu_s_per_1000']:12.3f}{r['server_cpu_s_per_1000']:12.3f}"
                       f"{r['idle_mb']:9.1f}{r['busy_mb']:9.1f}{r['latency_ms']:9.2f}{r['start_s']:9.2f}")
    out.append(f"\n{'Task events on (-E)':27}{'tasks/s':>9}{'CPU s/1000':>12}{'of it for events':>18}")
    for row in report["rows"]:
        for kind in ("stalk", "celery"):
            r = row[kind]
            out.append(f"{row['setup']:19}{kind:8}{r['events_tasks_per_s']:9.0f}{r['events_cpu_s_per_1000']:12.3f}"
                       f"{r['events_cpu_s_per_1000'] - r['cpu_s_per_1000']:18.3f}")
    t = report["thumbnail"]
    out.append(f"\nThumbnail of a 12-megapixel JPEG to 256x192, one slot, delay() to get():")
    for key, label in [("stalk", "Stalk"), ("pillow_draft", "Celery + Pillow with draft"), ("pillow", "Celery + Pillow without draft")]:
        factor = "" if key == "stalk" else f"   Stalk is x{t[key]['ms'] / t['stalk']['ms']:.2f} as fast, x{t[key]['cpu_ms'] / t['stalk']['cpu_ms']:.2f} on CPU"
        out.append(f"  {label:31}{t[key]['ms']:8.0f} ms{t[key]['cpu_ms']:8.0f} ms CPU{factor}")
    return "\n".join(out)


if __name__ == "__main__":
    main()
