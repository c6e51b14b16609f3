"""The photos of this run, kept in memory; files and results live elsewhere."""
import itertools
import threading
from dataclasses import dataclass

from celery.result import AsyncResult

from .tasks import thumbnail

SIZE = (640, 480)


@dataclass(frozen=True)
class Photo:
    number: int
    title: str
    source: str  # storage name under MEDIA_ROOT
    bytes: int
    result: AsyncResult


_lock = threading.Lock()
_numbers = itertools.count(1)
_photos: dict[int, Photo] = {}


def new_name() -> str:
    """A storage name of our own: what a visitor calls a file is only shown."""
    with _lock:
        return f"uploads/photo-{next(_numbers)}"


def add(title: str, source: str, size: int) -> Photo:
    """Asks for the thumbnail of a stored file. This is all there is to it in Python."""
    result = thumbnail.delay(source, target=f"thumbs/{source.rpartition('/')[2]}.jpg", size=SIZE)
    with _lock:
        photo = Photo(len(_photos) + 1, title, source, size, result)
        _photos[photo.number] = photo
    return photo


def newest_first() -> list[Photo]:
    with _lock:
        return sorted(_photos.values(), key=lambda p: -p.number)


def status(photo: Photo) -> dict:
    """What the page shows of a photo; AsyncResult is read as for any Celery task."""
    result = photo.result
    state, info = result.state, result.info
    view = {"number": photo.number, "title": photo.title, "bytes": photo.bytes, "id": result.id, "state": state}
    if state == "SUCCESS":
        view |= {"thumbnail": f"/media/{info['name']}", "width": info["width"], "height": info["height"], "made": info["bytes"]}
    elif state == "PROGRESS":
        view["stage"] = info.get("stage", "")
    elif state in ("FAILURE", "REVOKED"):
        view["error"] = f"{type(info).__name__}: {info}"
    return view
