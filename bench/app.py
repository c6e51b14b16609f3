"""The Celery side of the benchmark: the same tasks in Python."""
import os

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"])


@app.task(name="demo.add")
def add(x, y=1):
    return x + y


@app.task(name="bench.pillow")
def pillow(source, target, size, draft):
    """What stalk.images.thumbnail does, as one writes it with Pillow."""
    from PIL import Image, ImageOps

    root = os.environ["BENCH_MEDIA"]
    with Image.open(os.path.join(root, source)) as image:
        if draft:
            image.draft("RGB", (size[0] * 2, size[1] * 2))
        image = ImageOps.exif_transpose(image)
        image.thumbnail(size, Image.Resampling.LANCZOS, reducing_gap=2.0 if draft else None)
        image.save(os.path.join(root, target), "JPEG", quality=85)
    return {"name": target, "width": image.width, "height": image.height}
