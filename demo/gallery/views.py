"""Three views: the page, its data, and an upload."""
from pathlib import Path

from django.conf import settings
from django.http import JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from . import photos


@require_GET
def page(request):
    return render(request, "page.html", {"token": get_token(request), "broker": settings.CELERY_BROKER_URL})


@require_GET
def listing(request):
    return JsonResponse({"photos": [photos.status(p) for p in photos.newest_first()[:60]]})


@require_POST
def upload(request):
    file = request.FILES.get("photo")
    if file is None:
        return JsonResponse({"error": "no file named photo in the form"}, status=400)
    if file.size > settings.MAX_UPLOAD_BYTES:
        return JsonResponse({"error": f"{file.name} is larger than 64 MB"}, status=413)
    name = photos.new_name()
    path = Path(settings.MEDIA_ROOT) / name
    with path.open("xb") as out:
        for chunk in file.chunks():
            out.write(chunk)
    photo = photos.add(file.name[:80], name, file.size)
    return JsonResponse(photos.status(photo), status=201)
