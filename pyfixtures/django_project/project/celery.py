"""The Celery application of the Django project, as Celery's documentation writes it."""
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
if '"auth"' in os.environ.get("STALK_SETTINGS", ""):
    app.setup_security()
