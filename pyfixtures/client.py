"""The Python worker that answers the Go client in client/python_test.go.

    BROKER=... BACKEND=... QUEUE=... celery -A client worker -P threads -c 4

It serves one queue, which it deletes when it ends.
"""

import os
import time

from celery import Celery
from celery.exceptions import Reject
from celery.signals import worker_shutdown

app = Celery("client", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.task_default_queue = os.environ["QUEUE"]
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True


@app.task
def add(x, y=1):
    return x + y


@app.task
def total(numbers):
    return sum(sum(n) if isinstance(n, list) else n for n in numbers)


@app.task
def fail(*args):
    raise ValueError("no", len(args))


@app.task
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@app.task(ignore_result=True)
def drop():
    raise Reject("dropped", requeue=False)


@app.task(bind=True)
def told(self, *args):
    """What the message said, as far as a client decides it."""
    r = self.request
    return {
        "id": r.id, "root": r.root_id, "parent": r.parent_id, "group": r.group, "origin": r.origin,
        "priority": r.delivery_info.get("priority"), "limits": r.timelimit, "headers": (r.headers or {}).get("mine"),
        "args": list(args), "reply": bool(r.reply_to),
    }


@app.task
def spawn(n):
    """Sends more tasks, which its record lists as children."""
    for i in range(n):
        add.delay(i, i)
    return n


@worker_shutdown.connect
def delete(**_):
    with app.connection_for_write() as connection:
        channel, name = connection.default_channel, app.conf.task_default_queue
        channel.queue_delete(name)
        if hasattr(channel, "client"):
            channel.client.delete("_kombu.binding." + name, "_kombu.binding_permanent." + name)
        else:
            channel.exchange_delete(name)
