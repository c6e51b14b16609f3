"""Thumbnails: CPU seconds of an image, beside Pillow, file to file, without a broker on either side.

    .build/venv/bin/python bench/thumbnails.py [--rounds 3] [--only jpeg12,png]

Stalk's tasks run in one process (bench/thumbs), Pillow in another; they take turns, and the median of the rounds counts. Of Pillow
there are two ways: the best one, draft() for JPEG and a reducing gap for the rest, and the full one, which decodes every pixel and
takes Lanczos over all of it, as sorl-thumbnail and easy-thumbnails do. The sources are drawn (handlers/images/sampleimage), with
noise so that they take as many bytes as a camera's: no photographs are in the repository.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

ROOT = Path(__file__).resolve().parent.parent
FIVE = [1024, 768, 512, 256, 128]


def best(image, side):
    """As a task is written by who knows Pillow well."""
    image.draft("RGB", (side * 2, side * 2))
    image = ImageOps.exif_transpose(image)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


def full(image, side):
    """As thumbnail packages for Django do it."""
    image = ImageOps.exif_transpose(image)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=None)
    return image


class Case:
    """goals: the most that Stalk may take of Pillow's best way, must and excellent, and of its full one."""

    def __init__(self, key, label, source, target, sides, goals=(1.0, None, None)):
        self.key, self.label, self.source, self.target, self.sides, self.goals = key, label, source, target, sides, goals

    def order(self, n):
        ext = "stalk" + os.path.splitext(self.target)[1]
        if len(self.sides) == 1:
            return {"task": "stalk.images.thumbnail", "args": [self.source, ext, [self.sides[0]] * 2], "kwargs": {}, "n": n}
        variants = [{"size": [s, s], "target": f"{s}{ext}"} for s in self.sides]
        return {"task": "stalk.images.variants", "args": [self.source, variants], "kwargs": {}, "n": n}

    def pillow(self, folder, way, n):
        before = cpu()
        for _ in range(n):
            for side in self.sides:
                with Image.open(folder / self.source) as image:
                    way(image, side).save(folder / f"{side}{self.target}", **({"quality": 85} if self.target.endswith("jpg") else {}))
        return (cpu() - before) / n


CASES = [
    Case("jpeg12", "JPEG 12 MP to 256", "12.jpg", "o.jpg", [256], (0.83, 0.70, 0.12)),
    Case("jpeg24", "JPEG 24 MP to 256", "24.jpg", "o.jpg", [256], (0.83, 0.70, 0.12)),
    Case("progressive12", "progressive JPEG 12 MP to 256", "12p.jpg", "o.jpg", [256], (0.15, None, None)),
    Case("progressive24", "progressive JPEG 24 MP to 256", "24p.jpg", "o.jpg", [256], (0.15, None, None)),
    Case("jpeg12_512", "JPEG 12 MP to 512", "12.jpg", "o.jpg", [512]),
    Case("jpeg12_1024", "JPEG 12 MP to 1,024", "12.jpg", "o.jpg", [1024]),
    Case("jpeg24_1024", "JPEG 24 MP to 1,024", "24.jpg", "o.jpg", [1024]),
    Case("progressive12_1024", "progressive JPEG 12 MP to 1,024", "12p.jpg", "o.jpg", [1024]),
    Case("jpeg5", "JPEG 5 MP to 256", "5.jpg", "o.jpg", [256]),
    Case("jpeg5_512", "JPEG 5 MP to 512", "5.jpg", "o.jpg", [512]),
    Case("png", "PNG 12 MP, RGB, to 256", "12.png", "o.png", [256]),
    Case("png_alpha", "PNG 5 MP, RGBA, to 256", "5a.png", "o.png", [256]),
    Case("webp", "WebP 12 MP, lossy, to 256", "12.webp", "o.jpg", [256]),
    Case("variants", "five sizes of JPEG 12 MP at once: " + ", ".join(f"{s:,}" for s in FIVE), "12.jpg", "o.jpg", FIVE),
]


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def draw(folder, wanted):
    """The sources, and what they are."""
    names = {c.source for c in wanted}
    about = {}
    for megapixels, size in (("5", (2592, 1944)), ("12", (4000, 3000)), ("24", (6000, 4000))):
        mine = [n for n in names if n.rstrip("pa.jngwebp") == megapixels]
        if not mine:
            continue
        plain = folder / "plain.jpg"
        subprocess.run([ROOT / ".build" / "photo", "make", plain, *map(str, size)], check=True)
        with Image.open(plain) as image:
            y, cb, cr = image.convert("YCbCr").split()
        noise = Image.effect_noise(size, 20).filter(ImageFilter.GaussianBlur(0.8))
        photo = Image.merge("YCbCr", (ImageChops.add(y, noise, 1, -128), cb, cr))
        for name in mine:
            path = folder / name
            if name.endswith(".jpg"):
                photo.save(path, quality=90, subsampling="4:2:0", progressive="p" in name.removesuffix(".jpg"))
            elif name.endswith(".webp"):
                photo.convert("RGB").save(path, quality=80, method=4)
            elif "a" in name.removesuffix(".png"):
                alpha = Image.new("L", size, 0)
                ImageDraw.Draw(alpha).ellipse((0, 0, *size), fill=255)
                rgba = photo.convert("RGB")
                rgba.putalpha(alpha.filter(ImageFilter.GaussianBlur(20)))
                rgba.save(path, compress_level=6)
            else:
                photo.convert("RGB").save(path, compress_level=6)
            about[name] = {"pixels": size[0] * size[1], "bytes": path.stat().st_size}
        plain.unlink()
    return about


