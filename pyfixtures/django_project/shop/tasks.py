"""Tasks of the shop: stubs for those that Go runs, and some of Python's own.

A stub gives the name and the parameters; its body never runs, because its queue is served by Stalk.
With STALK_SERVE_DEMO=1 the bodies do run: then a Python worker can take over what Stalk left.
"""
import builtins
import os
import signal
import time

from celery import shared_task
from celery.exceptions import Ignore, Reject
from django.conf import settings

from .errors import PaymentDeclined, Refused


def _go():
    if not settings.STALK_SERVE_DEMO:
        raise NotImplementedError("served by Go")


@shared_task(name="demo.add")
def add(x, y=1):
    _go()
    return x + y


@shared_task(name="demo.echo")
def echo(*args, **kwargs):
    _go()
    return {"args": list(args), "kwargs": kwargs}


@shared_task(name="demo.sleep")
def sleep(seconds=1):
    _go()
    time.sleep(seconds)
    return seconds


@shared_task(name="demo.burn")
def burn(seconds=1):
    _go()
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


@shared_task(name="demo.fail")
def fail(message="boom", exc_type="ValueError"):
    _go()
    raise getattr(builtins, exc_type)(message)


@shared_task(name="demo.retry", bind=True, max_retries=None)
def retry(self, times=1, countdown=0):
    _go()
    if self.request.retries < times:
        raise self.retry(countdown=countdown)
    return self.request.retries


@shared_task(name="demo.progress", bind=True)
def progress(self, steps=5, seconds=0.1):
    _go()
    for i in range(steps):
        self.update_state(state="PROGRESS", meta={"done": i, "total": steps})
        time.sleep(seconds)
    return steps


@shared_task(name="shop.pay")
def pay(order, cents):
    _go()
    raise PaymentDeclined(order, cents)


@shared_task(name="shop.refund")
def refund(order, cents):
    _go()
    raise Refused.Finally(order, cents)


@shared_task(name="shop.audit")
def audit(order, cents):
    _go()
    raise type("LedgerClosed", (Exception,), {"__module__": "billing.internal"})(order, cents)


@shared_task(name="shop.ship")
def ship(order, cents):
    _go()
    raise type("NoSuchClass", (Exception,), {"__module__": "shop.errors"})(order, cents)


@shared_task(name="shop.shelf")
def shelf(index):
    _go()
    raise RuntimeError("index out of range [%d]" % index)


@shared_task(name="shop.count")
def count(seconds):
    _go()
    time.sleep(seconds)
    return seconds


@shared_task(name="shop.drop", bind=True)
def drop(self, why):
    _go()
    raise Reject(why, requeue=False)


@shared_task(name="shop.skip")
def skip():
    _go()
    raise Ignore


@shared_task(name="stalk.images.thumbnail")
def thumbnail(source, target=None, size=(256, 256), fit="inside", format=None, quality=85, focal=None, crop=None, sharpen=None,
              max_bytes=None, progressive=False, subsampling="4:2:0", metadata="drop", icc="keep", frames="first"):
    raise NotImplementedError("served by Go")


@shared_task(name="stalk.images.variants")
def variants(source, variants):
    raise NotImplementedError("served by Go")


@shared_task
def total(numbers):
    """One of Python's own: stays on Python's queue."""
    return sum(numbers)


def _box(self, how, path=None):
    """What no process survives; Stalk runs it isolated."""
    _go()
    if path:
        if os.path.exists(path):
            return "second"
        open(path, "w").close()
    if how == "exit":
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "deaf":
        self.update_state(state="PROGRESS", meta=os.getpid())
        while True:
            time.sleep(3600)
    if how == "progress":
        for i in range(3):
            self.update_state(state="PROGRESS", meta={"done": i})
    if how == "spawn":
        return add.apply_async((20, 22), queue=self.request.delivery_info["routing_key"]).id
    if how == "retry":
        if self.request.retries < 2:
            raise self.retry(exc=RuntimeError("not yet"), countdown=0)
        return "third"
    if how == "soft":
        while True:
            time.sleep(0.1)
    return how


@shared_task(name="shop.box", bind=True, acks_late=True)
def box(self, how, path=None):
    return _box(self, how, path)


@shared_task(name="shop.box.requeued", bind=True, acks_late=True, reject_on_worker_lost=True)
def box_requeued(self, how, path=None):
    return _box(self, how, path)


@shared_task(name="shop.box.retried", bind=True, acks_late=True, retry_on_worker_lost=True, default_retry_delay=1, max_retries=1)
def box_retried(self, how, path=None):
    return _box(self, how, path)
