"""A photo gallery in Django whose thumbnails are made by a worker written in Go."""
from .celery import app as celery_app

__all__ = ("celery_app",)
