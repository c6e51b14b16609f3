package interop_test

import (
	"os"
	"path/filepath"
	"testing"
)

// photo makes a picture with Pillow: four coloured quarters, so that a thumbnail that is turned, cut or
// empty is told from the right one.
const photo = `
	from PIL import Image
	def photo(path, size=(1200, 800), **save):
	    image = Image.new("RGB", size)
	    w, h = size
	    for box, colour in [((0, 0), (200, 30, 30)), ((w // 2, 0), (30, 200, 30)), ((0, h // 2), (30, 30, 200)), ((w // 2, h // 2), (220, 220, 40))]:
	        image.paste(colour, (box[0], box[1], box[0] + w // 2, box[1] + h // 2))
	    image.save(path, **save)
	    return image
	def close(a, b, most=12):
	    return all(abs(x - y) <= most for x, y in zip(a, b))
	def corners(image):
	    image = image.convert("RGB")
	    w, h = image.size
	    return [image.getpixel(p) for p in [(w // 4, h // 4), (3 * w // 4, h // 4), (w // 4, 3 * h // 4), (3 * w // 4, 3 * h // 4)]]
`

func TestStockImageTasksFromDjango(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("images")
		media := t.TempDir()
		if err := os.WriteFile(filepath.Join(filepath.Dir(media), "outside.jpg"), []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
		s.stalk(t, queue, "--media-root", media)
		p := s.python(t, queue)
		p.args["root"] = media
		p.run(photo)
		p.run(`
			import os
			os.makedirs(root + "/uploads")
			source = photo(root + "/uploads/photo.jpg", quality=92)
			r = thumbnail.apply_async(("uploads/photo.jpg",), queue=Q)
			meta = r.get(timeout=60)
			made = Image.open(os.path.join(root, meta["name"]))
			assert made.size == (meta["width"], meta["height"]) == (256, 171), (made.size, meta)
			assert meta["bytes"] == os.path.getsize(os.path.join(root, meta["name"])), meta
			assert meta["format"].lower() == made.format.lower() == "jpeg", (meta, made.format)
			assert all(close(a, b) for a, b in zip(corners(made), corners(source))), corners(made)
		`)
		p.run(`
			r = thumbnail.apply_async(("uploads/photo.jpg",), {"target": "small/a.png", "size": [64, 64], "fit": "cover", "format": "png"}, queue=Q)
			meta = r.get(timeout=60)
			assert meta["name"] == "small/a.png" and (meta["width"], meta["height"]) == (64, 64), meta
			made = Image.open(root + "/small/a.png")
			assert made.format == "PNG" and made.size == (64, 64)
			many = variants.apply_async(("uploads/photo.jpg", [{"target": "v/1.jpg", "size": [300, 300]}, {"target": "v/2.png", "size": [100, 50], "fit": "cover"}]), queue=Q)
			metas = many.get(timeout=60)
			assert [m["name"] for m in metas] == ["v/1.jpg", "v/2.png"], metas
			assert Image.open(root + "/v/1.jpg").size == (300, 200)
			# All there is to ask for, as Python sends it.
			meta = thumbnail.apply_async(("uploads/photo.jpg", "all.jpg", (90, 90), "cover", "jpeg", 90), dict(focal=(0, 1), crop=(0, 0, 600, 400),
			    sharpen=(0.5, 80, 0), max_bytes=2500, progressive=True, subsampling="4:4:4", metadata="keep", icc="srgb"), queue=Q).get(timeout=60)
			made = Image.open(root + "/all.jpg")
			assert made.size == (90, 90) and made.info.get("progressive") and meta["bytes"] <= 2500 and 10 <= meta["quality"] <= 90, (meta, made.info)
			assert all(close(c, source.getpixel((300, 200))) for c in corners(made)), corners(made)
			many = variants.apply_async(("uploads/photo.jpg", [{"size": [50, 50], "fit": "contain"}, {"size": [50, 50], "fit": "cover", "focal": [0.25, 0.5], "progressive": True}]), queue=Q)
			assert [m["name"] for m in many.get(timeout=60)] == ["uploads/thumbs/photo_50x50_contain.jpg", "uploads/thumbs/photo_50x50_cover_at0.25-0.5_progressive.jpg"]
			# EXIF orientation 6: the picture lies on its side.
			exif = Image.Exif()
			exif[0x0112] = 6
			source = photo(root + "/turned.jpg", exif=exif, quality=92)
			meta = thumbnail.apply_async(("turned.jpg",), queue=Q).get(timeout=60)
			assert (meta["width"], meta["height"]) == (171, 256), meta
			turned = corners(source)
			got = corners(Image.open(os.path.join(root, meta["name"])))
			want = [turned[2], turned[0], turned[3], turned[1]]
			assert all(close(a, b) for a, b in zip(got, want)), (got, want)
		`)
		p.run(`
			open(root + "/broken.jpg", "wb").write(b"\xff\xd8\xff\xe0 this is no picture")
			os.symlink(os.path.join(os.path.dirname(root), "outside.jpg"), root + "/link.jpg")
			for name in ["../outside.jpg", "/etc/passwd", "missing.jpg", "broken.jpg", "link.jpg", "", "uploads", "a\x00b"]:
			    r = thumbnail.apply_async((name,), queue=Q)
			    try:
			        got = r.get(timeout=60)
			    except Exception as exc:
			        assert str(exc), name
			    else:
			        raise AssertionError("%r gave %r" % (name, got))
			for target in ["../x.jpg", "/tmp/x.jpg"]:
			    r = thumbnail.apply_async(("uploads/photo.jpg",), {"target": target}, queue=Q)
			    try:
			        got = r.get(timeout=60)
			    except Exception as exc:
			        assert str(exc)
			    else:
			        raise AssertionError("%r gave %r" % (target, got))
			assert not os.path.exists(os.path.dirname(root) + "/x.jpg")
		`)
	})
}
