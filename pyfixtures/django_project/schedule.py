"""Fills django-celery-beat's tables as somebody would in Django's admin; for interop_test/monitor_beat_test.go.

    python schedule.py ENTRIES      JSON, name -> {"task", "args", "kwargs", "queue", "expire_seconds"}; each runs every second
"""
import json
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django

django.setup()

from django.core.management import call_command
from django_celery_beat.models import IntervalSchedule, PeriodicTask

call_command("migrate", verbosity=0)
second, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
for name, entry in json.loads(sys.argv[1]).items():
    PeriodicTask.objects.create(
        name=name, interval=second, task=entry["task"], queue=entry["queue"], args=json.dumps(entry["args"]),
        kwargs=json.dumps(entry["kwargs"]), expire_seconds=entry.get("expire_seconds"),
    )
