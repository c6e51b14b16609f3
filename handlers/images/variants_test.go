package images

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"runtime"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

// rgbPhoto is the sample picture as PNG holds it.
func rgbPhoto(w, h int) *image.NRGBA {
	m, out := sampleimage.New(w, h, 1), image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := m.YCbCrAt(x, y)
			r, g, b := color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
			out.SetNRGBA(x, y, color.NRGBA{r, g, b, 255})
		}
	}
	return out
}

// Several sizes from one pass are what each alone would be, but that the smaller start from what the larger left.
func TestVariantsAreAsGoodAsAlone(t *testing.T) {
	t.Parallel()
	data := pngOf(t, rgbPhoto(500, 390))
	i, err := probe("a.png", data, DefaultMaxPixels)
	if err != nil {
		t.Fatal(err)
	}
	var orders []order
	for _, side := range []int{20, 166, 83, 41, 7, 120} {
		out, crop := fit(fitInside, i.upright(), size{side, side})
		orders = append(orders, order{out, crop, false})
	}
	p, err := decode(t.Context(), "a.png", data, i, i.size)
	if err != nil {
		t.Fatal(err)
	}
	together, err := reduceAll(t.Context(), p, i, orders)
	if err != nil {
		t.Fatal(err)
	}
	for n, o := range orders {
		alone, err := reduceAll(t.Context(), p, i, []order{o})
		if err != nil {
			t.Fatal(err)
		}
		if together[n].size != o.out || decibels(alone[0].pix[0], together[n].pix[0]) < 52 {
			t.Errorf("%v: %v, %.1f dB from the one made alone", o.out, together[n].size, decibels(alone[0].pix[0], together[n].pix[0]))
		}
	}
}

// Alpha that is 255 everywhere is no alpha: the thumbnail is that of the same picture without.
func TestOpaqueAlphaIsNone(t *testing.T) {
	t.Parallel()
	m := rgbPhoto(203, 101)
	m.SetNRGBA(5, 5, color.NRGBA{1, 2, 3, 254})
	almost := pngOf(t, m)
	m.SetNRGBA(5, 5, color.NRGBA{1, 2, 3, 255})
	rgb := pngOf(t, m) // image/png writes no alpha of an opaque picture
	rgba := bytes.Buffer{}
	if err := png.Encode(&rgba, seemsClear{m}); err != nil {
		t.Fatal(err)
	}
	if rgb[25] != 2 || rgba.Bytes()[25] != 6 {
		t.Fatalf("colour types %d and %d", rgb[25], rgba.Bytes()[25])
	}
	made := map[string]*scaled{}
	for name, data := range map[string][]byte{"rgb": rgb, "rgba": rgba.Bytes(), "almost": almost} {
		i, err := probe(name, data, DefaultMaxPixels)
		if err != nil {
			t.Fatal(err)
		}
		p, err := decode(t.Context(), name, data, i, i.size)
		if err != nil {
			t.Fatal(err)
		}
		out, crop := fit(fitCover, i.upright(), size{20, 20})
		if made[name], err = reduce(t.Context(), p, i, out, crop, true); err != nil {
			t.Fatal(err)
		}
	}
	if made["rgba"].model != modelRGB || !bytes.Equal(made["rgba"].pix[0], made["rgb"].pix[0]) {
		t.Error("RGBA that is opaque differs from RGB")
	}
	if made["almost"].model != modelRGBA {
		t.Error("one pixel's transparency was lost")
	}
}

// seemsClear keeps image/png from looking.
type seemsClear struct{ *image.NRGBA }

func (seemsClear) Opaque() bool { return false }

// A PNG is read in rows: one as wide as 24 megapixels are takes a few megabytes beside the file, five sizes included, however high it is.
// Not parallel: it counts what is allocated.
func TestPNGTakesRowsOfMemory(t *testing.T) {
	var b bytes.Buffer
	m := image.NewPaletted(image.Rect(0, 0, 6000, 400), color.Palette{color.Black, color.White, color.NRGBA{200, 0, 0, 100}})
	for i := range m.Pix {
		m.Pix[i] = uint8(i / 700 % 3)
	}
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	i, err := probe("a.png", b.Bytes(), DefaultMaxPixels)
	if err != nil {
		t.Fatal(err)
	}
	var orders []order
	for _, side := range []int{32, 64, 128, 256, 512} {
		out, crop := fit(fitInside, i.upright(), size{side, side})
		orders = append(orders, order{out, crop, false})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err := decode(t.Context(), "a.png", b.Bytes(), i, i.size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reduceAll(t.Context(), p, i, orders); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	taken := after.TotalAlloc - before.TotalAlloc
	t.Logf("2.4 megapixels to five sizes: %.1f MB", float64(taken)/1e6)
	if taken > 4<<20 {
		t.Errorf("%d bytes", taken)
	}
}

// BenchmarkFiveSizes is to be held against BenchmarkLargestAlone: 12 megapixels, PNG.
func BenchmarkFiveSizes(b *testing.B) { benchmarkSizes(b, 800, 400, 256, 128, 64) }

func BenchmarkLargestAlone(b *testing.B) { benchmarkSizes(b, 800) }

func benchmarkSizes(b *testing.B, sides ...int) {
	var data bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&data, rgbPhoto(4000, 3000)); err != nil {
		b.Fatal(err)
	}
	i, err := probe("a.png", data.Bytes(), DefaultMaxPixels)
	if err != nil {
		b.Fatal(err)
	}
	var orders []order
	for _, side := range sides {
		out, crop := fit(fitInside, i.upright(), size{side, side})
		orders = append(orders, order{out, crop, true})
	}
	start := cpu(b)
	for b.Loop() {
		p, err := decode(b.Context(), "a.png", data.Bytes(), i, i.size)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := reduceAll(b.Context(), p, i, orders); err != nil {
			b.Fatal(err)
		}
	}
	reportCPU(b, start)
}
