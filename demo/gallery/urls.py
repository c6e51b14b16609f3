from django.conf import settings
from django.urls import path
from django.views.static import serve

from . import views

urlpatterns = [
    path("", views.page),
    path("photos", views.listing),
    path("upload", views.upload),
    path("media/thumbs/<path:path>", serve, {"document_root": settings.MEDIA_ROOT / "thumbs"}),
]
