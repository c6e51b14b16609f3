"""A minimal Django project with Celery, for the interop tests.

The environment decides what differs between tests:

    STALK_BROKER, STALK_BACKEND   URLs, as Celery takes them
    STALK_GO_QUEUE                where the tasks written in Go are routed; "go"
    STALK_SETTINGS                JSON object of Celery's lower-case settings that outrank the ones here
    STALK_MEDIA_ROOT              the folder of uploads, shared with Stalk's --media-root
    STALK_SERVE_DEMO              "1": a Python worker runs the demo.* tasks itself
    STALK_DATABASE                file of a database, which django-celery-beat then keeps its schedule in
"""
import json
import os

SECRET_KEY = "only for tests"
DEBUG = False
USE_TZ = True
TIME_ZONE = "UTC"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
if os.environ.get("STALK_DATABASE"):
    INSTALLED_APPS.append("django_celery_beat")
    DATABASES["default"]["NAME"] = os.environ["STALK_DATABASE"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = os.environ.get("STALK_MEDIA_ROOT", "")

STALK_SERVE_DEMO = os.environ.get("STALK_SERVE_DEMO") == "1"

CELERY_BROKER_URL = os.environ["STALK_BROKER"]
CELERY_RESULT_BACKEND = os.environ["STALK_BACKEND"]
CELERY_ACCEPT_CONTENT = ["json", "msgpack", "yaml"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

# All that Python needs to know about Go: which tasks, and their queue.
_GO = {"queue": os.environ.get("STALK_GO_QUEUE", "go")}
CELERY_TASK_ROUTES = {"demo.*": _GO, "stalk.*": _GO}

for _name, _value in json.loads(os.environ.get("STALK_SETTINGS") or "{}").items():
    globals()["CELERY_" + _name.upper()] = _value
