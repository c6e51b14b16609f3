package images

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/handlers/images/jpegscale"
	"github.com/stalkworker/stalk/handlers/images/jpegwrite"
	"github.com/stalkworker/stalk/protocol"
)

// allocated is what decoding really takes, garbage included.
func allocated(t *testing.T, name string, data []byte) (taken, said int64) {
	t.Helper()
	i, err := probe(name, data, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := decode(t.Context(), name, data, i, i.size); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc), i.footprint(len(data), []size{i.size}, 0)
}

// Not parallel: it counts what is allocated.
func TestFootprintIsWhatDecodingTakes(t *testing.T) {
	files, _ := filepath.Glob("testdata/[a-sux-z]*.*")
	for _, file := range files {
		if ext := filepath.Ext(file); ext == ".json" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if taken, said := allocated(t, file, data); taken > said {
			t.Errorf("%s: takes %d bytes, footprint says %d", file, taken, said)
		}
	}
	photo := image.NewRGBA(image.Rect(0, 0, 1500, 1000))
	photo.SetRGBA(1, 1, color.RGBA{1, 2, 3, 4}) // else it is opaque, and written without alpha
	gray := image.NewGray(photo.Bounds())
	deep := image.NewNRGBA64(photo.Bounds())
	deep.SetNRGBA64(1, 1, color.NRGBA64{1, 2, 3, 4})
	paletted := image.NewPaletted(photo.Bounds(), color.Palette{color.Black, color.White})
	encoded := func(encode func(*bytes.Buffer) error) []byte {
		var b bytes.Buffer
		if err := encode(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, data := range map[string][]byte{
		"photo.jpg":    encoded(func(b *bytes.Buffer) error { return jpeg.Encode(b, photo, nil) }),
		"gray.jpg":     encoded(func(b *bytes.Buffer) error { return jpeg.Encode(b, gray, nil) }),
		"photo.png":    encoded(func(b *bytes.Buffer) error { return png.Encode(b, photo) }),
		"gray.png":     encoded(func(b *bytes.Buffer) error { return png.Encode(b, gray) }),
		"deep.png":     encoded(func(b *bytes.Buffer) error { return png.Encode(b, deep) }),
		"paletted.png": encoded(func(b *bytes.Buffer) error { return png.Encode(b, paletted) }),
		"paletted.gif": encoded(func(b *bytes.Buffer) error { return gif.Encode(b, paletted, nil) }),
	} {
		taken, said := allocated(t, name, data)
		t.Logf("%s: takes %.1f MB, footprint says %.1f MB", name, float64(taken)/1e6, float64(said)/1e6)
		most := 2*taken + 3<<20
		if filepath.Ext(name) == ".gif" {
			most = 7 * taken // whether the first frame needs a canvas is not known before
		}
		if taken > said || said > most {
			t.Errorf("%s: takes %d bytes, footprint says %d, want that and at most %d", name, taken, said, most)
		}
	}
}

// A narrow is a Host with a small memory budget.
type narrow struct {
	handlers.Host
	asked int64
}

func (n *narrow) Reserve(_ context.Context, bytes int64) error {
	n.asked = bytes
	return handlers.ErrBudget
}

func (n *narrow) Report(context.Context, protocol.State, protocol.Value) error { return nil }

func TestThumbnailAsksForItsMemoryFirst(t *testing.T) {
	cfg := testConfig("testdata")
	host := &narrow{}
	ctx := handlers.NewContext(t.Context(), handlers.Info{}, host)
	j := job{cfg: cfg, source: "photo.png", variants: []variant{asked(fitInside, 10, 10)}, progress: func(string, int) error {
		t.Error("it went on without its memory")
		return nil
	}}
	if _, err := j.run(ctx); err != handlers.ErrBudget {
		t.Errorf("run: %v, want the refusal of the budget", err)
	}
	if host.asked < 320*213*4 {
		t.Errorf("asked for %d bytes", host.asked)
	}
}

// Not parallel: it counts what is allocated. What a JPEG takes goes by the scale, a second attempt included.
func TestFootprintOfReducedJPEGs(t *testing.T) {
	for name, m := range contents(751, 563) {
		if name != "photograph 1" && name != "text" {
			continue
		}
		for _, progressive := range []bool{false, true} {
			var b bytes.Buffer
			if err := jpegwrite.Encode(&b, pictureToWrite(m), jpegwrite.Options{Quality: 90, Progressive: progressive}); err != nil {
				t.Fatal(err)
			}
			data := b.Bytes()
			i, err := probe(name, data, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			for _, wants := range [][]size{{{25, 19}}, {{60, 45}}, {{150, 112}}, {{450, 338}}, {{450, 338}, {50, 38}, {20, 15}}} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				if _, err := decode(t.Context(), name, data, i, wants...); err != nil {
					t.Fatal(err)
				}
				runtime.ReadMemStats(&after)
				taken, said := int64(after.TotalAlloc-before.TotalAlloc), i.footprint(len(data), wants, 0)-int64(len(data))
				t.Logf("%s, progressive %v, to %v: takes %.2f MB, footprint says %.2f MB", name, progressive, wants, float64(taken)/1e6, float64(said)/1e6)
				if taken > said {
					t.Errorf("%s, progressive %v, to %v: takes %d bytes, footprint says %d", name, progressive, wants, taken, said)
				}
			}
		}
	}
}

// The bounds that docs/images.md states.
func TestFootprintOfLargeJPEGs(t *testing.T) {
	colour := [][2]int{{2, 2}, {1, 1}, {1, 1}}
	for _, tt := range []struct {
		w, h        int
		progressive bool
		side        int
		most        int64 // MB, a file of 6 MB included
	}{
		{6000, 4000, false, 256, 17},
		{6000, 4000, false, 512, 33},
		{6000, 4000, true, 256, 23},
		{11547, 8660, false, 256, 34},
		{11547, 8660, false, 1024, 110},
		{11547, 8660, true, 256, 58},
		{11547, 8660, true, 10000, 1300},
	} {
		i := info{size: size{tt.w, tt.h}, format: formatJPEG, jpeg: jpegscale.Header{Width: tt.w, Height: tt.h, Sampling: colour, Progressive: tt.progressive}}
		out := inside(i.size, size{tt.side, tt.side})
		if got := i.footprint(6e6, []size{out}, out.pixels()); got > tt.most*1e6 {
			t.Errorf("%d x %d, progressive %v, to %d: %.1f MB, want at most %d", tt.w, tt.h, tt.progressive, tt.side, float64(got)/1e6, tt.most)
		} else {
			t.Logf("%d x %d, progressive %v, to %d: %.1f MB", tt.w, tt.h, tt.progressive, tt.side, float64(got)/1e6)
		}
	}
}
