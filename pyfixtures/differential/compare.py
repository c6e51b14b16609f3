"""Runs canvases on each worker and lists what differs: called from Go, in the driver process."""
import random
import time

import redis
from celery import Celery
from celery.result import GroupResult

from . import canvases, documented, observe, record

REST = 0.7  # seconds without any movement after which the workers are taken to be done


class Side:
    """One way to run every canvas: on one worker, or mixed on both."""

    def __init__(self, name, queues, broker, backend, settings):
        self.name, self.queues = name, queues
        self.app = Celery("differential-" + name, broker=broker, backend=backend, set_as_current=False)
        self.app.conf.update(settings or {}, task_default_queue=queues[0])
        self.runs = {}

    def send(self, number, case, seed):
        prefix = "%s%s." % (self.name[0], number)
        choice, run = random.Random("%s/%s/queue" % (seed, number)), Run(prefix)

        def queue(label):
            run.queues[prefix + label] = chosen = choice.choice(self.queues)
            # Some by the settings of whoever publishes.
            return None if len(self.queues) == 1 and choice.random() < 0.3 else chosen

        self.app.set_current()
        try:
            run.result = canvases.Builder(self.app, prefix, queue)(case["canvas"]).apply_async(tuple(case["args"]), dict(case["kwargs"]))
        except Exception as exc:
            run.refused = "%s: %s" % (type(exc).__name__, exc)  # by the client, which is the same for all
        self.runs[number] = run


def leaves(result):
    """The ids a client waits for when it asks for a result."""
    if result is None:
        return []
    if isinstance(result, GroupResult):
        return [id for r in result.results for id in leaves(r)]
    return [result.id]


class Run:
    def __init__(self, prefix):
        self.prefix, self.result, self.refused, self.queues = prefix, None, None, {}
        self.messages, self.keys, self.case = [], [], None


class Comparison:
    def __init__(self, broker, backend, python, stalk, settings, exchange=""):
        self.client = redis.Redis.from_url(backend)
        self.sides = [Side("python", [python], broker, backend, settings), Side("stalk", [stalk], broker, backend, settings),
                      Side("mixed", [python, stalk], broker, backend, settings)]
        self.monitor = record.Monitor(backend, [python, stalk])
        self.source = record.Tap(broker, exchange, [python, stalk]) if exchange else self.monitor

    def generated(self, seed, numbers, seconds, promise):
        """Runs the canvases of these numbers on all sides; what differs, and some figures.

        promise: the second side is Stalk, which leaves nobody waiting.
        """
        cases = {n: canvases.generate("%s/%d" % (seed, n), self.source is self.monitor) for n in numbers}
        figures = self.run(cases, seed, seconds)
        differing, further = [], 0
        for number, case in cases.items():
            seen = {side.name: documented.alike(self.seen(side.runs[number])) for side in self.sides}
            want = seen.pop("python")
            for name, got in seen.items():
                told = documented.told(want, got)
                further += bool(told)
                lines = documented.further(want, got, case["canvas"]) if told else observe.differences(*documented.repeated(want, got))
                if promise and name == "stalk" and not documented.hopeless(case["canvas"]):
                    lines += self.waiting(self.sides[1].runs[number])
                if lines:
                    differing.append({"side": name, "number": number, "canvas": canvases.text(case["canvas"]), "args": [case["args"], case["kwargs"]], "lines": lines})
        self.forget()
        return {**figures, "differences": differing, "further": further}

    def documented(self, seconds):
        """Runs documented.CASES; what differs from what is written there."""
        # RabbitMQ delivers what has expired only to a worker that happens to be waiting.
        known = {"x%d" % i: c for i, c in enumerate(documented.CASES) if "late" not in c.celery or self.source is self.monitor}
        figures = self.run({n: {"canvas": c.canvas, "args": [], "kwargs": {}} for n, c in known.items()}, "", seconds)
        differing = []
        for number, case in known.items():
            for side, want in zip(self.sides, (case.celery, case.stalk)):
                seen = self.seen(side.runs[number])
                states = {name[7:].split("@")[0]: value["status"] for name, value in seen.items() if name.startswith("result ")}
                got = {label: states.get(label, "PENDING") for label in want}
                if got != want:
                    lines = ["%s: want %s, got %s" % (label, want[label], got[label]) for label in want if got[label] != want[label]]
                    differing.append({"side": side.name, "number": number, "canvas": case.title + ": " + canvases.text(case.canvas), "args": [], "lines": lines})
        self.forget()
        return {**figures, "differences": differing, "further": 0}

    def run(self, cases, seed, seconds):
        start = time.monotonic()
        for number, case in cases.items():
            for side in self.sides:
                side.send(number, case, seed)
        unfinished = self.settle(time.monotonic() + seconds)
        self.collect(cases)
        return {"unfinished": unfinished, "cases": len(cases), "messages": sum(len(r.messages) for s in self.sides for r in s.runs.values()),
                "refused": sum(r.refused is not None for r in self.sides[0].runs.values()), "seconds": time.monotonic() - start}

    def settle(self, deadline):
        """Waits until every message has ended; returns the labels of those that have not."""
        while True:
            self.monitor.rest(REST)
            last = {m.id: m for m in self.source.messages() if not m.headers.get("ignore_result")}
            metas = self.client.mget(["celery-task-meta-" + id for id in last]) if last else []
            left = [m.label for m, meta in zip(last.values(), metas)
                    if meta is None or not any(b'"status": "%s"' % s in meta for s in (b"SUCCESS", b"FAILURE", b"REVOKED"))]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.2)

    def collect(self, cases):
        """Gives every message and every key to its run."""
        owner, runs = {}, {r.prefix: r for s in self.sides for r in s.runs.values()}
        for m in self.source.messages():
            runs[m.label.split(".")[0] + "."].messages.append(m)
        for side in self.sides:
            for number, run in side.runs.items():
                errbacks = observe.labels_of(cases[number]["canvas"], "link_error")
                run.case = observe.Case(run.prefix, run.messages, side.app.thread_oid, errbacks, self.source.ordered)
                owner.update((id, run) for id in run.case.all_ids())
        for key in self.client.scan_iter("celery-task*", 1000):
            key = key.decode()
            found = observe.SUFFIX.match(key)
            if found and found[1] in owner:
                owner[found[1]].keys.append(key)

    def seen(self, run):
        return {"refused": run.refused} if run.refused else run.case.observe(self.client, sorted(run.keys), run.queues)

    def waiting(self, run):
        """Whom the client waits for although nothing will come."""
        ids = [id for id in leaves(run.result) if "celery-task-meta-" + id not in run.keys]
        return ["the client waits for %s for ever" % run.case.name(id) for id in ids]

    def forget(self):
        """Makes room for the next canvases. Results that others have left are found again and do no harm."""
        for side in self.sides:
            for run in side.runs.values():
                if run.keys:
                    self.client.delete(*run.keys)
            side.runs = {}
        self.source.clear()

    def close(self):
        self.source.close()
