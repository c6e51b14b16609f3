"""Watches a cluster as Celery's monitors do, and tells what it saw; for interop_test/monitor_events_test.go.

    python monitor.py REPORT        in the Django project's folder; until standard input ends

Every event goes to two rebuilt consumers:

    celery.events.state.State, as Flower and `celery events` feed it
    the exporter that most people mean by celery-exporter (danihodovic's): its field accesses, its regular
    expressions and the sums it does with what it finds, without the metrics

A line of standard input is answered with one of standard output: `scrape NODE...` makes the exporter ask the workers, as
Prometheus does, again until those have answered, for a busy one needs longer than it is given; `ready N` waits until N tasks have ended. That a worker leaves is said unasked.

REPORT is a JSON object: tasks and workers of State, heartbeats as they arrived, what the exporter counted,
its last scrape, and troubles: all that was raised or warned of. Nothing is made up for: an event without a
field that a monitor needs is a trouble.
"""
import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections import Counter, defaultdict

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django

django.setup()

from celery.utils import nodesplit
from celery.utils.time import maybe_iso8601
from project.celery import app

BUCKETS = (0.005, 0.05, 0.5, 5, 50, float("inf"))  # which a histogram compares each value with
EXCEPTION = re.compile(r"^(\w+)\(")
TASK_EVENTS = (
    "task-sent", "task-received", "task-started", "task-succeeded", "task-failed", "task-rejected", "task-revoked", "task-retried",
)
MOST = 500_000  # tasks; Celery's 10,000 do not do for minutes
troubles = []


class Warnings(logging.Handler):
    def emit(self, record):
        troubles.append("%s: %s" % (record.levelname, record.getMessage()))


logging.getLogger("celery").addHandler(Warnings(level=logging.WARNING))
logging.getLogger("kombu").addHandler(Warnings(level=logging.WARNING))


def observe(histogram, labels, value):
    total, buckets = histogram.setdefault(labels, [0.0, [0] * len(BUCKETS)])
    histogram[labels][0] = total + value
    for i, bound in enumerate(BUCKETS):
        if value <= bound:
            buckets[i] += 1
            break
    else:
        raise ValueError("%r is in no bucket" % value)


class Exporter:
    """What celery-exporter keeps, by the labels under which it does."""

    def __init__(self):
        self.state = app.events.State(max_tasks_in_memory=MOST)
        self.counts, self.exceptions = Counter(), Counter()
        self.runtime, self.wait = {}, {}
        self.up, self.active, self.seen = {}, {}, {}
        self.queues = set()
        self.scraped = {}

    def event(self, event):
        kind = event["type"]
        if kind == "worker-heartbeat":
            host = nodesplit(event["hostname"])[1]
            self.seen[host] = event["timestamp"] + (event.get("utcoffset") or 0) * 3600
            worker = self.state.event(event)[0][0]
            self.active[host] = float(worker.active or 0)
            self.up[host] = 1 if worker.alive else 0
        elif kind in ("worker-online", "worker-offline"):
            host = nodesplit(event["hostname"])[1]
            self.seen[host] = event["timestamp"] + (event.get("utcoffset") or 0) * 3600
            self.up[host] = 1 if kind == "worker-online" else 0
        elif kind in TASK_EVENTS:
            self.task(event)

    def task(self, event):
        self.state.event(event)
        task = self.state.tasks.get(event["uuid"])
        # str: of a task that another test began before we listened the name is not known; its label is "None".
        labels = (str(task.name), nodesplit(task.hostname)[1], getattr(task, "queue", "celery"))
        self.counts["%s %s" % (event["type"], task.name)] += 1
        if event["type"] == "task-failed":
            found = EXCEPTION.match(task.exception)
            self.exceptions["%s %s" % (task.name, found.group(1) if found else "UnknownException")] += 1
        if event["type"] == "task-started" and task.sent is not None:
            baseline = task.sent
            eta = maybe_iso8601(task.eta)
            if eta is not None:
                baseline = max(baseline, eta.timestamp())
            observe(self.wait, labels, max(0.0, task.started - baseline))
        if event["type"] == "task-succeeded":
            observe(self.runtime, labels, task.runtime)

    def heard(self, nodes):
        return all(node in self.scraped["concurrency"] and node in self.scraped["listed"] for node in nodes)

    def scrape(self):
        processes, workers = defaultdict(int), defaultdict(int)
        concurrency = {
            worker: len(stats["pool"].get("processes", []))
            for worker, stats in (app.control.inspect().stats() or {}).items()
        }
        listed = app.control.inspect().active_queues() or {}
        for worker, queues in listed.items():
            for queue in queues:
                name = queue["name"]
                self.queues.add(name)
                workers[name] += 1
                processes[name] += concurrency.get(worker, 0)
        self.scraped = {
            "processes": {q: float(processes[q]) for q in self.queues}, "workers": {q: float(workers[q]) for q in self.queues},
            "concurrency": concurrency, "listed": list(listed),
        }


