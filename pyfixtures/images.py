"""Records what Pillow makes of test pictures: handlers/images/testdata.

    python pyfixtures/images.py handlers/images/testdata

Sources are drawn here, reduced with Image.LANCZOS from the full picture (no draft mode, no reducing_gap),
and both are kept. expected.json lists the cases. Run it again only to change the cases: the files are golden.
"""

import json
import math
import os
import random
import sys

import PIL
from PIL import Image, ImageDraw, ImageFont, ImageOps

OUT = sys.argv[1]
CASES = []


def photo(w, h, seed=1):
    """Soft shapes, texture and a little noise, in RGB."""
    rnd = random.Random(seed)
    waves = [(rnd.uniform(2, 90), rnd.uniform(0, 6.3), rnd.uniform(-1, 1)) for _ in range(12)]
    im = Image.new("RGB", (w, h))
    px = im.load()
    for y in range(h):
        for x in range(w):
            u, v = x / max(w, h), y / max(w, h)
            t = sum(math.sin(f * (u * math.cos(a) + v * math.sin(a)) + a) * k for f, a, k in waves)
            n = rnd.gauss(0, 3)
            px[x, y] = tuple(max(0, min(255, int(c + n))) for c in (120 + 30 * t, 130 + 22 * t + 60 * v, 150 - 25 * t + 40 * u))
    return im


def text(w, h, mode="RGB"):
    im = Image.new(mode, (w, h), "white")
    d = ImageDraw.Draw(im)
    font = ImageFont.load_default(14)
    for i in range(0, h, 16):
        d.text((3, i), "Hamburgefonstiv 0123456789 " * 3, fill="black", font=font)
    for i in range(0, w, 7):
        d.line((i, 0, w - i, h), fill="black" if mode == "L" else (180, 0, 40))
    return im


