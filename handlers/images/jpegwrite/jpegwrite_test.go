package jpegwrite

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

var samplings = map[Sampling]image.YCbCrSubsampleRatio{
	S444: image.YCbCrSubsampleRatio444, S422: image.YCbCrSubsampleRatio422,
	S440: image.YCbCrSubsampleRatio440, S420: image.YCbCrSubsampleRatio420,
}

func pictureOf(m *image.YCbCr) Picture {
	p := Picture{W: m.Rect.Dx(), H: m.Rect.Dy(), Planes: []Plane{{m.Y, m.YStride}, {m.Cb, m.CStride}, {m.Cr, m.CStride}}}
	for s, ratio := range samplings {
		if ratio == m.SubsampleRatio {
			p.Sampling = s
		}
	}
	return p
}

// waves is a picture of the size with many frequencies, and noise.
func waves(w, h int, s Sampling, seed int) *image.YCbCr {
	m := image.NewYCbCr(image.Rect(0, 0, w, h), samplings[s])
	for i := range m.Y {
		m.Y[i] = sample(seed, i%m.YStride, i/m.YStride)
	}
	for i := range m.Cb {
		m.Cb[i], m.Cr[i] = 64+sample(seed+1, i%m.CStride, i/m.CStride)/2, 64+sample(seed+2, i%m.CStride, i/m.CStride)/2
	}
	return m
}

func encoded(t testing.TB, p Picture, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, p, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decodedYCbCr(t testing.TB, data []byte) *image.YCbCr {
	t.Helper()
	m, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return m.(*image.YCbCr)
}

// error2 is the sum of squares of a plane's differences.
func error2(a []uint8, as int, b []uint8, bs, w, h int) (sum float64) {
	for y := range h {
		for x := range w {
			d := float64(a[y*as+x]) - float64(b[y*bs+x])
			sum += d * d
		}
	}
	return sum / float64(w*h)
}

// sides end anywhere in a block or MCU, in the first, the second or the third.
var sides = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 24, 25, 31, 32, 33}

// Every size that ends anywhere in a block or MCU, every sampling, both kinds: what image/jpeg reads is the picture.
func TestEverySizeReadsBack(t *testing.T) {
	for s := range samplings {
		t.Run(fmt.Sprint(samplings[s]), func(t *testing.T) {
			t.Parallel()
			for _, w := range sides {
				for _, h := range sides {
					m := waves(w, h, s, w*64+h)
					progressive := (w+h)%2 == 0 // each kind meets every rest
					got := decodedYCbCr(t, encoded(t, pictureOf(m), Options{Quality: 100, Progressive: progressive}))
					if got.Rect.Dx() != w || got.Rect.Dy() != h || got.SubsampleRatio != m.SubsampleRatio {
						t.Fatalf("%d x %d: reads as %v, %v", w, h, got.Rect, got.SubsampleRatio)
					}
					cw, ch := ceilDiv(w, w0(s)), ceilDiv(h, h0(s))
					for i, e := range []float64{
						error2(m.Y, m.YStride, got.Y, got.YStride, w, h),
						error2(m.Cb, m.CStride, got.Cb, got.CStride, cw, ch),
						error2(m.Cr, m.CStride, got.Cr, got.CStride, cw, ch),
					} {
						if e > 1.5 {
							t.Fatalf("%d x %d, progressive %v: plane %d is off by %.2f squared", w, h, progressive, i, e)
						}
					}
				}
			}
		})
	}
}

func w0(s Sampling) int { return 1 + int(s)&1 }

func h0(s Sampling) int { return 1 + int(s)>>1 }

// alike compares what can be seen: what lies in the blocks beyond the picture is the decoder's business.
func alike(a, b *image.YCbCr) bool {
	for y := range a.Rect.Dy() {
		for x := range a.Rect.Dx() {
			if a.YCbCrAt(x, y) != b.YCbCrAt(x, y) {
				return false
			}
		}
	}
	return a.Rect == b.Rect
}

