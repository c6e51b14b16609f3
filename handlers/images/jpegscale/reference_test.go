package jpegscale

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/jpegwrite"
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

// bases[n] is the orthonormal transform of n samples: by coefficient and sample.
var bases = func() (t [9][8][8]float64) {
	for n := 1; n <= 8; n++ {
		for k := range n {
			for x := range n {
				t[n][k][x] = math.Sqrt(2/float64(n)) * math.Cos(float64(2*x+1)*float64(k)*math.Pi/float64(2*n))
				if k == 0 {
					t[n][k][x] = math.Sqrt(1 / float64(n))
				}
			}
		}
	}
	return t
}()

func basis(n, k, x int) float64 { return bases[n][k][x] }

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

// The same at every sampling that image/jpeg knows, baseline and in libjpeg's ten scans, refinements and all.
func TestProgressiveIsThatOfImageJPEG(t *testing.T) {
	t.Parallel()
	m := sampleimage.New(333, 222, 4)
	for sampling, f := range map[jpegwrite.Sampling][2]int{jpegwrite.S444: {1, 1}, jpegwrite.S422: {2, 1}, jpegwrite.S440: {1, 2}, jpegwrite.S420: {2, 2}} {
		w, h := ceilDiv(333, f[0]), ceilDiv(222, f[1])
		chroma := sampleimage.New(w, h, 5)
		p := jpegwrite.Picture{W: 333, H: 222, Sampling: sampling, Planes: []jpegwrite.Plane{
			{Pix: m.Y, Stride: m.YStride}, {Pix: chroma.Y, Stride: chroma.YStride}, {Pix: chroma.Y[:], Stride: chroma.YStride},
		}}
		for _, quality := range []int{30, 90, 100} {
			for _, progressive := range []bool{false, true} {
				var b bytes.Buffer
				if err := jpegwrite.Encode(&b, p, jpegwrite.Options{Quality: quality, Progressive: progressive}); err != nil {
					t.Fatal(err)
				}
				compare(t, fmt.Sprintf("%v, quality %d, progressive %v", f, quality, progressive), b.Bytes())
			}
		}
	}
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
		if mean := float64(sum) / float64(got.FullW*got.FullH); worst > 1 || mean > 0.03 || mean < -0.03 {
			t.Errorf("%s plane %d: up to %d levels from image/jpeg's, %.3f in the mean", name, i, worst, mean)
		}
	}
}