def gradient(w, h, mode="RGB"):
    im = Image.new(mode, (w, h))
    px = im.load()
    for y in range(h):
        for x in range(w):
            r, g = 255 * x // max(1, w - 1), 255 * y // max(1, h - 1)
            px[x, y] = r if mode == "L" else (r, g, 255 - (r + g) // 2)
    return im


def noise(w, h, seed=2):
    rnd = random.Random(seed)
    return Image.frombytes("RGB", (w, h), bytes(rnd.randrange(256) for _ in range(w * h * 3)))


def translucent(w, h):
    im = photo(w, h, 5).convert("RGBA")
    a = Image.new("L", (w, h), 0)
    d = ImageDraw.Draw(a)
    d.ellipse((w // 10, h // 10, w - w // 10, h - h // 10), fill=255)
    d.rectangle((0, 0, w // 3, h // 3), fill=90)
    im.putalpha(a)
    return im


def save(name, im, **kw):
    im.save(os.path.join(OUT, name), **kw)


def expect(source, fit, size, least, note="", original=None):
    """Reduces the file source as Pillow would and records it. least is the PSNR in dB the test demands.

    Of a JPEG with halved chroma, original is the picture before it became one. Pillow smooths chroma while it
    doubles it, then reduces; nobody else need get the same colours, but none that are farther from the original's.
    """
    im = Image.open(os.path.join(OUT, source))
    im.load()
    im = ImageOps.exif_transpose(im)
    truth = None
    if original is not None:
        turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(Image.open(os.path.join(OUT, source)).getexif().get(0x0112))
        truth = "truth_%s_%s_%dx%d.png" % (source.replace(".", "_"), fit, *size)
        save(truth, reduced(original if turned is None else original.transpose(turned), fit, size))
    im = reduced(im, fit, size)
    name = "want_%s_%s_%dx%d.png" % (source.replace(".", "_"), fit, *size)
    im.info = {}
    save(name, im)
    CASES.append({"source": source, "fit": fit, "size": size, "want": name, "least": least, "note": note, "truth": truth or ""})


def reduced(im, fit, size):
    if im.mode == "CMYK":
        im = im.convert("RGB")
    if im.mode == "P":
        im = im.convert("RGBA" if "transparency" in im.info else "RGB")
    if fit == "inside":
        im.thumbnail(size, Image.Resampling.LANCZOS, reducing_gap=None)
    elif fit == "cover":
        im = ImageOps.fit(im, size, Image.Resampling.LANCZOS)
    else:
        im = im.resize(size, Image.Resampling.LANCZOS)
    return im


def main():
    os.makedirs(OUT, exist_ok=True)

    save("photo.png", photo(320, 213))
    save("text.png", text(301, 200))
    save("textgray.png", text(301, 200, "L"))
    save("gradient.png", gradient(300, 201))
    save("noise.png", noise(90, 70))
    save("alpha.png", translucent(200, 150))
    save("palette.png", photo(200, 140, 6).quantize(64))
    for w, h in ((1, 1), (1, 77), (64, 1), (17, 9)):
        save("tiny_%dx%d.png" % (w, h), gradient(w, h))
    for source in ("photo", "text", "textgray", "gradient", "noise", "alpha", "palette"):
        expect(source + ".png", "inside", (64, 64), 45)
        expect(source + ".png", "inside", (23, 250), 45)
        expect(source + ".png", "cover", (40, 61), 45)
    expect("photo.png", "fill", (7, 199), 45)
    expect("photo.png", "fill", (500, 300), 45, "enlarged")
    expect("text.png", "inside", (299, 299), 45, "hardly reduced")
    for w, h in ((1, 1), (1, 77), (64, 1), (17, 9)):
        expect("tiny_%dx%d.png" % (w, h), "inside", (8, 8), 45)
        expect("tiny_%dx%d.png" % (w, h), "fill", (5, 3), 45)
        expect("tiny_%dx%d.png" % (w, h), "cover", (20, 30), 45)

    # 16 bits: grey ramps, whose high byte is what an 8-bit picture would hold.
    deep = Image.new("I;16", (120, 80))
    deep.putdata([(x * 500 + y * 60) % 65536 for y in range(80) for x in range(120)])
    save("deep.png", deep)
    eight = Image.new("L", (120, 80))
    eight.putdata([((x * 500 + y * 60) % 65536) >> 8 for y in range(80) for x in range(120)])
    eight = eight.resize((30, 20), Image.Resampling.LANCZOS)
    save("want_deep.png", eight)
    CASES.append({"source": "deep.png", "fit": "fill", "size": (30, 20), "want": "want_deep.png", "least": 45, "note": "16 bits"})

    # JPEG: Pillow goes by way of RGB with its own chroma upsampling, we stay in the planes.
    p = photo(401, 267, 8)
    save("p420.jpg", p, quality=92, subsampling=2)
    save("p422.jpg", p, quality=92, subsampling=1)
    save("p444.jpg", p, quality=92, subsampling=0, progressive=True)
    save("gray.jpg", p.convert("L"), quality=92)
    save("cmyk.jpg", p.crop((0, 0, 200, 150)).convert("CMYK"), quality=92)
    save("edges420.jpg", text(301, 200), quality=95, subsampling=2)
    for source, least, original in (("p420", 42, None), ("p422", 42, None), ("p444", 42, None), ("gray", 45, None),
                                    ("cmyk", 40, None), ("edges420", 38, text(301, 200))):
        expect(source + ".jpg", "inside", (64, 64), least, original=original)
        expect(source + ".jpg", "cover", (51, 33), least, original=original)

    save("lossy.webp", p, quality=90)
    save("lossless.webp", p.crop((0, 0, 160, 120)), lossless=True)
    save("alpha.webp", translucent(200, 150), quality=90)
    expect("lossy.webp", "inside", (64, 64), 40)
    expect("lossless.webp", "inside", (64, 64), 45)
    expect("alpha.webp", "inside", (64, 64), 36)
    save("still.gif", p.resize((150, 100)).quantize(128))
    expect("still.gif", "inside", (64, 64), 45)

    # Orientation: one asymmetric picture, odd sides, in every container and every orientation.
    small = photo(61, 43, 9)
    ImageDraw.Draw(small).polygon([(0, 0), (30, 0), (0, 20)], fill=(250, 20, 20))
    for o in range(1, 9):
        exif = Image.Exif()
        exif.endian = "<" if o % 2 else ">"
        exif[0x0112] = o
        exif[0x010F] = "maker"
        save("o%d.jpg" % o, small, quality=92, exif=exif)
        expect("o%d.jpg" % o, "inside", (29, 29), 40, original=small)
        expect("o%d.jpg" % o, "cover", (21, 30), 40, original=small)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("o6.png", small, exif=exif)
    save("o6.webp", small, exif=exif, lossless=True)
    expect("o6.png", "inside", (29, 29), 45)
    expect("o6.webp", "inside", (29, 29), 45)

    with open(os.path.join(OUT, "expected.json"), "w") as f:
        json.dump({"pillow": PIL.__version__, "cases": CASES}, f, indent=1)
        f.write("\n")


main()
