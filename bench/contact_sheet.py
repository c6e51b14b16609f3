"""A sheet of thumbnails to look at: the source's kind, Stalk's thumbnail, Pillow's (full decode, Lanczos), and their difference, eight times.

    .build/venv/bin/python bench/contact_sheet.py [FILE]        make contact-sheet

Stalk writes PNG, so that what is seen is the reducing and not the writing; the last rows show what it writes as JPEG. Beneath each
difference stand PSNR and SSIM of brightness. The file is .build/contact-sheet.png unless another is named.
"""
import io
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps, ImageStat

ROOT = Path(__file__).resolve().parent.parent
SIDE, TEXT, GAP = 160, 34, 8


def sample(size):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        subprocess.run([ROOT / ".build" / "photo", "make", path, *map(str, size)], check=True)
        with Image.open(path) as image:
            return image.convert("RGB")


def text(size):
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for i, y in enumerate(range(0, size[1], size[1] // 12)):
        colour = ("black", "#b00020", "#0040c0", "#006020")[i % 4]
        draw.text((10, y), "Hamburgefonstiv 0123456789 " * 6, fill=colour, font=ImageFont.load_default(size[1] // 16))
    return image


def edges(size):
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    w, h = size
    for i, colour in enumerate(("red", "blue", "lime", "black", "yellow", "magenta")):
        draw.polygon([(w * i // 6, 0), (w * (i + 1) // 6, 0), (w * (i + 1) // 6 - w // 9, h), (w * i // 6 - w // 9, h)], fill=colour)
    for i in range(0, w, w // 24):
        draw.line((i, h, w - i, 0), fill="black", width=max(1, w // 300))
    return image


def zone(size):
    """A zone plate: every frequency in every direction."""
    w, h = size
    small = bytes(int(127.5 + 127.5 * math.cos((x * x + y * y) / (w * 0.9))) for y in range(-h // 2, h - h // 2) for x in range(-w // 2, w - w // 2))
    return Image.frombytes("L", size, small)


def gradient(size):
    return Image.merge("RGB", (Image.linear_gradient("L").resize(size), Image.linear_gradient("L").rotate(90).resize(size), Image.radial_gradient("L").resize(size)))


def see_through(image):
    alpha = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(alpha)
    draw.ellipse((0, 0, *image.size), fill=255)
    draw.rectangle((0, 0, image.width // 3, image.height // 3), fill=90)
    image = image.convert("RGB")
    image.putalpha(alpha)
    return image


def sources(folder):
    """Names of files, and what they are."""
    def save(name, image, **how):
        image.save(folder / name, **how)
        return name

    photo, odd = sample((2400, 1800)), sample((1237, 811))
    turned = Image.Exif()
    turned[0x0112] = 6
    noise = Image.merge("RGB", [Image.effect_noise((1200, 900), 80) for _ in range(3)])
    for label, name in [
        ("photo, JPEG 4:2:0 q90", save("420.jpg", photo, quality=90)),
        ("photo, JPEG 4:4:4 q90", save("444.jpg", photo, quality=90, subsampling=0)),
        ("photo, JPEG 4:2:2 q90", save("422.jpg", photo, quality=90, subsampling=1)),
        ("photo, progressive q90", save("progressive.jpg", photo, quality=90, progressive=True)),
        ("photo, 1237 x 811, q75", save("odd.jpg", odd, quality=75)),
        ("photo, 230 x 171 (hardly reduced)", save("small.jpg", photo.resize((230, 171)), quality=90)),
        ("photo, on its side (EXIF 6)", save("turned.jpg", photo, quality=90, exif=turned)),
        ("photo, q20", save("q20.jpg", photo, quality=20)),
        ("grey JPEG", save("grey.jpg", photo.convert("L"), quality=90)),
        ("CMYK JPEG", save("cmyk.jpg", photo.convert("CMYK"), quality=90)),
        ("coloured text, JPEG 4:2:0 q90", save("text.jpg", text((1600, 1200)), quality=90)),
        ("coloured edges, JPEG 4:2:0 q90", save("edges.jpg", edges((1600, 1200)), quality=90)),
        ("zone plate, JPEG q95", save("zone.jpg", zone((1200, 900)), quality=95)),
        ("gradients, JPEG q90", save("gradient.jpg", gradient((1600, 1200)), quality=90)),
        ("noise, JPEG q90", save("noise.jpg", noise, quality=90)),
        ("photo, PNG", save("photo.png", photo.resize((1200, 900)))),
        ("alpha, PNG", save("alpha.png", see_through(photo.resize((1200, 900))))),
        ("palette, PNG", save("palette.png", photo.resize((1200, 900)).quantize(64))),
        ("16 bits, grey PNG", save("deep.png", Image.linear_gradient("L").resize((800, 600)).convert("I").point(lambda v: v * 257).convert("I;16"))),
        ("text, PNG", save("text.png", text((1600, 1200)))),
        ("lossy WebP", save("lossy.webp", photo, quality=85)),
        ("lossy WebP with alpha", save("alpha.webp", see_through(photo.resize((1200, 900))), quality=85)),
        ("GIF", save("still.gif", photo.resize((800, 600)).quantize(128))),
        ("17 x 9 PNG", save("tiny.png", gradient((17, 9)))),
        ("1 x 3000 PNG", save("thin.png", gradient((1, 3000)))),
        ("65,500 x 20 JPEG", save("wide.jpg", gradient((65500, 20)), quality=90)),
    ]:
        yield label, name


def reference(path):
    with Image.open(path) as image:
        image.load()
        mode = image.mode
        if mode == "I;16":
            image = image.point(lambda v: v / 256).convert("L")
        elif mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif mode == "CMYK":
            image = image.convert("RGB")
        image = ImageOps.exif_transpose(image)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
        return image


def on_grey(image):
    back = Image.new("RGBA", image.size, (128, 128, 128, 255))
    return Image.alpha_composite(back, image.convert("RGBA")).convert("RGB")


def psnr(a, b):
    stat = ImageStat.Stat(ImageChops.difference(a, b))
    mean = sum(r * r for r in stat.rms) / len(stat.rms)
    return 99.0 if mean == 0 else 10 * math.log10(255 * 255 / mean)


def ssim(a, b):
    """Of brightness, with a Gaussian window of 1.5 pixels."""
    a, b = (image.convert("L").convert("F") for image in (a, b))
    soft = lambda image: floats(image.filter(ImageFilter.GaussianBlur(1.5)) if image.mode != "F" else blurred(image))
    x, y = floats(a), floats(b)
    mx, my = soft(a), soft(b)
    xx, yy, xy = soft(of(a.size, (p * p for p in x))), soft(of(a.size, (p * p for p in y))), soft(of(a.size, (p * q for p, q in zip(x, y))))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    total = 0
    for u, v, uu, vv, uv in zip(mx, my, xx, yy, xy):
        total += (2 * u * v + c1) * (2 * (uv - u * v) + c2) / ((u * u + v * v + c1) * (uu - u * u + vv - v * v + c2))
    return total / len(mx)


def floats(image):
    return list(image.get_flattened_data() if hasattr(image, "get_flattened_data") else image.getdata())


def of(size, values):
    image = Image.new("F", size)
    image.putdata(list(values))
    return image


def blurred(image):
    """A Gaussian of 1.5 pixels over floats, in rows and columns."""
    weights = [math.exp(-i * i / 4.5) for i in range(-4, 5)]
    weights = [w / sum(weights) for w in weights]
    for _ in range(2):
        w, h = image.size
        data, out = floats(image), []
        for y in range(h):
            row = data[y * w:(y + 1) * w]
            padded = [row[0]] * 4 + row + [row[-1]] * 4
            out += [sum(k * padded[x + i] for i, k in enumerate(weights)) for x in range(w)]
        image = of((w, h), out).transpose(Image.Transpose.TRANSPOSE)
    return image


def main():
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".build" / "contact-sheet.png"
    with tempfile.TemporaryDirectory(prefix="stalk-sheet-") as name:
        folder = Path(name)
        process = subprocess.Popen([ROOT / ".build" / "thumbs", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def ours(source, out, **more):
            process.stdin.write(json.dumps({"task": "stalk.images.thumbnail", "args": [source, out, [SIDE, SIDE]], "kwargs": more, "n": 1}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"contact sheet: no thumbnail of {source}")
            with Image.open(folder / out) as image:
                image.load()
                return image

        cells, listed = [], list(sources(folder))
        for label, source in listed:
            cells.append((label, ours(source, "out.png"), reference(folder / source)))
        for quality, progressive in ((85, False), (85, True), (30, False)):
            b = io.BytesIO()
            reference(folder / "420.jpg").save(b, "JPEG", quality=quality, progressive=progressive)
            out = ours("420.jpg", "out.jpg", quality=quality, progressive=progressive)
            cells.append((f"written as JPEG q{quality}{', progressive' if progressive else ''}", out, Image.open(b)))
        out = ours("420.jpg", "out.png", sharpen=[0.5, 80, 0])
        cells.append(("sharpened (0.5, 80, 0)", out, reference(folder / "420.jpg").filter(ImageFilter.UnsharpMask(0.5, 80, 0))))
        process.stdin.close()
        process.wait()

    across = 3
    wide, high = 3 * (SIDE + GAP) + 2 * GAP, SIDE + TEXT + GAP
    sheet = Image.new("RGB", (across * wide, -(-len(cells) // across) * high + 20), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    draw.text((GAP, 4), "of each: Stalk, Pillow (full decode + Lanczos), difference x 8", fill="black", font=font)
    for i, (label, mine, theirs) in enumerate(cells):
        x, y = i % across * wide + GAP, i // across * high + 20
        a, b = on_grey(mine), on_grey(theirs)
        draw.text((x, y + 2), f"{label}", fill="black", font=font)
        if a.size != b.size:
            figures = f"SIZES DIFFER: {a.size} and {b.size}"
            b = b.resize(a.size)
        else:
            figures = f"PSNR {psnr(a, b):.1f} dB, of brightness {psnr(a.convert('L'), b.convert('L')):.1f}, SSIM {ssim(a, b):.4f}"
        print(f"{label:36}{figures}")
        draw.text((x, y + 15), figures, fill="black", font=font)
        for k, image in enumerate((a, b, ImageChops.difference(a, b).point(lambda v: min(255, v * 8)))):
            sheet.paste(image, (x + k * (SIDE + GAP), y + TEXT))
    target.parent.mkdir(exist_ok=True)
    sheet.save(target)
    print(f"{os.path.relpath(target)}: {sheet.width} x {sheet.height}")


if __name__ == "__main__":
    main()
