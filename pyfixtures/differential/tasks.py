"""The demo tasks in Python, served by `celery -A differential.tasks worker`.

Arguments are not checked before a task is published: a Python worker can do that only for tasks that it has itself.
"""
import builtins
import json
import os
import time

from celery import Celery

app = Celery("differential", broker=os.environ["STALK_BROKER"], backend=os.environ["STALK_BACKEND"], strict_typing=False)
app.conf.update(json.loads(os.environ.get("STALK_SETTINGS") or "{}"))


@app.task(name="demo.add")
def add(x, y=1):
    return x + y


@app.task(name="demo.echo")
def echo(*args, **kwargs):
    return {"args": list(args), "kwargs": kwargs}


@app.task(name="demo.fail")
def fail(message="boom", exc_type="ValueError"):
    raise getattr(builtins, exc_type)(message)


@app.task(name="demo.retry", bind=True, max_retries=None)
def retry(self, times=1, countdown=0):
    if self.request.retries < times:
        raise self.retry(countdown=countdown)
    return self.request.retries


@app.task(name="demo.sleep")
def sleep(seconds=1):
    time.sleep(seconds)
    return seconds
