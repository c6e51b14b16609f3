package images

import (
	"bytes"
	"image/jpeg"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

var photo12 = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, sampleimage.New(4000, 3000, 1), &jpeg.Options{Quality: 90}); err != nil {
		panic(err)
	}
	return b.Bytes()
})

func BenchmarkThumbnail12MP(b *testing.B) {
	root := b.TempDir()
	if err := os.WriteFile(filepath.Join(root, "photo.jpg"), photo12(), 0o644); err != nil {
		b.Fatal(err)
	}
	cfg := testConfig(root)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cfg.thumbnail(b.Context(), thumbnailArgs{Source: "photo.jpg", Size: dims(256, 256), Fit: fitInside, Quality: 85}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode12MP(b *testing.B) {
	data := photo12()
	for b.Loop() {
		if _, err := jpeg.Decode(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReduce12MP is the part that is ours.
func BenchmarkReduce12MP(b *testing.B) {
	data := photo12()
	i, err := probe("photo.jpg", data, DefaultMaxPixels)
	if err != nil {
		b.Fatal(err)
	}
	p, err := decode(b.Context(), "photo.jpg", data, i, size{256, 256})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		out, crop := fit(fitInside, i.upright(), size{256, 256})
		if _, err := reduce(b.Context(), p, i, out, crop, formatJPEG); err != nil {
			b.Fatal(err)
		}
	}
}
