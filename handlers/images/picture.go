package images

import (
	"context"
	"slices"

	"github.com/stalkworker/stalk/handlers/images/jpegscale"
)

// A model says what a picture's planes hold.
type model int

const (
	modelGray  model = iota // one plane
	modelYCbCr              // three planes, the second and third at their own size
	modelRGB                // one plane of three channels
	modelRGBA               // one plane of four channels, colours multiplied by alpha
)

// A picture is a decoded source, as stored (orientation not applied). Its size is always that of the source as its
// header says it, however far a decoder reduced: each plane knows how many source pixels one of its samples covers.
type picture struct {
	size
	model  model
	planes []plane
	// coarser are the same picture at coarser scales, coarsest first, for what is made much smaller. Of a JPEG scaleOf is the scale.
	coarser []*picture
	scaleOf jpegscale.Scale
	// video: luma runs 16 to 235 and chroma 16 to 240, as in lossy WebP.
	video bool
	// opaque tells after a pass whether modelRGBA turned out to have no transparency; nil: it has.
	opaque func() bool
}

// scaled is a reduced picture in memory of its own.
type scaled struct {
	size
	model  model
	pix    [][]uint8
	sizes  []size // of each plane
	halved bool   // modelYCbCr: chroma planes are 4:2:0, else as large as luma
}

// A want is one thing to be made of a picture: out pixels from the part crop, in pixels of the source. flip tells that the result
// will be mirrored (x, y) by its orientation, so that halved chroma is laid out to be right afterwards.
type want struct {
	out          size
	crop         box
	halve        bool
	flipX, flipY bool
}

// scale makes all that is wanted, in one pass over each plane that there is. When ctx ends it returns the cause.
func (p *picture) scale(ctx context.Context, wants []want) ([]*scaled, error) {
	if len(p.coarser) == 0 {
		return p.scaleHere(ctx, wants)
	}
	made := make([]*scaled, len(wants))
	left := len(wants)
	for _, from := range append(slices.Clone(p.coarser), p) {
		var here []want
		var places []int
		for n, w := range wants {
			// The whole picture at the scale of what is made, as job.wanted has it.
			whole := size{ceil(float64(p.w) * float64(w.out.w) / w.crop.w), ceil(float64(p.h) * float64(w.out.h) / w.crop.h)}
			if made[n] == nil && (from == p || (info{size: p.size}).gap(from.scaleOf, whole) >= coarserReserve) {
				here, places = append(here, w), append(places, n)
			}
		}
		if len(here) == 0 {
			continue
		}
		some, err := from.scaleHere(ctx, here)
		if err != nil {
			return nil, err
		}
		for k, n := range places {
			made[n] = some[k]
		}
		if left -= len(here); left == 0 {
			break
		}
	}
	return made, nil
}

func (p *picture) scaleHere(ctx context.Context, wants []want) ([]*scaled, error) {
	made := make([]*scaled, len(wants))
	for n, w := range wants {
		made[n] = &scaled{size: w.out, model: p.model, halved: w.halve && p.model == modelYCbCr}
	}
	kernels := kernels{}
	for i := range p.planes {
		pl := &p.planes[i]
		x, y := axisOf(pl.w, pl.boxX, pl.perX, p.w).of(*pl, p.w), axisOf(pl.h, pl.boxY, pl.perY, p.h).of(*pl, p.h)
		root := &sinks{}
		grids := []*grid{{samples: pl.w, rows: pl.h, mx: 1, my: 1, deep: pl.deep || pl.fine != nil, sinks: root}}
		for n, w := range wants {
			to, at := w.out, w.crop
			if p.model == modelYCbCr && i > 0 && w.halve {
				to, at = halved(w.out, w.crop, w.flipX, w.flipY)
			}
			perX, perY := pl.perX*float64(to.w), pl.perY*float64(to.h)
			g := grids[0]
			if pl.fine == nil { // else hats cannot be fitted: what is between the samples of a block is not what is between blocks
				g = branch(&grids, pl.channels, at.w/perX, at.h/perY)
			}
			x.hat, y.hat = g.mx, g.my
			r := newResampler(g.samples, pl.channels, g.deep, kernels.of(x, at.x, at.w, to.w), kernels.of(y, at.y, at.h, to.h), to)
			if pl.fine != nil {
				r.fromFine()
			}
			g.sinks.resamplers = append(g.sinks.resamplers, r)
			made[n].pix, made[n].sizes = append(made[n].pix, r.out), append(made[n].sizes, to)
		}
		if err := pl.pass(ctx, root); err != nil {
			return nil, err
		}
	}
	for _, s := range made {
		for i, pix := range s.pix {
			if p.video {
				stretch(pix, i > 0)
			}
		}
		if p.model == modelRGBA && p.opaque != nil && p.opaque() {
			s.dropAlpha()
		}
	}
	return made, nil
}

