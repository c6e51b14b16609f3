"""Records what Pillow makes of the arguments of the image tasks: handlers/images/testdata/finish.

    python pyfixtures/images_finish.py handlers/images/testdata/finish

Each case is a source, the arguments of stalk.images.thumbnail, and the PNG that Pillow and LittleCMS make of it. The files are golden.
"""

import io
import json
import os
import struct
import sys

import PIL
from PIL import Image, ImageCms, ImageFilter, ImageOps

OUT = sys.argv[1]
ABOVE = os.path.join(OUT, "..")
CASES = []


def tag(kind, data):
    return kind + bytes(4) + data


def fixed(*numbers):
    return b"".join(struct.pack(">i", round(n * 65536)) for n in numbers)


def para(kind, *parameters):
    return tag(b"para", struct.pack(">HH", kind, 0) + fixed(*parameters))


def curv(*values):
    return tag(b"curv", struct.pack(">I%dH" % len(values), len(values), *values))


def profile(red, green, blue, curve):
    """A display profile by its colorants under D50 and one curve."""
    text = b"test"
    tags = [(b"desc", tag(b"desc", struct.pack(">I", len(text) + 1) + text + bytes(1 + 8 + 3 + 67))), (b"cprt", tag(b"text", text + b"\0")),
            (b"wtpt", tag(b"XYZ ", fixed(0.9642, 1, 0.8249)))]
    tags += [(n, tag(b"XYZ ", fixed(*c))) for n, c in ((b"rXYZ", red), (b"gXYZ", green), (b"bXYZ", blue))]
    tags += [(n, curve) for n in (b"rTRC", b"gTRC", b"bTRC")]
    head, body, at = b"", b"", 132 + 12 * len(tags)
    for name, data in tags:
        data += bytes(-len(data) % 4)
        head += name + struct.pack(">II", at + len(body), len(data))
        body += data
    size = at + len(body)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ") + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    header += bytes(128 - len(header) - 60) + fixed(0.9642, 1, 0.8249) + bytes(48)
    assert len(header) == 128
    return header + struct.pack(">I", len(tags)) + head + body


SRGB = para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
PROFILES = {
    "p3": profile((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407), SRGB),
    "adobe": profile((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), curv(563)),
    "prophoto": profile((0.79767, 0.28804, 0), (0.13519, 0.71187, 0), (0.03134, 0.00009, 0.82491), curv(*[round(65535 * (i / 255) ** 1.8) for i in range(256)])),
    "linear": profile((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410), curv()),
    "gamma": profile((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410), para(0, 2.2)),
    "bt709": profile((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410), para(4, 1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081, 0, 0)),
}


def case(name, source, args, want, least):
    want.info = {}
    want.save(os.path.join(OUT, name + ".png"))
    CASES.append({"name": name, "source": source, "args": args, "least": least})


def main():
    os.makedirs(OUT, exist_ok=True)
    photo = Image.open(os.path.join(ABOVE, "photo.png"))
    lanczos = Image.Resampling.LANCZOS

    for mode, source in (("RGB", "photo.png"), ("L", "textgray.png")):
        im = Image.open(os.path.join(ABOVE, source))
        for radius, percent, threshold in ((2, 150, 3), (0.5, 80, 0), (1.3, 300, 10), (7, 40, 0)):
            name = "sharpen_%s_%s_%d_%d" % (mode, str(radius).replace(".", "-"), percent, threshold)
            case(name, "../" + source, {"sharpen": [radius, percent, threshold]}, im.filter(ImageFilter.UnsharpMask(radius, percent, threshold)), 99)

    for name, icc in PROFILES.items():
        source = photo.resize((96, 64), lanczos)
        source.save(os.path.join(OUT, "in_%s.png" % name), icc_profile=icc)
        want = ImageCms.profileToProfile(source, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"),
                                         renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB")
        case("icc_" + name, "in_%s.png" % name, {"icc": "srgb"}, want, 48)

    for focal in ((0, 0), (1, 1), (0.25, 0.9)):
        for size in ((40, 61), (90, 30)):
            case("focal_%g_%g_%d" % (*focal, size[0]), "../photo.png", {"fit": "cover", "size": size, "focal": focal},
                 ImageOps.fit(photo, size, lanczos, centering=focal), 45)
    for size in ((64, 64), (500, 300), (33, 200)):
        case("contain_%d" % size[0], "../photo.png", {"fit": "contain", "size": size}, ImageOps.contain(photo, size, lanczos), 45)
    case("crop", "../photo.png", {"fit": "fill", "size": (50, 40), "crop": (31, 17, 190, 150)}, photo.resize((50, 40), lanczos, box=(31, 17, 190, 150)), 45)

    with open(os.path.join(OUT, "expected.json"), "w") as f:
        f.write('{"pillow": %s, "cases": [\n%s\n]}\n' % (json.dumps(PIL.__version__), ",\n".join(json.dumps(c) for c in CASES)))


main()
