package images

import "math"

// A dctSpline finds weights for the samples of a JPEG that was decoded reduced. A block of 8 pixels is n samples then, which are
// its lowest n coefficients and nothing else. Weights of samples come to weights of the pixels, of a shape that is the sum of the
// lowest n cosines in each block; those that are nearest to the weights wanted are found as a spline finds them, by the running sums.
//
// The lowest cosine is the mean, whose running sum is a straight line, so that there is a linear spline between the edges of the
// blocks. The running sums of the others begin and end at zero in each block: they take what the line leaves over. To find
// the line without them, everything is first freed of what they can take.
type dctSpline struct {
	n              int
	rising         [8]float64 // of the line that rises from 0 to 1 in a block, behind each pixel; freed
	falling        [8]float64
	square, cross  float64 // of either line, and of the two
	squareF        float64
	rest           [8][8]float64 // by sample: what it gets of what the line leaves over behind each pixel
	diagonal, side []float64
	sums           []float64
	out            []float64
}

// cosine is the orthonormal basis of the transform of n samples.
func cosine(n, k, x int) float64 {
	if k == 0 {
		return math.Sqrt(1 / float64(n))
	}
	return math.Sqrt(2/float64(n)) * math.Cos(float64(2*x+1)*float64(k)*math.Pi/float64(2*n))
}

func newDCTSpline(n int) *dctSpline {
	s := &dctSpline{n: n}
	// bumps are the running sums of the cosines 1 to n-1 made orthonormal, and cosines the same combinations of the cosines as samples.
	var bumps, cosines [8][8]float64
	for k := 1; k < n; k++ {
		bump, samples := &bumps[k], &cosines[k]
		sum := 0.0
		for x := range 8 {
			sum += cosine(8, k, x)
			bump[x] = sum
		}
		for x := range n {
			samples[x] = cosine(n, k, x) * math.Sqrt(8/float64(n))
		}
		for j := 1; j < k; j++ {
			d := dot(bump, &bumps[j])
			for x := range bump {
				bump[x] -= d * bumps[j][x]
				samples[x] -= d * cosines[j][x]
			}
		}
		length := math.Sqrt(dot(bump, bump))
		for x := range bump {
			bump[x] /= length
			samples[x] /= length
		}
	}
	for x := range 8 {
		s.rising[x] = float64(x+1) / 8
		s.falling[x] = 1 - s.rising[x]
	}
	for k := 1; k < n; k++ {
		r, f := dot(&s.rising, &bumps[k]), dot(&s.falling, &bumps[k])
		for x := range 8 {
			s.rising[x] -= r * bumps[k][x]
			s.falling[x] -= f * bumps[k][x]
			for j := range n {
				s.rest[j][x] += cosines[k][j] * bumps[k][x]
			}
		}
	}
	s.square, s.squareF, s.cross = dot(&s.rising, &s.rising), dot(&s.falling, &s.falling), dot(&s.rising, &s.falling)
	return s
}

func dot(a, b *[8]float64) (sum float64) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// weights returns the first sample and the weights of it and those behind it, which sum to 1, for taps of the pixels from lo on. There are samples
// samples.
func (s *dctSpline) weights(lo int, taps []float64, sum float64, samples int) (int, []float64) {
	from := max(lo/8-1, 0)
	to := min((lo+len(taps)+7)/8+1, samples/s.n) // blocks
	blocks := to - from
	grow := func(p *[]float64, n int) []float64 {
		*p = append((*p)[:0], make([]float64, n)...)
		return *p
	}
	sums := grow(&s.sums, 8*blocks)
	running := 0.0
	for i := range sums {
		if p := from*8 + i - lo; p >= 0 && p < len(taps) {
			running += taps[p] / sum
		}
		sums[i] = running
	}
	knots, diagonal := grow(&s.side, blocks+1), grow(&s.diagonal, blocks+1)
	for b := range blocks {
		block := (*[8]float64)(sums[8*b:])
		knots[b] += dot(block, &s.falling)
		knots[b+1] += dot(block, &s.rising)
		diagonal[b] += s.squareF
		diagonal[b+1] += s.square
	}
	inner := blocks - 1
	knots[0], knots[blocks] = 0, 1
	if inner > 0 {
		knots[inner] -= s.cross
		for k := 2; k <= inner; k++ {
			f := s.cross / diagonal[k-1]
			diagonal[k] -= f * s.cross
			knots[k] -= f * knots[k-1]
		}
		knots[inner] /= diagonal[inner]
		for k := inner - 1; k >= 1; k-- {
			knots[k] = (knots[k] - s.cross*knots[k+1]) / diagonal[k]
		}
	}
	out := grow(&s.out, blocks*s.n)
	for b := range blocks {
		block := (*[8]float64)(sums[8*b:])
		start, rise := knots[b], knots[b+1]-knots[b]
		for x := range block {
			block[x] -= start + rise*float64(x+1)/8
		}
		for j := range s.n {
			w := rise / float64(s.n)
			if s.n > 1 {
				w += dot(block, &s.rest[j])
			}
			out[b*s.n+j] = w
		}
	}
	return from * s.n, out
}
