"""The Python side of the soak (interop_test/soak_test.go): the tasks, and a client that knows what each must return.

    celery -A soak worker    runs the tasks, with late acknowledgement
    python soak.py           sends tasks of every kind and waits for each result

Each task means the same in Go (interop_test/soakworker). The client prints one JSON object a line: progress, "drained"
when no message is left, and, when standard input ends, the report. Signatures bear ids of our own, so that what each id
must come to is known before it is sent.
"""
import gc
import json
import os
import random
import sys
import threading
import time
import traceback
import uuid
from datetime import datetime, timezone

import celery
from celery import Celery, Task, chain, chord, group
from celery.exceptions import Reject, TaskRevokedError, TimeoutError

ENV = json.loads(os.environ["SOAK"])
app = Celery("soak", broker=ENV["broker"], backend=ENV["backend"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_track_started=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options=ENV["transport_options"],
    result_expires=3600,
)
GO, PY, BOTH = ENV["go"], ENV["py"], ENV["both"]
CHORDS = not ENV["backend"].startswith("rpc")
ledger = os.open(ENV["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(*words):
    os.write(ledger, (" ".join(map(str, words)) + "\n").encode())


def pause(ms):
    time.sleep(ms / 1000)


class Noted(Task):
    """Writes down when a run begins and ends, outside of both brokers."""

    def __call__(self, *args, **kwargs):
        r = self.request
        note("B", r.id, r.retries, os.getpgrp(), self.name)
        try:
            return self.run(*args, **kwargs)
        finally:
            note("E", r.id, r.retries, os.getpgrp(), self.name)


@app.task(name="soak.add", base=Noted)
def add(x, y=0, ms=0):
    pause(ms)
    return x + y


@app.task(name="soak.total", base=Noted)
def total(numbers, ms=0):
    pause(ms)
    return sum(total.run(n) if isinstance(n, list) else n for n in numbers)


@app.task(name="soak.fail", base=Noted)
def fail(text, ms=0):
    pause(ms)
    raise ValueError(text)


@app.task(name="soak.retry", base=Noted, bind=True, max_retries=None)
def retry(self, times, countdown=0):
    if self.request.retries < times:
        raise self.retry(countdown=countdown)
    return self.request.retries


@app.task(name="soak.progress", base=Noted, bind=True)
def progress(self, x, ms=0):
    self.update_state(state="PROGRESS", meta={"done": 1})
    pause(ms)
    self.update_state(state="PROGRESS", meta={"done": 2})
    return x


@app.task(name="soak.replace", base=Noted, bind=True)
def replace(self, x):
    raise self.replace(chain(add.s(x, 1).set(queue=PY), add.s(1).set(queue=PY)))


@app.task(name="soak.requeue", base=Noted, bind=True)
def requeue(self, x):
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("later", requeue=True)
    return x


@app.task(name="soak.reject", base=Noted)
def reject(text):
    raise Reject(text, requeue=False)


@app.task(name="soak.note", base=Noted)
def heard(failed):
    note("N", failed)


# What an id must come to: a value, or the type and text of an exception.


class Fails:
    def __init__(self, kind, text):
        self.kind, self.text = kind, text

    def check(self, state, got):
        return state == "FAILURE" and type(got).__name__ == self.kind and self.text in str(got)


class Revoked:
    """Revoked, or run all the same: the worker that knew of it may have been killed."""

    def __init__(self, value):
        self.value = value

    def check(self, state, got):
        return state == "REVOKED" and isinstance(got, TaskRevokedError) or state == "SUCCESS" and got == self.value


class Child:
    """The id of a task whose own result is checked, too."""

    def __init__(self, value):
        self.value = value

    def check(self, state, got):
        return state == "SUCCESS" and app.AsyncResult(got).get(timeout=60) == self.value


PARTED = {"chorded", "chord_then_chain", "nested", "chain_into_chord", "failed_chord", "go_parts_python_body", "python_parts_go_body"}


class Client:
    def __init__(self):
        self.random = random.Random(ENV["seed"])
        self.expect = {}  # id: what it must come to
        self.kind = {}  # id: kind of root
        self.root = {}  # id: number of root
        self.queue = {}  # id: who takes it: go, py or both
        self.sent = {}  # id: when
        self.notes = []  # ids whose failure an errback must hear of
        self.results = {}  # id: AsyncResult
        self.current, self.number_of_root = None, 0
        self.enough, self.stopped = threading.Event(), threading.Event()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        """Standard input: a line when there have been kills enough, and its end when the workers have ended."""
        sys.stdin.readline()
        self.enough.set()
        sys.stdin.read()
        self.stopped.set()

    # Building blocks: a signature with an id, and what it must come to.

    def put(self, sig, want, queue=None):
        tid = str(uuid.uuid4())
        queue = queue or self.anywhere()
        sig = sig.set(task_id=tid, queue=queue)
        self.queue[tid] = {GO: "go", PY: "py", BOTH: "both"}[queue]
        if not CHORDS: # a callback is sent by a worker, whose own replies would be meant
            sig.set(reply_to=app.thread_oid)
        self.expect[tid], self.kind[tid], self.root[tid] = want, self.current, self.number_of_root
        return sig

    def anywhere(self):
        if self.current in PARTED and not ENV["shared_parts"]:
            return self.random.choice([GO, GO, PY] if ENV["python"] else [GO])
        return self.random.choice([GO, GO, BOTH, BOTH, PY] if ENV["python"] else [GO])

    def ms(self):
        return self.random.choice([0, 1, 5, 20, 50, 100])

    def number(self):
        return self.random.randrange(1000)

    def adding(self, queue=None):
        a, b = self.number(), self.number()
        return self.put(add.s(a, b, self.ms()), a + b, queue), a + b

    def chaining(self, queue=None, before=None):
        """A chain; with before it goes on from that value."""
        steps, value = [], before
        for i in range(self.random.randrange(2, 5)):
            if value is None:
                sig, value = self.adding(queue)
            else:
                y = self.number()
                value += y
                sig = self.put(add.s(y, self.ms()), value, queue)
            steps.append(sig)
        return chain(*steps), value

    def chording(self, part=None, body=None):
        """A chord whose parts are tasks and chains."""
        parts, values = [], []
        for i in range(self.random.randrange(2, 8)):
            sig, value = self.chaining(part) if self.random.random() < 0.3 else self.adding(part)
            parts.append(sig)
            values.append(value)
        return chord(parts, self.put(total.s(self.ms()), sum(values), body)), sum(values)

    # Roots.

    def one(self):
        return self.adding()[0]

    def chained(self):
        return self.chaining()[0]

    def grouped(self):
        return group([self.adding()[0] for i in range(self.random.randrange(2, 10))])

    def fifty(self):
        return group([self.adding()[0] for i in range(50)])

    def chorded(self):
        return self.chording()[0]

    def go_parts_python_body(self):
        return self.chording(GO, PY)[0]

    def python_parts_go_body(self):
        return self.chording(PY, GO)[0]

    def chord_then_chain(self):
        head, value = self.chording()
        tail, _ = self.chaining(before=value)
        return head | tail

    def nested(self):
        a, b, c = (self.adding() for i in range(3))
        inner, value = self.chording()
        return chord([a[0], group(b[0], c[0]), inner], self.put(total.s(), a[1] + b[1] + c[1] + value))

    def chain_into_chord(self):
        first, value = self.chaining()
        ys = [self.number() for i in range(3)]
        parts = [self.put(add.s(y, self.ms()), value + y) for y in ys]
        return chain(first, chord(parts, self.put(total.s(), 3 * value + sum(ys))))

    def failed_chord(self):
        text = "part %d" % self.number()
        parts = [self.adding()[0], self.put(fail.s(text), Fails("ValueError", text)), self.adding()[0]]
        return chord(parts, self.put(total.s(), Fails("ChordError", text)))

    def failing(self):
        text = "boom %d" % self.number()
        sig = self.put(fail.s(text, self.ms()), Fails("ValueError", text))
        tid = sig.options["task_id"]
        self.notes.append(tid)
        return sig.on_error(heard.s().set(queue=GO, task_id=str(uuid.uuid4())))

    def linked(self):
        sig, value = self.adding()
        y = self.number()
        sig.link(self.put(add.s(y), value + y))
        return sig

    def retried(self):
        n = self.random.randrange(1, 4)
        # A Python worker stores RETRY after it has published the retry: now and then over the end of the next run, for good.
        return self.put(retry.s(n, self.random.choice([0, 0, 0, 1])), n, GO)

    def later(self):
        sig, _ = self.adding()
        return sig.set(countdown=2)

    def revoked(self):
        a = self.number()
        return self.put(add.s(a, 1), Revoked(a + 1), GO).set(countdown=3)

    def progressing(self):
        x = self.number()
        return self.put(progress.s(x, self.ms()), x)

    def replaced(self):
        x = self.number()
        return self.put(replace.s(x), x + 2)

    def requeued(self):
        x = self.number()
        return self.put(requeue.s(x), x)

    def rejected(self):
        return self.put(reject.s("no"), Fails("Reject", "no"), GO)

    def spawned(self):
        x = self.number()
        return self.put(app.signature("soak.spawn", args=(x,)), Child(x + 1), GO)

    def roots(self):
        kinds = [(self.one, 60), (self.chained, 12), (self.grouped, 4), (self.failing, 5), (self.linked, 5), (self.retried, 8),
                 (self.later, 4), (self.revoked, 2), (self.progressing, 4), (self.requeued, 3), (self.fifty, 0.2)]
        if ENV["stalk"]: # Celery leaves who waits for a rejected task waiting
            kinds.append((self.rejected, 2))
        if CHORDS: # and over rpc the replacement's reply goes to the worker that replaced
            kinds += [(self.replaced, 3), (self.chorded, 6), (self.chord_then_chain, 3), (self.nested, 2), (self.chain_into_chord, 3), (self.failed_chord, 2)]
            if ENV["stalk"]:
                kinds.append((self.spawned, 2))
            if ENV["python"]:
                kinds += [(self.go_parts_python_body, 3), (self.python_parts_go_body, 3)]
        if ENV["kinds"]:
            kinds = [(make, weight) for make, weight in kinds if make.__name__ in ENV["kinds"]]
        makers, weights = zip(*kinds)
        while len(self.expect) < ENV["tasks"] or not self.enough.is_set() and len(self.expect) < 2 * ENV["tasks"]:
            before = set(self.expect)
            make = self.random.choices(makers, weights)[0]
            self.current = make.__name__
            self.number_of_root += 1
            sig = make()
            yield self.current, sig, [tid for tid in self.expect if tid not in before]

    # Sending and waiting.

    def send(self, kind, sig, ids):
        now = time.time()
        for tid in ids:
            self.sent[tid] = now
            self.results[tid] = app.AsyncResult(tid)
            if not CHORDS: # a reply is kept for who has asked for it
                app.backend.add_pending_result(self.results[tid])
        for attempt in range(20):
            try:
                sig.apply_async()
                break
            except Exception: # a broker that is away; ids are the same at the next attempt
                if attempt == 19:
                    raise
                time.sleep(0.5)
        if kind == "revoked":
            app.control.revoke(ids)

    def wait(self, tid, timeout, report):
        result = self.results[tid]
        try:
            got = result.get(timeout=timeout, propagate=False)
        except TimeoutError:
            return False
        want, state = self.expect[tid], result.state
        del self.results[tid]
        right = want.check(state, got) if hasattr(want, "check") else state == "SUCCESS" and got == want
        if not right:
            report["wrong"].append({"id": tid, "kind": self.kind[tid], "state": state, "got": repr(got),
                                    "want": repr(getattr(want, "__dict__", want)), "traceback": result.traceback})
        if result.state == "REVOKED":
            report["revoked"] += 1
        done = result.date_done
        if done:
            if isinstance(done, str):
                done = datetime.fromisoformat(done)
            if done.tzinfo is None:
                done = done.replace(tzinfo=timezone.utc)
            took = done.timestamp() - self.sent[tid]
            if took > report["longest"]:
                report["longest"], report["longest_id"], report["longest_kind"] = took, tid, self.kind[tid]
        return True

    def run(self):
        report = {"lost": [], "wrong": [], "revoked": 0, "longest": 0.0, "longest_id": "", "longest_kind": "",
                  "celery": celery.__version__, "roots": 0, "kinds": {}}
        missing, waiting, said, done = [], [], time.time(), 0
        queue = self.roots()
        more = True
        while more or waiting:
            while more and len(waiting) < ENV["window"]:
                root = next(queue, None)
                more = root is not None
                if more:
                    self.send(*root)
                    report["roots"] += 1
                    report["kinds"][root[0]] = report["kinds"].get(root[0], 0) + 1
                    waiting += root[2]
            if waiting:
                tid = waiting.pop(0)
                if self.wait(tid, max(0.2, self.sent[tid] + ENV["patience"] - time.time()), report):
                    done += 1
                else:
                    missing.append(tid)
            if time.time() - said > 0.2:
                said = time.time()
                say(sent=len(self.sent), done=done, missing=[self.kind[tid] for tid in missing])
        last = time.time() # that something came; a busy machine is waited for as long as it gets on
        while missing and time.time() - last < ENV["patience"]:
            tid = missing.pop(0)
            if self.wait(tid, 0.2, report):
                done, last = done + 1, time.time()
            else:
                missing.append(tid)
            if time.time() - said > 1:
                said = time.time()
                say(sent=len(self.sent), done=done, missing=[self.kind[tid] for tid in missing])
        report["tasks"] = len(self.expect)
        report["ids"], report["notes"] = self.kind, self.notes
        report["root"], report["queue"] = self.root, self.queue
        left, last = self.left(), time.time()
        while any(left.values()) and time.time() - last < ENV["patience"]:
            time.sleep(0.2)
            before, left = left, self.left()
            if left != before:
                last = time.time()
                say(sent=len(self.sent), done=done, missing=[self.kind[tid] for tid in missing], left=left)
        say(drained=True, left=left)
        self.stopped.wait()
        for tid in missing: # no worker is left: what has no result now never gets one
            if not self.wait(tid, 0.2, report):
                report["lost"].append({"id": tid, "kind": self.kind[tid], "state": self.results[tid].state})
        report["left"] = self.left()
        report["held"] = "unacked" in report["left"]
        if CHORDS: # nothing replaces a result afterwards
            changed = []
            for tid, want in self.expect.items():
                if not hasattr(want, "check"):
                    meta = app.backend._get_task_meta_for(tid)
                    if (meta["status"], meta["result"]) != ("SUCCESS", want):
                        changed.append({"id": tid, "kind": self.kind[tid], "got": repr(meta)})
            lost = {l["id"] for l in report["lost"]}
            wrong = {w["id"] for w in report["wrong"]}
            report["wrong"] += [c for c in changed if c["id"] not in lost | wrong]
        say(report=report)

    def left(self):
        """Messages that wait or are held, by place."""
        with app.connection_for_read() as connection:
            channel, left = connection.default_channel, {}
            for queue in (GO, PY, BOTH):
                try:
                    left[queue] = channel.queue_declare(queue, passive=True).message_count
                except connection.channel_errors: # there is none
                    channel = connection.channel()
            if hasattr(channel, "client"):
                left["unacked"] = channel.client.hlen("unacked")
                left["unacked_index"] = channel.client.zcard("unacked_index")
            return left


def say(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Celery before 5.5 unsubscribes in AsyncResult.__del__: collected while redis-py holds its lock, the thread waits for itself.
    gc.disable()
    try:
        Client().run()
    except BaseException:
        say(error=traceback.format_exc())
        raise
