"""Records what libjpeg makes of planes: handlers/images/jpegwrite/testdata/libjpeg.json.

    python pyfixtures/jpegwrite.py handlers/images/jpegwrite/testdata

The planes are drawn by a formula that the test repeats; Pillow writes them with optimize=True, and the size and SHA-256 of
each file are kept. Chroma is the same in squares of 2 x 2, so that halving it is no matter of taste.
"""

import hashlib
import io
import json
import os
import sys

import PIL
from PIL import Image, ImageFile, features


ImageFile.MAXBLOCK = 1 << 20  # with optimize a file must fit


def sample(plane, x, y):
    """From 0 to 255: a slope, a fold and a hash, in whole numbers."""
    fold = abs((x * (3 + plane) + y * 5) % 256 - 128)
    speck = (x * 7919 + y * 104729 + plane * 31 + x * y * 13) % 37
    return min(255, (x * 2 + y) % 90 + fold + speck * (1 + (x // 16 + y // 16) % 3))


def plane(index, w, h, square):
    return Image.frombytes("L", (w, h), bytes(sample(index, x // square * square, y // square * square) for y in range(h) for x in range(w)))


def main():
    cases = []
    n = 0
    sizes = [(1, 1), (1, 8), (8, 1), (7, 9), (8, 8), (9, 17), (16, 16), (17, 16), (16, 17), (17, 33), (31, 24), (40, 5), (65, 97), (128, 128), (201, 150)]
    for mode, subsampling in (("grey", None), ("444", 0), ("422", 1), ("420", 2)):
        for w, h in sizes:
            for progressive in (False, True):
                for quality in (75, 85, 1 + n * 37 % 100, 100):
                    n += 1
                    if mode == "grey":
                        im, more = plane(0, w, h, 1), {}
                    else:
                        square = 1 if subsampling == 0 else 2
                        im = Image.merge("YCbCr", (plane(0, w, h, 1), plane(1, w, h, square), plane(2, w, h, square)))
                        more = {"subsampling": subsampling}
                    b = io.BytesIO()
                    im.save(b, "JPEG", quality=quality, optimize=True, progressive=progressive, **more)
                    data = b.getvalue()
                    cases.append([mode, w, h, quality, int(progressive), len(data), hashlib.sha256(data).hexdigest()[:16]])
    os.makedirs(sys.argv[1], exist_ok=True)
    with open(os.path.join(sys.argv[1], "libjpeg.json"), "w") as f:
        head = {"pillow": PIL.__version__, "libjpeg-turbo": features.version("libjpeg_turbo")}
        f.write('{"versions": %s, "cases": [\n%s\n]}\n' % (json.dumps(head), ",\n".join(json.dumps(c) for c in cases)))


main()