class Thumbs:
    """Stalk's side."""

    def __init__(self, folder):
        self.process = subprocess.Popen([ROOT / ".build" / "thumbs", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("bench: .build/thumbs has ended; what it says stands above")
        return json.loads(line)["cpu_s"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(folder, rounds, seconds, keys=(), say=lambda text: None):
    """CPU milliseconds of each way in each case. A turn takes about so many seconds."""
    wanted = [c for c in CASES if not keys or c.key in keys]
    folder = Path(folder)
    say("drawing the pictures")
    out = {"sources": draw(folder, wanted), "cases": {}}
    ours = Thumbs(folder)
    try:
        for case in wanted:
            say(case.label)
            ways = {"stalk": lambda n: ours.run(case.order(n)), "best": lambda n: case.pillow(folder, best, n), "full": lambda n: case.pillow(folder, full, n)}
            times = {}
            for name, way in ways.items():
                took = way(1)  # also warms up
                times[name] = max(1, min(50, int(seconds / max(took, 0.001))))
            runs = {name: [] for name in ways}
            for _ in range(rounds):
                for name, way in ways.items():
                    runs[name].append(way(times[name]) * 1000)
            out["cases"][case.key] = {"label": case.label, "goals": case.goals, **{name: statistics.median(r) for name, r in runs.items()},
                                      "bytes": (folder / case.order(1)["args"][1]).stat().st_size if len(case.sides) == 1 else None,
                                      "pillow_bytes": (folder / f"{case.sides[0]}{case.target}").stat().st_size if len(case.sides) == 1 else None}
    finally:
        ours.close()
    return out


def table(found, pillow):
    """A table for the documents."""
    lines = [f"| CPU of one image, file to file | Stalk | Pillow {pillow}, best way | ratio | goal | Pillow, full decode + Lanczos | ratio | goal |", "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for c in found["cases"].values():
        must, excellent, whole = c["goals"]
        ratio, of_full = c["stalk"] / c["best"], c["stalk"] / c["full"]
        goal = f"{must:.2f}" + (f", {excellent:.2f}" if excellent else "")
        lines.append(f"| {c['label']} | {c['stalk']:.1f} ms | {c['best']:.1f} | {mark(ratio, must)} | {goal} | {c['full']:.0f} | {mark(of_full, whole)} | {whole or ''} |")
    return "\n".join(lines)


def mark(ratio, most):
    """A ratio; bold where its goal is missed."""
    return f"**{ratio:.2f}**" if most and round(ratio, 2) > most else f"{ratio:.2f}"


def lost(found):
    """Where Pillow takes less."""
    return [c["label"] for c in found["cases"].values() if c["stalk"] > c["best"]]


def summary(found):
    behind = lost(found)
    sizes = ", ".join(f"{name} {a['bytes'] / 1e6:.1f} MB" for name, a in sorted(found["sources"].items()))
    return ("Pillow takes less CPU in: " + "; ".join(behind) + "." if behind else "In none of these does Pillow take less CPU.") + f" Sources: {sizes}."


def main():
    import PIL

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default="", help="some of: " + ", ".join(c.key for c in CASES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stalk-thumbnails-") as folder:
        began = time.monotonic()
        found = measure(folder, options.rounds, options.seconds, {k for k in options.only.split(",") if k}, lambda text: print(text, file=sys.stderr, flush=True))
    print(table(found, PIL.__version__) + "\n\n" + summary(found))
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