// At each quality both kinds hold the same coefficients, and these are those of image/jpeg within rounding.
func TestEveryQuality(t *testing.T) {
	m := waves(83, 61, S420, 1)
	before := 0.0
	for q := 1; q <= 100; q++ {
		base := encoded(t, pictureOf(m), Options{Quality: q})
		prog := encoded(t, pictureOf(m), Options{Quality: q, Progressive: true})
		a, b := decodedYCbCr(t, base), decodedYCbCr(t, prog)
		if !alike(a, b) {
			t.Fatalf("quality %d: progressive and baseline differ", q)
		}
		var std bytes.Buffer
		if err := jpeg.Encode(&std, m, &jpeg.Options{Quality: q}); err != nil {
			t.Fatal(err)
		}
		theirs := decodedYCbCr(t, std.Bytes())
		ours, other := error2(m.Y, m.YStride, a.Y, a.YStride, 83, 61), error2(m.Y, m.YStride, theirs.Y, theirs.YStride, 83, 61)
		if ours > other*1.02+0.05 {
			t.Errorf("quality %d: off by %.3f squared, image/jpeg by %.3f", q, ours, other)
		}
		if len(base) > std.Len() {
			t.Errorf("quality %d: %d bytes, image/jpeg %d", q, len(base), std.Len())
		}
		if q > 1 && ours > before*1.25+0.1 {
			t.Errorf("quality %d is worse than %d: %.3f after %.3f", q, q-1, ours, before)
		}
		before = ours
	}
}

func TestGrey(t *testing.T) {
	for _, progressive := range []bool{false, true} {
		for _, d := range [][2]int{{1, 1}, {7, 30}, {64, 64}, {129, 65}} {
			m := waves(d[0], d[1], S444, 9)
			data := encoded(t, Picture{W: d[0], H: d[1], Planes: []Plane{{m.Y, m.YStride}}}, Options{Quality: 98, Progressive: progressive})
			got, err := jpeg.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			g, ok := got.(*image.Gray)
			if !ok {
				t.Fatalf("reads as %T", got)
			}
			if e := error2(m.Y, m.YStride, g.Pix, g.Stride, d[0], d[1]); e > 1 {
				t.Errorf("%v, progressive %v: off by %.2f squared", d, progressive, e)
			}
		}
	}
}

// Noise at the finest and black and white at any quality need the longest codes and the largest numbers.
func TestExtremes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	for _, w := range []int{8, 200, 264} {
		m := image.NewYCbCr(image.Rect(0, 0, w, w), image.YCbCrSubsampleRatio444)
		for i := range m.Y {
			m.Y[i] = uint8(rnd.IntN(2) * 255)
			m.Cb[i] = uint8(rnd.IntN(256))
			m.Cr[i] = uint8(i%2) * 255
		}
		for _, q := range []int{1, 50, 100} {
			a := decodedYCbCr(t, encoded(t, pictureOf(m), Options{Quality: q}))
			b := decodedYCbCr(t, encoded(t, pictureOf(m), Options{Quality: q, Progressive: true}))
			if !alike(a, b) {
				t.Errorf("%d wide, quality %d: progressive and baseline differ", w, q)
			}
			if q == 100 && error2(m.Y, m.YStride, a.Y, a.YStride, w, w) > 3 {
				t.Errorf("%d wide: off by %.2f squared", w, error2(m.Y, m.YStride, a.Y, a.YStride, w, w))
			}
		}
	}
}

// What is not kept between passes is the same file.
func TestCoefficientsMadeAnewAreTheSame(t *testing.T) {
	for s := range samplings {
		m := waves(333, 207, s, 3)
		for _, progressive := range []bool{false, true} {
			o := Options{Quality: 85, Progressive: progressive}
			want := encoded(t, pictureOf(m), o)
			var b bytes.Buffer
			e, err := newEncoder(&b, pictureOf(m), o)
			if err != nil {
				t.Fatal(err)
			}
			for i := range e.comps {
				e.comps[i].hold(false)
			}
			if err := errors.Join(e.encode(), e.out.finish()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%v, progressive %v: the files differ", samplings[s], progressive)
			}
		}
	}
}

