package jpegscale

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Every sampling that there may be, in every kind of file: all samples at all scales are those of a float transform of the
// very coefficients that were written.
func TestEverySamplingAtEveryScale(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	worst := map[int]float64{}
	files := 0
	check := func(name string, d *drawing) {
		d.fillIn(r)
		files++
		data := d.encode()
		for _, n := range []int{1, 2, 4, 8} {
			img, err := Decode(data, Options{Scale: Scale(n)})
			if d.noEOI && d.progressive && n < 4 {
				if err == nil { // the last scan is not read: nobody knows that it is whole
					t.Fatalf("%s at %d: decoded without an end marker", name, n)
				}
				img, err = Decode(data, Options{Scale: Scale(n), Lenient: true})
			}
			if err != nil || img.Damage != nil {
				t.Fatalf("%s at %d: %v", name, n, err)
			}
			g := d.grid()
			for i, p := range img.Planes {
				want, stride := d.want(i, n)
				f := d.factors[i]
				if len(d.factors) == 1 {
					f = [2]int{1, 1}
				}
				if p.PerX != float64(8*g.hMax)/float64(n*f[0]) || p.FullW != ceilDiv(d.w*f[0], g.hMax) || p.FullH != ceilDiv(d.h*f[1], g.vMax) || p.W != ceilDiv(p.FullW, 8)*n || p.H != ceilDiv(p.FullH, 8)*n {
					t.Fatalf("%s at %d, plane %d: %d x %d of %d x %d, per %v", name, n, i, p.W, p.H, p.FullW, p.FullH, p.PerX)
				}
				for y := range p.H {
					for x := range p.W {
						w := want[y*stride+x]
						var off float64
						if n == 8 {
							off = float64(p.Pix[y*p.Stride+x]) - min(max(w, 0), 255)
						} else {
							off = float64(p.Fine[y*p.Stride+x])/(1<<FineBits) - FineZero - w
						}
						off = math.Abs(off)
						worst[n] = max(worst[n], off)
						if most := map[int]float64{1: 1e-9, 2: 1e-9, 4: 0.2, 8: 1}[n]; off > most {
							t.Fatalf("%s at %d, plane %d, sample %d, %d: off by %.3f", name, n, i, x, y, off)
						}
					}
				}
			}
		}
	}
	for _, count := range []int{1, 3, 4} {
		for h := 1; h <= 4; h++ {
			for v := 1; v <= 4; v++ {
				for _, odd := range []bool{false, true} {
					d := drawing{w: 20 + 7*h, h: 45 - 5*v, adobe: -1}
					d.factors = append(d.factors, [2]int{h, v})
					for i := 1; i < count; i++ {
						f := [2]int{1, 1}
						if odd {
							f = [2]int{1 + r.IntN(4), 1 + r.IntN(4)}
						}
						d.factors = append(d.factors, f)
					}
					d.restart = []int{0, 0, 1, 3}[r.IntN(4)]
					d.separate = r.IntN(3) == 0
					d.progressive = r.IntN(2) == 0
					d.noTables, d.noEOI, d.wide, d.fill = r.IntN(4) == 0, r.IntN(4) == 0, r.IntN(4) == 0, r.IntN(4) == 0
					check(fmt.Sprintf("%d x %d, %v, restart %d, separate %v, progressive %v", d.w, d.h, d.factors, d.restart, d.separate, d.progressive), &d)
				}
			}
		}
	}
	for _, s := range [][2]int{{1, 1}, {1, 300}, {300, 1}, {17, 9}, {8, 8}, {9, 8}, {16, 16}, {65500, 2}, {3, 9001}} {
		for _, progressive := range []bool{false, true} {
			d := drawing{w: s[0], h: s[1], adobe: -1, factors: [][2]int{{2, 2}, {1, 1}, {1, 1}}, progressive: progressive}
			check(fmt.Sprintf("%d x %d, progressive %v", d.w, d.h, progressive), &d)
		}
	}
	t.Logf("%d files, at most off by %v", files, worst)
}

// Coarser scales beside one are what they are alone.
func TestCoarserScalesAreTheSame(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(8, 8))
	for _, progressive := range []bool{false, true} {
		d := drawing{w: 75, h: 50, adobe: -1, factors: [][2]int{{2, 1}, {1, 1}, {1, 1}}, progressive: progressive}
		d.fillIn(r)
		data := d.encode()
		for _, n := range []Scale{2, 4, 8} {
			var coarser []Scale
			for c := Scale(1); c < n; c *= 2 {
				coarser = append(coarser, c)
			}
			img, err := Decode(data, Options{Scale: n, Coarser: coarser})
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range coarser {
				alone, err := Decode(data, Options{Scale: c})
				if err != nil {
					t.Fatal(err)
				}
				for j, p := range alone.Planes {
					q := img.Coarser[i].Planes[j]
					if fmt.Sprint(p) != fmt.Sprint(q) {
						t.Errorf("progressive %v, scale %d beside %d, plane %d differs", progressive, c, n, j)
					}
				}
			}
		}
	}
	if _, err := Decode(nil, Options{Scale: 2, Coarser: []Scale{4}}); err == nil {
		t.Error("a finer scale passes as a coarser one")
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 9))
	three, four := [][2]int{{1, 1}, {1, 1}, {1, 1}}, [][2]int{{1, 1}, {1, 1}, {1, 1}, {1, 1}}
	for _, tt := range []struct {
		name string
		d    drawing
		want Model
	}{
		{"one component is grey, whatever its factors", drawing{factors: [][2]int{{2, 2}}, adobe: -1}, Gray},
		{"three are YCbCr", drawing{factors: three, adobe: -1}, YCbCr},
		{"with Adobe's transform 0 they are RGB", drawing{factors: three, adobe: 0}, RGB},
		{"with transform 1 YCbCr", drawing{factors: three, adobe: 1}, YCbCr},
		{"named R, G and B they are RGB", drawing{factors: three, adobe: -1, ids: []byte("RGB")}, RGB},
		{"four are CMYK", drawing{factors: four, adobe: -1}, CMYK},
		{"with transform 0 too", drawing{factors: four, adobe: 0}, CMYK},
		{"with transform 2 YCCK", drawing{factors: four, adobe: 2}, YCCK},
	} {
		tt.d.w, tt.d.h = 20, 20
		tt.d.fillIn(r)
		data := tt.d.encode()
		h, err := ReadHeader(data)
		if err != nil || h.Model != tt.want || h.Width != 20 || len(h.Sampling) != len(tt.d.factors) {
			t.Errorf("%s: header %+v, %v", tt.name, h, err)
		}
		img, err := Decode(data, Options{Scale: Eighth})
		if err != nil || img.Model != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
