package jpegscale

import (
	"bytes"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

// standard is what image/jpeg makes of the file: its planes.
func standard(t testing.TB, data []byte) []Plane {
	t.Helper()
	m, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	switch m := m.(type) {
	case *image.Gray:
		return []Plane{{Pix: m.Pix, Stride: m.Stride, W: m.Rect.Dx(), H: m.Rect.Dy()}}
	case *image.YCbCr:
		return []Plane{{Pix: m.Y, Stride: m.YStride, W: m.Rect.Dx(), H: m.Rect.Dy()}, {Pix: m.Cb, Stride: m.CStride}, {Pix: m.Cr, Stride: m.CStride}}
	}
	t.Fatalf("%T", m)
	return nil
}

// reduced is the reference for a scale: of each block of eight by eight samples the lowest n by n coefficients, in floats.
func reduced(p Plane, n int) []float64 {
	out := make([]float64, p.W/8*n*p.H/8*n)
	for by := range p.H / 8 {
		for bx := range p.W / 8 {
			var c [8][8]float64
			for v := range n {
				for u := range n {
					for y := range 8 {
						for x := range 8 {
							c[v][u] += float64(p.Pix[(by*8+y)*p.Stride+bx*8+x]) * basis(8, u, x) * basis(8, v, y)
						}
					}
				}
			}
			for y := range n {
				for x := range n {
					sum := 0.0
					for v := range n {
						for u := range n {
							sum += c[v][u] * basis(n, u, x) * basis(n, v, y)
						}
					}
					out[(by*n+y)*(p.W/8*n)+bx*n+x] = sum * float64(n) / 8
				}
			}
		}
	}
	return out
}

func basis(n, k, x int) float64 {
	if k == 0 {
		return math.Sqrt(1 / float64(n))
	}
	return math.Sqrt(2/float64(n)) * math.Cos(float64(2*x+1)*float64(k)*math.Pi/float64(2*n))
}

func TestFullSizeIsThatOfImageJPEG(t *testing.T) {
	files, _ := filepath.Glob("../testdata/*.jpg")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == "cmyk.jpg" {
			continue
		}
		compare(t, filepath.Base(file), data)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, sampleimage.New(400, 300, 1), nil); err != nil {
		t.Fatal(err)
	}
	compare(t, "sample", b.Bytes())
}

func compare(t *testing.T, name string, data []byte) {
	full, err := Decode(data, Options{})
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	for i, want := range standard(t, data) {
		got := full.Planes[i]
		worst, sum := 0, 0
		for y := range got.FullH {
			for x := range got.FullW {
				d := int(got.Pix[y*got.Stride+x]) - int(want.Pix[y*want.Stride+x])
				worst = max(worst, d, -d)
				sum += d
			}
		}
		t.Logf("%s plane %d: at most %d, mean %.4f", name, i, worst, float64(sum)/float64(got.FullW*got.FullH))
		if worst > 1 {
			t.Errorf("%s plane %d: %d levels from image/jpeg's", name, i, worst)
		}
		for _, n := range []int{1, 2, 4} {
			small, err := Decode(data, Options{Scale: Scale(n)})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			p := got
			p.W, p.H = p.FullW/8*8, p.FullH/8*8
			ref := reduced(p, n)
			s := small.Planes[i]
			worst, sum := 0.0, 0.0
			for y := range p.H / 8 * n {
				for x := range p.W / 8 * n {
					d := math.Abs(float64(s.Fine[y*s.Stride+x])/(1<<FineBits) - FineZero - ref[y*(p.W/8*n)+x])
					worst = max(worst, d)
					sum += d
				}
			}
			t.Logf("    scale %d: at most %.2f, mean %.3f; %dx%d per %v,%v", n, worst, sum/float64(p.W*p.H/64*n*n), s.W, s.H, s.PerX, s.PerY)
		}
	}
}
