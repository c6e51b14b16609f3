package images

import "math"

// An unsharp mask is Pillow's ImageFilter.UnsharpMask: what differs from its blurred self by more than threshold differs by percent
// of that more. The zero unsharp changes nothing.
type unsharp struct {
	radius    float64
	percent   int
	threshold int
}

// sharpen applies the mask: to brightness alone where that is a plane of its own, else to each colour.
func (s *scaled) sharpen(u unsharp) {
	if u.percent == 0 || u.radius == 0 {
		return
	}
	channels, colours := 1, 1
	switch s.model {
	case modelRGB:
		channels, colours = 3, 3
	case modelRGBA:
		channels, colours = 4, 3
	}
	pix := s.pix[0]
	plane := make([]uint8, s.w*s.h)
	for c := range colours {
		for i := range plane {
			plane[i] = pix[i*channels+c]
		}
		blur(plane, s.size, u.radius)
		for i, soft := range plane {
			at := i*channels + c
			diff := int(pix[at]) - int(soft)
			if diff > u.threshold || -diff > u.threshold {
				most := 255
				if s.model == modelRGBA {
					most = int(pix[i*channels+3]) // colours are multiplied by it
				}
				pix[at] = uint8(min(max(int(pix[at])+diff*u.percent/100, 0), most))
			}
		}
	}
}

// blurPasses box filters are nearly a Gaussian.
const blurPasses = 3

// blur is Pillow's GaussianBlur, bit for bit: extended box filters as Gwosdek and others describe, each rounded to 8 bits.
func blur(pix []uint8, s size, radius float64) {
	sigma2 := float32(radius) * float32(radius) / blurPasses
	length := float32(math.Sqrt(12*float64(sigma2) + 1))
	whole := float32(math.Floor((float64(length) - 1) / 2))
	part := (2*whole + 1) * (whole*(whole+1) - 3*sigma2) / (6 * (sigma2 - (whole+1)*(whole+1)))
	b := newBox(whole + part)
	if b.reach == 0 && b.far == 0 {
		return
	}
	from, to := make([]uint8, max(s.w, s.h)), make([]uint8, max(s.w, s.h))
	for y := range s.h {
		row := pix[y*s.w:][:s.w]
		for range blurPasses {
			b.line(to[:s.w], row)
			copy(row, to)
		}
	}
	for x := range s.w {
		for y := range s.h {
			from[y] = pix[y*s.w+x]
		}
		for range blurPasses {
			b.line(to[:s.h], from[:s.h])
			from, to = to, from
		}
		for y := range s.h {
			pix[y*s.w+x] = from[y]
		}
	}
}

// A boxFilter weighs reach samples on either side alike and the two beyond these by far, in 24 bits below the point.
type boxFilter struct {
	reach     int
	near, far uint32
}

func newBox(radius float32) boxFilter {
	b := boxFilter{reach: int(radius), near: uint32(float32(1<<24) / (radius*2 + 1))}
	b.far = (1<<24 - uint32(b.reach*2+1)*b.near) / 2
	return b
}

// line filters one row; beyond its ends the last sample is repeated.
func (b boxFilter) line(to, from []uint8) {
	last := len(from) - 1
	at := func(i int) uint32 { return uint32(from[min(max(i, 0), last)]) }
	sum := uint32(0)
	for i := -b.reach - 1; i < b.reach; i++ {
		sum += at(i)
	}
	for x := range to {
		sum += at(x+b.reach) - at(x-b.reach-1)
		to[x] = uint8((sum*b.near + (at(x-b.reach-1)+at(x+b.reach+1))*b.far + 1<<23) >> 24)
	}
}
