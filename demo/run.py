"""make demo: a Django gallery whose thumbnails are made by Stalk.

Starts `stalk demo` (an embedded broker and a worker in one process) and the gallery, sends one generated
12-megapixel photo with .delay(), prints what came back, and leaves the page open until Ctrl-C. With --once it
ends by itself: code 0 only if the thumbnail is right, on disk and through the page.
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

ROOT = Path(__file__).resolve().parent.parent
STALK = ROOT / "bin" / "stalk"
PHOTO = ROOT / ".build" / "photo"  # demo/photo


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="check the thumbnail and end")
    parser.add_argument("--port", type=int, default=0, help="of the page; 0: a free one")
    options = parser.parse_args()
    # Both signals end the demo through every finally. SIGINT too is set: a shell starts what it puts in the
    # background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    media = Path(tempfile.mkdtemp(prefix="stalk-demo-"))
    worker = None
    try:
        (media / "uploads").mkdir()
        (media / "thumbs").mkdir()
        worker, broker = start_worker(media)
        page, url = start_gallery(broker, media, options.port)
        try:
            send_photo(media, url)
            if options.once:
                return 0
            print(f"\nThe gallery is open: {url}\nUpload photos of your own; Ctrl-C ends the demo.", flush=True)
            code = worker.wait()
            print(f"demo: the worker has ended with code {code}, see {media / 'stalk.log'}", file=sys.stderr)
            return 1
        finally:
            page.shutdown()
    except KeyboardInterrupt:
        print("\ndemo: ended")
        return 1 if options.once else 0
    except DemoError as exc:
        print(f"demo: {exc}", file=sys.stderr)
        if (media / "stalk.log").exists():
            print("demo: the worker's last words:\n" + tail(media / "stalk.log"), file=sys.stderr)
        return 1
    finally:
        if worker is not None:
            end(worker)
        shutil.rmtree(media, ignore_errors=True)


class DemoError(Exception):
    """Something of the demo is not as it should be; the text says what."""


def start_worker(media: Path) -> tuple[subprocess.Popen, str]:
    """Starts `stalk demo`; returns the process and the address of its broker."""
    with open(media / "stalk.log", "wb") as log:
        worker = subprocess.Popen(
            [STALK, "demo", "--media-root", media],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C reaches us alone, and we end it
        )
    first = worker.stdout.readline().split()
    if len(first) != 2 or first[0] != "broker":
        end(worker)
        raise DemoError(f"stalk demo said {' '.join(first)!r}, want its broker's address")
    threading.Thread(target=worker.stdout.read, daemon=True).start()  # the rest is for people
    print(f"worker   stalk demo, process {worker.pid}\nbroker   {first[1]}", flush=True)
    return worker, first[1]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


def start_gallery(broker: str, media: Path, port: int) -> tuple[Server, str]:
    """Serves the Django project on loopback, in a thread."""
    os.environ.update(DJANGO_SETTINGS_MODULE="gallery.settings", DEMO_BROKER=broker, DEMO_MEDIA=str(media))
    import django
    from django.core.wsgi import get_wsgi_application

    application = get_wsgi_application()
    try:
        server = make_server("127.0.0.1", port, application, server_class=Server, handler_class=Quiet)
    except OSError as exc:
        raise DemoError(f"port {port}: {exc}") from exc
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    print(f"gallery  Django {django.__version__}, {url}", flush=True)
    return server, url


def send_photo(media: Path, url: str) -> None:
    """Sends one photo, prints state and result, and checks them as far as they can be checked."""
    from gallery import photos

    name = photos.new_name()
    source = media / name
    run(PHOTO, "make", source)
    size = source.stat().st_size
    print(f"\nphoto    {name}, 4000 x 3000 pixels, {size / 1e6:.1f} MB", flush=True)

    began = time.monotonic()
    photo = photos.add("A generated photo", name, size)
    print(f"sent     thumbnail.delay({name!r}, ...) = {photo.result.id}", flush=True)
    try:
        made = photo.result.get(timeout=60)
    except Exception as exc:  # whatever the task raised, or the wait
        raise DemoError(f"the task ended with {type(exc).__name__}: {exc}") from exc
    print(f"state    {photo.result.state} after {(time.monotonic() - began) * 1000:.0f} ms\nresult   {json.dumps(made)}", flush=True)

    want = {"width": 640, "height": 480, "format": "jpeg", "name": f"thumbs/{source.name}.jpg"}
    wrong = {k: made.get(k) for k in want if made.get(k) != want[k]}
    if wrong:
        raise DemoError(f"the result says {wrong}, want {want}")
    thumbnail = media / made["name"]
    if thumbnail.stat().st_size != made["bytes"]:
        raise DemoError(f"the thumbnail has {thumbnail.stat().st_size} bytes, the result says {made['bytes']}")
    run(PHOTO, "check", source, thumbnail, "640", "480")
    check_page(url, thumbnail)
    print("checked  the thumbnail decodes, has its size and looks like the photo; the page shows it", flush=True)


def check_page(url: str, thumbnail: Path) -> None:
    """The page, its data and the thumbnail, as a browser would ask for them."""

    def get(path: str) -> bytes:
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            return answer.read()

    if b"<title>Gallery" not in get(""):
        raise DemoError("the page is not the gallery")
    photo = json.loads(get("photos"))["photos"][0]
    if photo["state"] != "SUCCESS" or get(photo["thumbnail"].lstrip("/")) != thumbnail.read_bytes():
        raise DemoError(f"the page does not show the thumbnail: {photo}")


def run(*command) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise DemoError((done.stderr or done.stdout).strip() or f"{command[0]} ended with code {done.returncode}")


def end(process: subprocess.Popen) -> None:
    """Ends a child that is ours, by its process id."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tail(path: Path) -> str:
    return path.read_text(errors="replace")[-3000:]


if __name__ == "__main__":
    sys.exit(main())
