package vp8frame

import (
	"bytes"
	"encoding/binary"
	"image"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/image/vp8"
)

// frameOf is the key frame in a WebP file.
func frameOf(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for rest := data[12:]; len(rest) >= 8; {
		n := int(binary.LittleEndian.Uint32(rest[4:]))
		if string(rest[:4]) == "VP8 " {
			return rest[8 : 8+n]
		}
		rest = rest[8+n+n%2:]
	}
	t.Fatalf("%s has no VP8", name)
	return nil
}

func reference(data []byte) (*image.YCbCr, error) {
	d := vp8.NewDecoder()
	d.Init(bytes.NewReader(data), len(data))
	if _, err := d.DecodeFrameHeader(); err != nil {
		return nil, err
	}
	return d.DecodeFrame()
}

func never() error { return nil }

// compare decodes by both. What the other decodes this one does too, to the same samples.
func compare(t *testing.T, data []byte) (decoded bool) {
	t.Helper()
	want, wrong := reference(data)
	planes, err := Decode(data, true, never)
	if wrong != nil {
		return false // of data cut short this one may read a byte more
	}
	if err != nil {
		t.Fatalf("%v, golang.org/x/image decodes it", err)
	}
	w, h := want.Rect.Dx(), want.Rect.Dy()
	for i, p := range []struct {
		pix          []uint8
		stride, w, h int
	}{{want.Y, want.YStride, w, h}, {want.Cb, want.CStride, (w + 1) / 2, (h + 1) / 2}, {want.Cr, want.CStride, (w + 1) / 2, (h + 1) / 2}} {
		for y := range p.h {
			got := planes[i].Row(y)[:p.w]
			if row := p.pix[y*p.stride:][:p.w]; !bytes.Equal(got, row) {
				for x := range row {
					if got[x] != row[x] {
						t.Fatalf("plane %d of %d x %d: sample %d, %d is %d, want %d", i, w, h, x, y, got[x], row[x])
					}
				}
			}
		}
	}
	return true
}

var samples = []string{"lossy.webp", "alpha.webp"}

// The samples are those of the other decoder, for files as they are and for thousands of damaged ones, which are full of what
// encoders never write.
func TestFramesAreThoseOfTheOtherDecoder(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, name := range samples {
		data := frameOf(t, name)
		if !compare(t, data) {
			t.Errorf("%s is not decoded", name)
		}
		decoded := 0
		for range 150 {
			damaged := bytes.Clone(data)
			for range 1 + rnd.IntN(6) {
				at := 10 + rnd.IntN(len(damaged)-10)
				if rnd.IntN(2) == 0 {
					at = 10 + rnd.IntN(min(60, len(damaged)-10)) // the header
				}
				damaged[at] = byte(rnd.Uint32())
			}
			damaged[6], damaged[8] = byte(17+rnd.IntN(100)), byte(1+rnd.IntN(100)) // other sizes, small ones
			damaged[7], damaged[9] = 0, 0
			if compare(t, damaged) {
				decoded++
			}
		}
		t.Logf("%s: %d of 150 damaged ones are decoded", name, decoded)
		if decoded < 20 {
			t.Errorf("%s: only %d damaged ones are decoded", name, decoded)
		}
	}
}

func TestFrameCutShort(t *testing.T) {
	t.Parallel()
	data := frameOf(t, "lossy.webp")
	for n := range len(data) - 8 {
		if n > 100 && n%97 != 0 {
			continue
		}
		if _, err := Decode(data[:n], true, never); err == nil {
			t.Errorf("%d bytes of %d are decoded", n, len(data))
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, name := range samples {
		f.Add(frameOf(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if w, h, err := DecodeHeader(data); err != nil || w*h > 1<<18 {
			return
		}
		compare(t, data)
	})
}

func BenchmarkFrame(b *testing.B) {
	data := frameOf(b, "lossy.webp")
	for _, smooth := range []bool{true, false} {
		name := "smoothed"
		if !smooth {
			name = "rough"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Decode(data, smooth, never); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
