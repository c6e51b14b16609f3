"""Runs Celery client code for the interop tests, which are written in Go.

One JSON object a line on standard input, {"id", "session", "code", "args"}; one on standard output,
{"id", "value"} or {"id", "error", "kind"}, in the order in which they finish. A session is a thread with a
namespace of its own: what one call assigns the next one sees, and the rpc backend, whose reply queue belongs
to a thread, works. Threads stay until the end: a new one could get the identity of one that has ended, and
with it Celery's name for its reply queue, which is then consumed by neither. Code answers by assigning to `value`, which must be JSON. End of input ends the process.
"""
import contextlib
import gc
import json
import os
import queue
import socket
import sys
import threading
import traceback

# Celery before 5.5 unsubscribes in AsyncResult.__del__: collected while redis-py holds its lock, the thread waits for itself.
gc.disable()

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django

django.setup()

import celery
from celery.backends.rpc import ResultConsumer

if celery.__version__.startswith("5.6."):
    # Its rpc client takes a second without a result for a lost connection, and connects anew: what arrives just then is
    # lost, whoever sent it. 5.7 waits on, as it does here.
    reconnecting = ResultConsumer.reconnect_on_error

    @contextlib.contextmanager
    def patient(consumer):
        timeout = None
        with reconnecting(consumer):
            try:
                yield
            except socket.timeout as exc:
                timeout = exc
        if timeout:
            raise timeout

    ResultConsumer.reconnect_on_error = patient

from project.celery import app

app.finalize()
app.loader.import_default_modules()
out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever prints goes to the log, not among the answers
writing = threading.Lock()

PRELUDE = """
import datetime, decimal, math, time, uuid
from celery import signature, group, states
from celery.exceptions import *
from celery.result import AsyncResult
from project.celery import app
from shop.tasks import *

def wait(condition, seconds=60):
    "Polls until the condition holds; returns what it returned."
    end = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        assert time.monotonic() < end, "waited %s s in vain" % seconds
        time.sleep(0.02)

def left(queue):
    "How many messages wait in a queue."
    with app.connection_for_read() as connection:
        try:
            return connection.default_channel.queue_declare(queue, passive=True).message_count
        except connection.channel_errors: # there is none; Redis has no empty queues
            return 0

def raises(kind, text, call, *args, **kwargs):
    "The exception that the call raises; checks its exact class (by name or type) and its text."
    try:
        got = call(*args, **kwargs)
    except BaseException as exc:
        found = type(exc)
        assert found is kind or found.__name__ == kind, "%r is a %s, want %s" % (exc, found, kind)
        assert text is None or text == str(exc), "text is %r, want %r" % (str(exc), text)
        return exc
    raise AssertionError("returned %r, want %s" % (got, kind))
"""


def answer(**fields):
    with writing:
        out.write(json.dumps(fields) + "\n")
        out.flush()


def serve(calls):
    space = {"__name__": "session"}
    exec(compile(PRELUDE, "prelude", "exec"), space)
    while True:
        call = calls.get()
        space.update(call.get("args") or {})
        space.pop("value", None)
        try:
            exec(compile(call["code"], "test", "exec"), space)
            answer(id=call["id"], value=space.get("value"))
        except BaseException as exc:
            answer(id=call["id"], error=traceback.format_exc(), kind=type(exc).__name__)


sessions = {}
for line in sys.stdin:
    call = json.loads(line)
    name = call["session"]
    if name not in sessions:
        sessions[name] = queue.Queue()
        threading.Thread(target=serve, args=(sessions[name],), daemon=True).start()
    sessions[name].put(call)
os._exit(0)  # sessions may hang in a call nobody waits for any more
