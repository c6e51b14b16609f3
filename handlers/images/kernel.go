package images

import "math"

// A kernel is the taps of one axis: output i is the sum of weight[i*stride+j] * source[first[i]+j] for j < count[i].
// Both first and first+count never fall from one output to the next.
type kernel struct {
	first, count []int32
	weight       []int32
	stride       int
	widened      bool // the axis is reduced
}

// An axis is the width or the height of a plane: samples, each the mean of box pixels of the plane as it would be at
// full size, the last of what is left of all pixels.
type axis struct {
	samples, box, pixels int
	per                  float64 // pixels of the picture in one pixel of the plane
	dct                  bool    // samples are made of the coefficients of whole blocks of 8 pixels
	hat                  int     // 1, or the samples were brought down by stages, together by this much
}

// axisOf is the axis of a plane of which each sample covers per pixels of a picture of whole pixels.
func axisOf(samples, box int, per float64, whole int) axis {
	if box <= 1 {
		return axis{samples: samples, box: 1, pixels: samples, per: per}
	}
	per /= float64(box)
	pixels := int(math.Ceil(float64(whole)/per - 1e-6))
	return axis{samples: samples, box: box, pixels: min(max(pixels, (samples-1)*box+1), samples*box), per: per}
}

// of is the axis of a plane that a JPEG decoder reduced: its last block is whole, however little of it is in the picture.
func (a axis) of(p plane, whole int) axis {
	if p.dct {
		a.dct, a.pixels = true, int(math.Ceil(float64(whole)/a.per-1e-6))
	}
	return a
}

// newKernel maps n outputs on the stretch [start, start+length) of the picture. It may begin before the
// picture and end after it: what is missing has no weight.
func newKernel(a axis, start, length float64, n int) kernel {
	start, length = start/a.per, length/a.per
	pixels, box := a.pixels, a.box
	scale := length / float64(n)
	filter := max(scale, 1)
	support := lobes * filter
	stride := min(int(math.Ceil(support))*2+1, pixels)
	var blocks *dctSpline
	switch {
	case a.dct:
		blocks = newDCTSpline(8 / box)
		stride = min(((stride+7)/8+3)*8/box, a.samples)
	case box > 1:
		stride = min((stride+box-1)/box+4, a.samples)
	}
	if a.hat > 1 {
		stride = min((stride+a.hat-1)/a.hat+2*hatMargin+2, hatCount(a.samples, a.hat))
	}
	k := kernel{
		first: make([]int32, n), count: make([]int32, n),
		weight: make([]int32, n*stride), stride: stride, widened: scale > 1,
	}
	taps := make([]float64, int(math.Ceil(support))*2+1)
	fit := spline{axis: a}
	for i := range n {
		center := start + (float64(i)+0.5)*scale
		lo := min(max(int(math.Floor(center-support+0.5)), 0), pixels-1)
		hi := max(min(int(math.Floor(center+support+0.5)), pixels), lo+1)
		hi = min(hi, lo+len(taps))
		sum := 0.0
		for j := range hi - lo {
			taps[j] = lanczos((float64(lo+j) - center + 0.5) / filter)
			sum += taps[j]
		}
		if sum == 0 { // only a stretch far outside the source: its nearest sample
			taps[0], sum, hi = 1, 1, lo+1
		}
		at := taps[:hi-lo]
		switch {
		case a.dct:
			lo, at = blocks.weights(lo, at, sum, a.samples)
			sum = 1
		case box > 1:
			lo, at = fit.weights(lo, at, sum)
			sum = 1
		}
		if a.hat > 1 {
			lo, at = fit.hats(lo, at)
			sum = 1
		}
		// Rounding the running total, not each weight, makes the weights sum to one exactly and keeps the
		// error from gathering when thousands of taps weigh next to nothing each.
		total, given := 0.0, int32(0)
		for j, w := range at {
			total += w
			upTo := int32(math.Round(total / sum * (1 << weightBits)))
			k.weight[i*stride+j] = upTo - given
			given = upTo
		}
		k.first[i], k.count[i] = int32(lo), int32(len(at))
	}
	return k
}

// kernels are those of a pass, each made once: planes of colour share theirs.
type kernels map[kernelKey]kernel

type kernelKey struct {
	axis
	start, length float64
	n             int
}

func (k kernels) of(a axis, start, length float64, n int) kernel {
	key := kernelKey{a, start, length, n}
	made, ok := k[key]
	if !ok {
		made = newKernel(a, start, length, n)
		k[key] = made
	}
	return made
}

// lanczosSteps is how many steps of the table make one lobe: linear between them, the error is below 2e-6, an eighth of
// what a weight is rounded to.
const lanczosSteps = 512

var lanczosTable = func() (t [lobes*lanczosSteps + 2]float64) {
	t[0] = 1
	for i := 1; i < lobes*lanczosSteps; i++ {
		p := math.Pi * float64(i) / lanczosSteps
		t[i] = math.Sin(p) / p * math.Sin(p/lobes) / (p / lobes)
	}
	return t
}()