func TestSegmentsStandBehindTheHeader(t *testing.T) {
	m := waves(20, 20, S420, 1)
	extra := []byte{0xff, 0xe2, 0, 6, 'a', 'b', 'c', 'd'}
	data := encoded(t, pictureOf(m), Options{Quality: 80, Segments: extra})
	if !bytes.Equal(data[20:28], extra) || string(data[6:11]) != "JFIF\x00" {
		t.Errorf("starts with % x", data[:30])
	}
	decodedYCbCr(t, data)
}

func TestImpossiblePictures(t *testing.T) {
	m := waves(20, 20, S420, 1)
	good := pictureOf(m)
	for name, change := range map[string]func(p *Picture, o *Options){
		"no width":        func(p *Picture, _ *Options) { p.W = 0 },
		"too high":        func(p *Picture, _ *Options) { p.H = 65536 },
		"two planes":      func(p *Picture, _ *Options) { p.Planes = p.Planes[:2] },
		"quality 0":       func(_ *Picture, o *Options) { o.Quality = 0 },
		"quality 101":     func(_ *Picture, o *Options) { o.Quality = 101 },
		"no sampling":     func(p *Picture, _ *Options) { p.Sampling = 9 },
		"short plane":     func(p *Picture, _ *Options) { p.Planes[2].Pix = p.Planes[2].Pix[:99] },
		"narrow plane":    func(p *Picture, _ *Options) { p.Planes[0].Stride = 19 },
		"chroma too wide": func(p *Picture, _ *Options) { p.Sampling = S444 },
	} {
		p, o := good, Options{Quality: 80}
		p.Planes = append([]Plane(nil), good.Planes...)
		change(&p, &o)
		var b bytes.Buffer
		if err := Encode(&b, p, o); err == nil || b.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", name, err, b.Len())
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
	m := waves(300, 300, S444, 1)
	for _, progressive := range []bool{false, true} {
		o := Options{Quality: 95, Progressive: progressive}
		size := len(encoded(t, pictureOf(m), o))
		for after := 0; after < size; after += size / 4 {
			if err := Encode(&failing{after}, pictureOf(m), o); !errors.Is(err, errFull) {
				t.Errorf("progressive %v, after %d bytes: %v", progressive, after, err)
			}
		}
	}
}

// FuzzEncode makes pictures of the fuzzer's bytes: both kinds decode to the same.
func FuzzEncode(f *testing.F) {
	f.Add(uint8(17), uint8(9), uint8(85), uint8(3), []byte("seed of a picture"))
	f.Add(uint8(1), uint8(200), uint8(100), uint8(0), []byte{0, 255})
	f.Fuzz(func(t *testing.T, w, h, quality, s uint8, seed []byte) {
		if len(seed) == 0 {
			return
		}
		m := image.NewYCbCr(image.Rect(0, 0, max(int(w), 1), max(int(h), 1)), samplings[Sampling(s%4)])
		for _, pix := range [][]uint8{m.Y, m.Cb, m.Cr} {
			for i := range pix {
				pix[i] = seed[i%len(seed)] + uint8(i/len(seed))
			}
		}
		q := int(quality)%100 + 1
		a := decodedYCbCr(t, encoded(t, pictureOf(m), Options{Quality: q}))
		b := decodedYCbCr(t, encoded(t, pictureOf(m), Options{Quality: q, Progressive: true}))
		if !alike(a, b) {
			t.Error("progressive and baseline differ")
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	m := sampleimage.New(1024, 768, 1)
	p := pictureOf(m)
	for _, progressive := range []bool{false, true} {
		b.Run(fmt.Sprintf("progressive=%v", progressive), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var w bytes.Buffer
				if err := Encode(&w, p, Options{Quality: 85, Progressive: progressive}); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(w.Len()), "bytes")
			}
		})
	}
	b.Run("image/jpeg", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var w bytes.Buffer
			if err := jpeg.Encode(&w, m, &jpeg.Options{Quality: 85}); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(w.Len()), "bytes")
		}
	})
}
