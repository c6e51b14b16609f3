"""The stub of a task that Go runs: its name and its parameters."""
from celery import shared_task


@shared_task(name="stalk.images.thumbnail")
def thumbnail(source, target=None, size=(256, 256), fit="inside", format=None, quality=85):
    raise NotImplementedError("runs in the Stalk worker")