// dropAlpha makes RGB of RGBA that turned out to have no transparency.
func (s *scaled) dropAlpha() {
	s.model = modelRGB
	pix := s.pix[0]
	for x := range len(pix) / 4 {
		copy(pix[3*x:3*x+3], pix[4*x:])
	}
	s.pix[0] = pix[: len(pix)/4*3 : len(pix)/4*3]
}

// halved is the size of a 4:2:0 chroma plane and the part of the picture that it covers, which with an odd
// number of pixels is one pixel more than the picture: after its end, or before its start if that becomes the end. Of a single
// pixel, it is that pixel.
func halved(out size, crop box, flipX, flipY bool) (size, box) {
	to := size{(out.w + 1) / 2, (out.h + 1) / 2}
	px, py := crop.w/float64(out.w), crop.h/float64(out.h)
	if out.w > 1 {
		if out.w%2 == 1 && flipX {
			crop.x -= px
		}
		crop.w = px * 2 * float64(to.w)
	}
	if out.h > 1 {
		if out.h%2 == 1 && flipY {
			crop.y -= py
		}
		crop.h = py * 2 * float64(to.h)
	}
	return to, crop
}

// stretch turns video range into full range.
func stretch(pix []uint8, chroma bool) {
	table := &videoLuma
	if chroma {
		table = &videoChroma
	}
	for i, v := range pix {
		pix[i] = table[v]
	}
}

// orient turns the picture as its EXIF orientation (1 to 8) says.
func (s *scaled) orient(orientation int) {
	if orientation <= 1 || orientation > 8 {
		return
	}
	channels := 1
	switch s.model {
	case modelRGB:
		channels = 3
	case modelRGBA:
		channels = 4
	}
	for i := range s.pix {
		s.pix[i] = turn(s.pix[i], s.sizes[i], channels, orientation)
		s.sizes[i] = s.sizes[i].swapped(orientation >= 5)
	}
	s.size = s.size.swapped(orientation >= 5)
}

// flips tells along which axes of the stored picture an orientation mirrors it.
func flips(orientation int) (x, y bool) {
	switch orientation {
	case 2:
		return true, false
	case 3:
		return true, true
	case 4:
		return false, true
	case 6: // a quarter turn clockwise: the last row becomes the first column
		return false, true
	case 7:
		return true, true
	case 8:
		return true, false
	}
	return false, false
}

func turn(pix []uint8, from size, channels, orientation int) []uint8 {
	flipX, flipY := flips(orientation)
	to := from.swapped(orientation >= 5)
	out := make([]uint8, len(pix))
	at := 0
	for y := range to.h {
		for x := range to.w {
			sx, sy := x, y
			if orientation >= 5 {
				sx, sy = y, x
			}
			if flipX {
				sx = from.w - 1 - sx
			}
			if flipY {
				sy = from.h - 1 - sy
			}
			copy(out[at:at+channels], pix[(sy*from.w+sx)*channels:])
			at += channels
		}
	}
	return out
}
