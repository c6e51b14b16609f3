package pngwrite

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

func drawn(w, h, channels int) Picture {
	m := sampleimage.New(w, h, 5)
	p := Picture{W: w, H: h, Channels: channels}
	for y := range h {
		for x := range w {
			c := color.RGBAModel.Convert(m.At(x, y)).(color.RGBA)
			switch channels {
			case 1:
				p.Pix = append(p.Pix, c.R)
			case 3:
				p.Pix = append(p.Pix, c.R, c.G, c.B)
			default:
				p.Pix = append(p.Pix, c.R, c.G, c.B, uint8(x*y))
			}
		}
	}
	return p
}

func encoded(t testing.TB, p Picture, chunks []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, p, chunks); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// samples are those of the file as image/png reads it, and it says how many channels there are.
func samples(t testing.TB, data []byte) Picture {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	b := m.Bounds()
	p := Picture{W: b.Dx(), H: b.Dy()}
	switch m := m.(type) {
	case *image.Gray:
		p.Channels, p.Pix = 1, m.Pix
	case *image.RGBA: // what it makes of RGB
		p.Channels = 3
		for i := 0; i < len(m.Pix); i += 4 {
			p.Pix = append(p.Pix, m.Pix[i:i+3]...)
		}
	case *image.NRGBA:
		p.Channels, p.Pix = 4, m.Pix
	}
	return p
}

func TestEverySizeReadsBack(t *testing.T) {
	for _, channels := range []int{1, 3, 4} {
		for w := 1; w <= 20; w++ {
			for h := 1; h <= 9; h++ {
				p := drawn(w, h, channels)
				got := samples(t, encoded(t, p, nil))
				if got.W != w || got.H != h || got.Channels != channels || !bytes.Equal(got.Pix, p.Pix) {
					t.Fatalf("%d x %d of %d channels reads as %d x %d of %d", w, h, channels, got.W, got.H, got.Channels)
				}
			}
		}
	}
}

// Large enough for many chunks, and not larger than image/png's own by more than 5 %.
func TestPhotographs(t *testing.T) {
	for _, channels := range []int{1, 3, 4} {
		p := drawn(250, 160, channels)
		data := encoded(t, p, nil)
		if got := samples(t, data); !bytes.Equal(got.Pix, p.Pix) {
			t.Errorf("%d channels: read as another picture", channels)
		}
		m, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		var std bytes.Buffer
		if err := png.Encode(&std, m); err != nil {
			t.Fatal(err)
		}
		if len(data)*100 > std.Len()*105 {
			t.Errorf("%d channels: %d bytes, image/png %d", channels, len(data), std.Len())
		}
		if len(data) > piece+100 && bytes.Count(data, []byte("IDAT")) < 2 {
			t.Errorf("%d channels: one chunk", channels)
		}
	}
}

func TestChunksStandBehindTheHeader(t *testing.T) {
	c := &chunker{}
	var chunk bytes.Buffer
	c.w = &chunk
	c.chunk("tEXt", []byte("a\x00b"))
	data := encoded(t, drawn(3, 3, 3), chunk.Bytes())
	if !bytes.Equal(data[33:33+chunk.Len()], chunk.Bytes()) {
		t.Errorf("% x", data[:60])
	}
	samples(t, data)
}

func TestImpossiblePictures(t *testing.T) {
	for _, p := range []Picture{{0, 1, 1, nil}, {1, 0, 1, nil}, {1, 1, 2, make([]uint8, 9)}, {3, 3, 3, make([]uint8, 26)}, {1 << 40, 1 << 40, 4, nil}} {
		var b bytes.Buffer
		if err := Encode(&b, p, nil); err == nil || b.Len() > 0 {
			t.Errorf("%d x %d of %d: %v, %d bytes", p.W, p.H, p.Channels, err, b.Len())
		}
	}
}

type failing struct{ after int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	f.after -= len(p)
	if f.after < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestErrorsOfTheWriter(t *testing.T) {
	p := drawn(200, 200, 3)
	size := len(encoded(t, p, nil))
	for after := 0; after < size; after += size / 11 {
		if err := Encode(&failing{after}, p, nil); !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: %v", after, err)
		}
	}
	if err := Encode(&failing{size}, p, nil); err != nil {
		t.Error(err)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add(uint8(7), uint8(3), []byte("a row of samples"))
	f.Fuzz(func(t *testing.T, w, channels uint8, pix []byte) {
		p := Picture{W: max(int(w), 1), Channels: []int{1, 3, 4}[channels%3], Pix: pix}
		p.H = len(pix) / p.W / p.Channels
		if p.H == 0 {
			return
		}
		if got := samples(t, encoded(t, p, nil)); !bytes.Equal(got.Pix, pix[:p.W*p.H*p.Channels]) {
			t.Error("reads as another picture")
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, channels := range []int{3, 4} {
		p := drawn(512, 384, channels)
		b.Run(fmt.Sprintf("channels=%d", channels), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.ReportMetric(float64(len(encoded(b, p, nil))), "bytes")
			}
		})
		m, err := png.Decode(bytes.NewReader(encoded(b, p, nil)))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("image/png channels=%d", channels), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var w bytes.Buffer
				if err := png.Encode(&w, m); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(w.Len()), "bytes")
			}
		})
	}
}