func lanczos(x float64) float64 {
	x = math.Abs(x) * lanczosSteps
	if x >= lobes*lanczosSteps {
		return 0
	}
	i := int(x)
	return lanczosTable[i] + (x-float64(i))*(lanczosTable[i+1]-lanczosTable[i])
}

// A spline finds weights for samples that are means of box pixels each, such that samples and weights together
// come nearest to given weights of the pixels themselves.
//
// All the pixels of a sample share its weight, so the sum of the weights up to a pixel runs straight from
// one sample's edge to the next: it is a linear spline, and the pixels' own running sum is what it is to follow. The least squares
// of the difference of the two sums (not of the weights) are those of the error itself when the power of the picture
// falls with the square of the frequency, as that of photographs does, and they take a system of three diagonals.
type spline struct {
	axis
	diagonal, right, out []float64
	beside, mass, hatOut []float64
}

// weights returns the first sample and the weights of it and those behind it, which sum to 1. taps are those of the pixels from lo on.
func (s *spline) weights(lo int, taps []float64, sum float64) (int, []float64) {
	box := s.box
	from := max(lo/box-1, 0)
	to := min((lo+len(taps)+box-1)/box+1, s.samples) // knots: the left edges of samples from to to-1, and the right one of to-1
	inner := to - from - 1
	s.out = append(s.out[:0], make([]float64, inner+2)...)
	knots := s.out // 0 at the first, 1 at the last
	knots[inner+1] = 1
	if inner > 0 {
		s.diagonal = append(s.diagonal[:0], make([]float64, inner+2)...)
		s.right = append(s.right[:0], make([]float64, inner+2)...)
		d, r := s.diagonal, s.right // of knots 1 to inner
		running := 0.0
		for k := from; k < to; k++ {
			start, end := k*box, min((k+1)*box, s.pixels)
			per := 1 / float64(end-start)
			left, right := k-from, k-from+1
			for p := start; p < end; p++ { // the edge behind pixel p
				if i := p - lo; i >= 0 && i < len(taps) {
					running += taps[i] / sum
				}
				u := float64(p+1-start) * per
				r[left] += running * (1 - u)
				r[right] += running * u
			}
		}
		// Of a whole interval of m steps: the squares and the product of the falling and the rising line.
		square := func(m float64) float64 { return (m + 1) * (2*m + 1) / (6 * m) } // rising, its end included
		cross := func(m float64) float64 { return (m*m - 1) / (6 * m) }
		m := float64(box)
		last := float64(min(to*box, s.pixels) - (to-1)*box)
		for k := 1; k <= inner; k++ {
			next := m
			if k == inner {
				next = last
			}
			d[k] = square(m) + square(next) - 1
		}
		r[inner] -= cross(last)
		c := cross(m)
		for k := 2; k <= inner; k++ {
			f := c / d[k-1]
			d[k] -= f * c
			r[k] -= f * r[k-1]
		}
		knots[inner] = r[inner] / d[inner]
		for k := inner - 1; k >= 1; k-- {
			knots[k] = (r[k] - c*knots[k+1]) / d[k]
		}
	}
	for k := range inner + 1 {
		knots[k] = knots[k+1] - knots[k]
	}
	return from, knots[:inner+1]
}

// hatMargin is how many hats beyond those that the taps touch take part: what one must add is a quarter of its neighbour's, and of the other sign.
const hatMargin = 2

// hats is weights for samples brought down by hats: the sum of hats that is nearest to the taps, by least squares of the
// difference itself, since straight lines follow Lanczos closely everywhere.
func (s *spline) hats(lo int, taps []float64) (int, []float64) {
	m, width := s.axis.hat, s.samples
	from := max(lo/m-hatMargin, 0)
	to := min((lo+len(taps)-1)/m+1+hatMargin, hatCount(width, m)-1)
	n := to - from + 1
	clean := func(b *[]float64) []float64 {
		*b = append((*b)[:0], make([]float64, n+1)...)
		return *b
	}
	d, c, r, mass := clean(&s.diagonal), clean(&s.beside), clean(&s.right), clean(&s.mass)
	per := 1 / float64(m)
	for j := max(from-1, 0); j <= to; j++ { // the pixels from j*m on lie beneath hats j and j+1
		i := j - from
		for p := j * m; p < min((j+1)*m, width); p++ {
			v := float64(p-j*m) * per
			u := 1 - v
			w := 0.0
			if at := p - lo; at >= 0 && at < len(taps) {
				w = taps[at]
			}
			if i >= 0 {
				d[i] += u * u
				c[i] += u * v
				r[i] += u * w
				mass[i] += u
			}
			d[i+1] += v * v
			r[i+1] += v * w
			mass[i+1] += v
		}
	}
	for i := 1; i < n; i++ {
		f := c[i-1] / d[i-1]
		d[i] -= f * c[i-1]
		r[i] -= f * r[i-1]
	}
	out := clean(&s.hatOut)[:n]
	sum := 0.0
	for i := n - 1; i >= 0; i-- {
		v := r[i]
		if i < n-1 {
			v -= c[i] * out[i+1]
		}
		out[i] = v / d[i]
		sum += out[i] * mass[i]
	}
	for i := range out { // a sample is the sum beneath its hat, by m
		out[i] *= float64(m) / sum
	}
	return from, out
}
