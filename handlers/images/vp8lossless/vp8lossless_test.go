package vp8lossless

import (
	"bytes"
	"encoding/binary"
	"image"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/image/vp8l"
)

func never() error { return nil }

func payload(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for rest := data[12:]; len(rest) >= 8; {
		n := int(binary.LittleEndian.Uint32(rest[4:]))
		if string(rest[:4]) == "VP8L" {
			return rest[8 : 8+n]
		}
		rest = rest[8+n+n%2:]
	}
	t.Fatalf("%s has no VP8L", file)
	return nil
}

// compare decodes by both. What the other decodes this one does too, to the same pixels.
func compare(t *testing.T, data []byte) bool {
	t.Helper()
	m, wrong := vp8l.Decode(bytes.NewReader(data))
	if wrong != nil {
		_, _ = Decode(data, never)
		return false
	}
	p, err := Decode(data, never)
	if err != nil {
		t.Fatalf("%v, golang.org/x/image decodes it", err)
	}
	want := m.(*image.NRGBA)
	for range 2 {
		p.Rewind()
		for y := range p.H {
			for x, v := range p.Row() {
				px := want.Pix[y*want.Stride+4*x:][:4]
				if w := uint32(px[3])<<24 | uint32(px[0])<<16 | uint32(px[1])<<8 | uint32(px[2]); v != w {
					t.Fatalf("%d x %d: pixel %d, %d is %08x, want %08x", p.W, p.H, x, y, v, w)
				}
			}
		}
	}
	return true
}

func TestPixelsAreThoseOfTheOtherDecoder(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, file := range []string{"../testdata/lossless.webp", "../testdata/o6.webp"} {
		data := payload(t, file)
		if !compare(t, data) {
			t.Fatalf("%s is not decoded", file)
		}
		decoded := 0
		for range 200 {
			damaged := bytes.Clone(data)
			for range 1 + rnd.IntN(3) {
				damaged[5+rnd.IntN(len(damaged)-5)] ^= 1 << rnd.IntN(8)
			}
			if compare(t, damaged) {
				decoded++
			}
		}
		t.Logf("%s: %d of 200 damaged ones are decoded", file, decoded)
		for n := range len(data) - 4 {
			if n%53 == 0 {
				if _, err := Decode(data[:n], never); err == nil {
					t.Errorf("%s: %d bytes of %d are decoded", file, n, len(data))
				}
			}
		}
	}
}

// FuzzPicture looks for panics. It cannot compare: of a code of two symbols that names the greater first, golang.org/x/image makes another than
// libwebp, which is followed here, and encoders do not write such.
func FuzzPicture(f *testing.F) {
	f.Add(payload(f, "../testdata/o6.webp"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, h, _, err := DecodeHeader(data)
		if err != nil || w*h > 1<<18 {
			return
		}
		p, err := Decode(data, never)
		if err != nil {
			return
		}
		for range h {
			if len(p.Row()) != w {
				t.Fatal("a row is of another width")
			}
		}
	})
}