def main(path):
    state, exporter = app.events.State(max_tasks_in_memory=MOST), Exporter()
    beats, kinds, seen = defaultdict(list), Counter(), []
    lock = threading.Lock()

    def on_event(event):
        with lock:
            try:
                kinds["%s %s" % (event["hostname"], event["type"])] += 1
                if event["type"] == "worker-heartbeat":
                    beats[event["hostname"]].append(
                        [time.time(), event["timestamp"], event["freq"], event.get("active"), event.get("processed")])
                for field, want in (("timestamp", float), ("clock", int), ("pid", int), ("utcoffset", (int, float))):
                    if not isinstance(event[field], want) or isinstance(event[field], bool):
                        troubles.append("%s of %r" % (field, event))
                seen.append([event["type"], event.get("uuid"), event["hostname"]])
                state.event(dict(event))
                exporter.event(dict(event))
                if event["type"] == "worker-offline":
                    print("offline", event["hostname"], flush=True)
            except Exception:
                troubles.append("%r: %s" % (event, traceback.format_exc()))

    def capture():
        try:
            with app.connection_for_read() as connection:
                receiver = app.events.Receiver(connection, handlers={"*": on_event}, app=app)
                consuming = receiver.on_consume_ready

                def ready(*args, **kwargs):
                    consuming(*args, **kwargs)
                    print("capturing", flush=True)

                receiver.on_consume_ready = ready
                receiver.capture(limit=None, timeout=None, wakeup=True)
        except Exception:
            troubles.append("the receiver ended: " + traceback.format_exc())

    threading.Thread(target=capture, daemon=True).start()
    for line in sys.stdin:
        order, *rest = line.split()
        if order == "ready":
            end = time.monotonic() + 50
            while sum(task.ready for task in list(state.tasks.values())) < int(rest[0]) and time.monotonic() < end:
                time.sleep(0.05)
        else:
            end = time.monotonic() + 50
            try:
                exporter.scrape()
                while not exporter.heard(rest) and time.monotonic() < end:
                    exporter.scrape()
            except Exception:
                troubles.append("scrape: " + traceback.format_exc())
        print("did", line.strip(), flush=True)
    with lock:
        tasks = {}
        for uuid, task in state.tasks.items():
            tasks[uuid] = {
                name: getattr(task, name, None) for name in (
                    "name", "state", "args", "kwargs", "result", "runtime", "exception", "traceback", "retries", "eta", "expires",
                    "sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "root_id", "parent_id", "queue",
                )
            }
            tasks[uuid]["worker"] = task.worker.hostname if task.worker else None
            tasks[uuid]["ready"] = task.ready
        report = {
            "tasks": tasks, "beats": beats, "kinds": kinds, "troubles": troubles, "seen": seen,
            "workers": {n: {"alive": w.alive, "active": w.active, "processed": w.processed, "loadavg": w.loadavg, "software": w.sw_ident}
                        for n, w in state.workers.items()},
            "exporter": {
                "counts": exporter.counts, "exceptions": exporter.exceptions, "up": exporter.up, "active": exporter.active,
                "runtime": {" ".join(map(str, k)): v[0] for k, v in exporter.runtime.items()}, "waits": len(exporter.wait), **exporter.scraped,
            },
        }
        with open(path, "w") as f:
            json.dump(report, f)
    os._exit(0)  # the receiver waits for ever


main(sys.argv[1])
