package images

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// goldenCase is one line of testdata/expected.json, which pyfixtures/images.py records with Pillow.
type goldenCase struct {
	Source string  `json:"source"`
	Fit    string  `json:"fit"`
	Size   [2]int  `json:"size"`
	Want   string  `json:"want"`
	Least  float64 `json:"least"` // dB
	Truth  string  `json:"truth"` // what the original before its JPEG compression reduces to; "" not recorded
}

func goldenCases(t testing.TB) []goldenCase {
	t.Helper()
	data, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []goldenCase `json:"cases"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 50 {
		t.Fatalf("%d cases", len(file.Cases))
	}
	return file.Cases
}

// The pixels we make are those of Pillow's Lanczos. They are compared as PNG, before any lossy encoding.
func TestQualityIsThatOfPillowsLanczos(t *testing.T) {
	for _, tt := range goldenCases(t) {
		t.Run(tt.Want, func(t *testing.T) { comparePillow(t, tt, false) })
		if filepath.Ext(tt.Source) == ".jpg" { // and as the task decodes it
			t.Run(tt.Want+" reduced", func(t *testing.T) { comparePillow(t, tt, true) })
		}
	}
}

func comparePillow(t *testing.T, tt goldenCase, reduced bool) {
	t.Parallel()
	for _, format := range []string{formatPNG, formatJPEG} {
		got, want := reduceFile(t, tt, format, reduced), readPNG(t, tt.Want)
		if got.Bounds() != want.Bounds() {
			t.Fatalf("size %v, Pillow's is %v", got.Bounds(), want.Bounds())
		}
		least := tt.Least
		if _, planes := got.(*image.YCbCr); planes {
			// Chroma at half size, as the JPEG will hold it: only brightness can be compared.
			db := psnrLuma(got, want)
			if reduced && tt.Truth != "" {
				// Print, whose overshoot at edges a full decode cuts off at white, comes out nearer to the original than Pillow's.
				truth := readPNG(t, tt.Truth)
				if ours, pillows := psnrLuma(got, truth), psnrLuma(want, truth); ours >= pillows-0.3 {
					continue
				}
			}
			if db < least {
				t.Errorf("planes for JPEG: luma %.1f dB, want %.0f", db, least)
			}
			continue
		}
		if tt.Truth != "" {
			truth := readPNG(t, tt.Truth)
			ours, pillows, luma := psnr(got, truth), psnr(want, truth), psnrLuma(got, want)
			t.Logf("%.1f dB from the original, Pillow's %.1f dB; luma %.1f dB from Pillow's", ours, pillows, luma)
			if ours < pillows-0.3 || luma < least && !(reduced && psnrLuma(got, truth) >= psnrLuma(want, truth)-0.3) {
				t.Errorf("%.2f dB from the original, Pillow's %.2f dB; luma %.1f dB from Pillow's, want %.0f", ours, pillows, luma, least)
			}
			continue
		}
		db := psnr(got, want)
		t.Logf("%.1f dB", db)
		if format == formatPNG && db < least {
			t.Errorf("%.1f dB, want %.0f", db, least)
		}
	}
}

// reduceFile is the whole task but for the writing. reduced: a JPEG is decoded only as far as it is needed.
func reduceFile(t testing.TB, tt goldenCase, format string, reduced bool) image.Image {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", tt.Source))
	if err != nil {
		t.Fatal(err)
	}
	i, err := probe(tt.Source, data, DefaultMaxPixels)
	if err != nil {
		t.Fatal(err)
	}
	out, crop := fit(tt.Fit, i.upright(), size{tt.Size[0], tt.Size[1]})
	wants := []size{i.size}
	if reduced {
		j := job{cfg: testConfig(""), variants: []variant{asked(tt.Fit, tt.Size[0], tt.Size[1])}}
		if wants, err = j.wanted(i); err != nil {
			t.Fatal(err)
		}
	}
	p, err := decode(t.Context(), tt.Source, data, i, wants...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := reduce(t.Context(), p, i, out, crop, format == formatJPEG)
	if err != nil {
		t.Fatal(err)
	}
	return shown(s, format)
}

// reduce is reduceAll of one.
func reduce(ctx context.Context, p *picture, i info, out size, crop box, halve bool) (*scaled, error) {
	made, err := reduceAll(ctx, p, i, []order{{out, crop, halve}})
	if err != nil {
		return nil, err
	}
	return made[0], nil
}

func readPNG(t testing.TB, name string) image.Image {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// psnr compares colours multiplied by alpha, and alpha: what a transparent pixel would be is nobody's business.
func psnr(a, b image.Image) float64 {
	r := a.Bounds()
	sum, n := 0.0, 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			p, q := color.RGBAModel.Convert(a.At(x, y)).(color.RGBA), color.RGBAModel.Convert(b.At(x, y)).(color.RGBA)
			for _, d := range []float64{float64(p.R) - float64(q.R), float64(p.G) - float64(q.G), float64(p.B) - float64(q.B), float64(p.A) - float64(q.A)} {
				sum += d * d
			}
			n += 3
		}
	}
	return decibel(sum, n)
}

func psnrLuma(a, b image.Image) float64 {
	r := a.Bounds()
	sum, n := 0.0, 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			p, q := color.YCbCrModel.Convert(a.At(x, y)).(color.YCbCr), color.YCbCrModel.Convert(b.At(x, y)).(color.YCbCr)
			d := float64(p.Y) - float64(q.Y)
			sum += d * d
			n++
		}
	}
	return decibel(sum, n)
}

func decibel(sum float64, n int) float64 {
	if sum == 0 {
		return 99
	}
	return 10 * math.Log10(255*255*float64(n)/sum)
}
