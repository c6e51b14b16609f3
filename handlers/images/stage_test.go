package images

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

// same is a kernel that takes each sample for what it is.
func same(n int) kernel {
	k := kernel{first: make([]int32, n), count: make([]int32, n), weight: make([]int32, n), stride: 1, widened: true}
	for i := range n {
		k.first[i], k.count[i], k.weight[i] = int32(i), 1, 1<<weightBits
	}
	return k
}

// A stage, or one behind another, weighs by hats and nothing else, at odd ends too.
func TestStagesAreHats(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	hat := func(p, j, m int) float64 { return max(0, 1-math.Abs(float64(p-j*m))/float64(m)) / float64(m) }
	for range 80 {
		w, h, channels := 1+rnd.IntN(70), 1+rnd.IntN(70), []int{1, 3, 4}[rnd.IntN(3)]
		first, second := 1+rnd.IntN(mostHat), 1+rnd.IntN(3)
		firstY, secondY := 1+rnd.IntN(mostHat), 1+rnd.IntN(3)
		pix := make([]uint8, w*h*channels)
		for i := range pix {
			pix[i] = uint8(rnd.IntN(2) * 255)
		}
		a := newStage(w, h, channels, first, firstY)
		b := newStage(hatCount(w, first), hatCount(h, firstY), channels, second, secondY)
		a.sinks.stages = []*stage{b}
		mx, my := first*second, firstY*secondY
		to := size{hatCount(b.samples, second), hatCount(b.height, secondY)}
		r := newResampler(to.w, channels, true, same(to.w), same(to.h), to)
		b.sinks.resamplers = []*resampler{r}
		for y := range h {
			a.bytes(pix[y*w*channels:][:w*channels])
		}
		if r.done != to.h {
			t.Fatalf("%d rows of %d", r.done, to.h)
		}
		for y := range to.h {
			for x := range to.w {
				for c := range channels {
					want := 0.0
					for py := max(0, (y-1)*my); py < min(h, (y+1)*my); py++ {
						for px := max(0, (x-1)*mx); px < min(w, (x+1)*mx); px++ {
							want += hat(py, y, my) * hat(px, x, mx) * float64(pix[(py*w+px)*channels+c])
						}
					}
					if got := float64(r.out[(y*to.w+x)*channels+c]); math.Abs(got-want) > 0.57 {
						t.Fatalf("%d x %d x %d by %d and %d, %d and %d: hat %d, %d is %.3f, want %.3f", w, h, channels, first, second, firstY, secondY, x, y, got, want)
					}
				}
			}
		}
	}
}

// exactly is the plane reduced without stages.
func exactly(pl plane, crop box, out size) []uint8 {
	x, y := axisOf(pl.w, 1, 1, pl.w), axisOf(pl.h, 1, 1, pl.h)
	r := newResampler(pl.w, pl.channels, false, newKernel(x, crop.x, crop.w, out.w), newKernel(y, crop.y, crop.h, out.h), out)
	for y := range pl.h {
		if r.wants() {
			push(r, pl.row(y, nil))
		} else {
			r.skip()
		}
	}
	return r.out
}

// What stages leave to the kernel comes out as Lanczos over all the pixels would have it: for a photograph, edges, small print, and
// noise, which has as much above the result's frequencies as can be, in several sizes from one pass.
func TestStagesKeepLanczos(t *testing.T) {
	t.Parallel()
	const w, h = 801, 607
	photo := sampleimage.New(w, h, 1)
	rnd := rand.New(rand.NewPCG(1, 2))
	noise, text, edges, thin := make([]uint8, w*h), make([]uint8, w*h), make([]uint8, w*h), make([]uint8, w*h)
	for i := range noise {
		x, y := i%w, i/w
		noise[i] = uint8(rnd.IntN(256))
		edges[i] = uint8(255 * ((x*7 + y*3) / 900 & 1))
		thin[i] = uint8(255 * min((x+y)%29, 1))
		text[i] = 250
	}
	for range 11000 {
		at := rnd.IntN(h-20)/16*16*w + rnd.IntN(w-10)/9*9
		for j := range 6 + rnd.IntN(4) {
			if rnd.IntN(2) == 0 {
				text[at+j*w], text[at+j*w+1] = 20, 60
			} else {
				text[at+8*w+j] = 20
			}
		}
	}
	for _, tt := range []struct {
		name string
		pix  []uint8
		psnr float64
	}{
		{"photo", photo.Y, 58},
		{"edges", edges, 52},
		{"thin lines", thin, 47},
		{"text", text, 45},
		{"noise", noise, 48},
	} {
		stride := w
		if tt.name == "photo" {
			stride = photo.YStride
		}
		pl := bytePlane(tt.pix, stride, w, h)
		p := &picture{size: size{w, h}, model: modelGray, planes: []plane{pl}}
		crop := box{1.5, 3, 795, 600}
		var wants []want
		for _, out := range []size{{131, 99}, {100, 75}, {43, 200}, {160, 40}, {37, 28}, {5, 4}, {1, 1}} {
			wants = append(wants, want{out: out, crop: crop})
		}
		made, err := p.scale(t.Context(), wants)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range made {
			exact := exactly(pl, crop, s.size)
			psnr, similar := decibels(exact, s.pix[0]), ssim(exact, s.pix[0], s.w, s.h)
			t.Logf("%s to %d x %d: %.1f dB, SSIM %.5f", tt.name, s.w, s.h, psnr, similar)
			// Where next to nothing is to be seen, rounding makes the similarity: less than a step then.
			if psnr < tt.psnr || similar < 0.998 && psnr < 51 {
				t.Errorf("%s to %d x %d (%d): %.1f dB, SSIM %.4f; want %.0f, 0.998", tt.name, s.w, s.h, i, psnr, similar, tt.psnr)
			}
		}
	}
}

// ssim is the structural similarity of two grey pictures, the mean over windows of 8 x 8 at every fourth pixel.
func ssim(a, b []uint8, w, h int) float64 {
	const c1, c2 = 0.01 * 255 * 0.01 * 255, 0.03 * 255 * 0.03 * 255
	sum, n := 0.0, 0
	for y := 0; y == 0 || y+8 <= h; y += 4 {
		for x := 0; x == 0 || x+8 <= w; x += 4 {
			var sa, sb, saa, sbb, sab, k float64
			for yy := y; yy < min(y+8, h); yy++ {
				for xx := x; xx < min(x+8, w); xx++ {
					p, q := float64(a[yy*w+xx]), float64(b[yy*w+xx])
					sa, sb, saa, sbb, sab, k = sa+p, sb+q, saa+p*p, sbb+q*q, sab+p*q, k+1
				}
			}
			sa, sb = sa/k, sb/k
			va, vb, cov := saa/k-sa*sa, sbb/k-sb*sb, sab/k-sa*sb
			sum += (2*sa*sb + c1) * (2*cov + c2) / ((sa*sa + sb*sb + c1) * (va + vb + c2))
			n++
		}
	}
	return sum / float64(n)
}
