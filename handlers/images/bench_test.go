package images

import (
	"bytes"
	"image/jpeg"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

var photo12 = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, sampleimage.New(4000, 3000, 1), &jpeg.Options{Quality: 90}); err != nil {
		panic(err)
	}
	return b.Bytes()
})

// cpu is the processor time this process has used: on a busy machine the clock says little.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, start time.Duration) {
	b.ReportMetric(float64(cpu(b)-start)/float64(b.N)/1e6, "cpu-ms/op")
}

func BenchmarkThumbnail12MP(b *testing.B) {
	root := b.TempDir()
	if err := os.WriteFile(filepath.Join(root, "photo.jpg"), photo12(), 0o644); err != nil {
		b.Fatal(err)
	}
	cfg := testConfig(root)
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		if _, err := cfg.thumbnail(b.Context(), defaults("photo.jpg")); err != nil {
			b.Fatal(err)
		}
	}
	reportCPU(b, start)
}

func BenchmarkDecode12MP(b *testing.B) {
	data := photo12()
	start := cpu(b)
	for b.Loop() {
		if _, err := jpeg.Decode(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
	reportCPU(b, start)
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
	start := cpu(b)
	for b.Loop() {
		out, crop := fit(fitInside, i.upright(), size{256, 256})
		if _, err := reduce(b.Context(), p, i, out, crop, true); err != nil {
			b.Fatal(err)
		}
	}
	reportCPU(b, start)
}
