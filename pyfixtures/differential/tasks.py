"""The demo tasks in Python, served by `celery -A differential.tasks worker`.

All are bound, because a Python worker calls an unbound errback of two arguments in its own process instead of
publishing it, which a worker in another language cannot.
"""
import builtins
import json
import os
import time

from celery import Celery

app = Celery("differential", broker=os.environ["STALK_BROKER"], backend=os.environ["STALK_BACKEND"])
app.conf.update(json.loads(os.environ.get("STALK_SETTINGS") or "{}"))


@app.task(name="demo.add", bind=True)
def add(self, x, y=1):
    return x + y


@app.task(name="demo.echo", bind=True)
def echo(self, *args, **kwargs):
    return {"args": list(args), "kwargs": kwargs}


@app.task(name="demo.fail", bind=True)
def fail(self, message="boom", exc_type="ValueError"):
    raise getattr(builtins, exc_type)(message)


@app.task(name="demo.retry", bind=True, max_retries=None)
def retry(self, times=1, countdown=0):
    if self.request.retries < times:
        raise self.retry(countdown=countdown)
    return self.request.retries


@app.task(name="demo.sleep", bind=True)
def sleep(self, seconds=1):
    time.sleep(seconds)
    return seconds
