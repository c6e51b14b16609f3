package images

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

// boxed is the plane with each box of samples replaced by their mean.
func boxed(p plane, bx, by int) plane {
	w, h := (p.w+bx-1)/bx, (p.h+by-1)/by
	out := make([]uint8, w*h)
	sums, counts := make([]int, w), make([]int, w)
	for y := range h {
		clear(sums)
		clear(counts)
		for sy := y * by; sy < min((y+1)*by, p.h); sy++ {
			for x, v := range p.row(sy, nil) {
				sums[x/bx] += int(v)
				counts[x/bx]++
			}
		}
		for x := range w {
			out[y*w+x] = uint8((sums[x] + counts[x]/2) / counts[x])
		}
	}
	b := bytePlane(out, w, w, h)
	b.perX, b.perY, b.boxX, b.boxY = float64(bx), float64(by), bx, by
	return b
}

// Means of boxes of pixels, filtered by the kernel that knows of them, give what the pixels themselves give: nearer than the kernel
// that takes a mean for a pixel, and near enough that 8 bits hardly tell.
func TestKernelMakesUpForMeans(t *testing.T) {
	t.Parallel()
	photo := sampleimage.New(1001, 751, 1)
	edges := make([]uint8, 1001*751)
	for i := range edges {
		edges[i] = uint8(255 * ((i%1001*7 + i/1001*3) / 900 & 1))
	}
	for _, tt := range []struct {
		name  string
		plane plane
		gain  float64
	}{
		{"photo", bytePlane(photo.Y, photo.YStride, 1001, 751), 0.5},
		{"edges", bytePlane(edges, 1001, 1001, 751), 1},
	} {
		for _, b := range []int{2, 3, 4, 8} {
			p := &picture{size: size{1001, 751}, model: modelGray, planes: []plane{tt.plane}}
			fitted, plain := *p, *p
			means := boxed(tt.plane, b, b)
			fitted.planes = []plane{means}
			means.boxX, means.boxY = 0, 0
			plain.planes = []plane{means}
			crop := box{3.5, 2, 990.25, 745}
			out := size{1001 / (3 * b), 751 / (3 * b)}
			reduced := func(p *picture) []uint8 {
				s, err := p.scale(t.Context(), []want{{out: out, crop: crop}})
				if err != nil {
					t.Fatal(err)
				}
				return s[0].pix[0]
			}
			want := reduced(p)
			ours, naive := decibels(want, reduced(&fitted)), decibels(want, reduced(&plain))
			t.Logf("%s, boxes of %d: %.1f dB, and %.1f dB when means are taken for pixels", tt.name, b, ours, naive)
			if ours < 51 || ours < naive+tt.gain {
				t.Errorf("%s, boxes of %d: %.1f dB, want 51 and %.1f", tt.name, b, ours, naive+tt.gain)
			}
		}
	}
}

// Whatever the axis, the weights of an output sum to one, stay within the source, and move forward.
func TestKernelOfAnyAxis(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		pixels, box := 1+rnd.IntN(200), 1+rnd.IntN(9)
		a := axisOf((pixels+box-1)/box, box, float64(box)*float64(1+rnd.IntN(2)), 0)
		a.pixels = pixels
		start, length := float64(rnd.IntN(9)-4)/3, (0.2+rnd.Float64())*float64(pixels)
		n := 1 + rnd.IntN(300)
		k := newKernel(a, start, length, n)
		var first, last int32
		for i := range n {
			sum := int32(0)
			for _, w := range k.weight[i*k.stride:][:k.count[i]] {
				sum += w
			}
			end := k.first[i] + k.count[i]
			if sum != 1<<weightBits || k.first[i] < first || end < last || int(end) > a.samples || k.count[i] < 1 {
				t.Fatalf("%+v from %f, %f long, to %d: output %d has taps %d to %d that sum to %d", a, start, length, n, i, k.first[i], end, sum)
			}
			first, last = k.first[i], end
		}
	}
}

func decibels(a, b []uint8) float64 {
	sum := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		sum += d * d
	}
	if sum == 0 {
		return 99
	}
	return 10 * math.Log10(255*255*float64(len(a))/sum)
}
