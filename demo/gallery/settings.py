"""Settings of the demo's gallery. demo/run.py sets DEMO_BROKER and DEMO_MEDIA."""
import os
import secrets
from pathlib import Path

SECRET_KEY = secrets.token_urlsafe()  # a new one each time: nothing survives the demo
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "gallery.urls"
INSTALLED_APPS = ["gallery"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
USE_TZ = True
MEDIA_ROOT = Path(os.environ["DEMO_MEDIA"])
MAX_UPLOAD_BYTES = 64 * 1024 * 1024

# What a project changes to have tasks done in Go: one route.
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = os.environ["DEMO_BROKER"]
CELERY_TASK_ROUTES = {"stalk.*": {"queue": "go"}}
