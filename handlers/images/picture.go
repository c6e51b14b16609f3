package images

import "context"

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
	// video: luma runs 16 to 235 and chroma 16 to 240, as in lossy WebP.
	video bool
}

// scaled is a reduced picture in memory of its own.
type scaled struct {
	size
	model  model
	pix    [][]uint8
	sizes  []size // of each plane
	halved bool   // modelYCbCr: chroma planes are 4:2:0, else as large as luma
}

// scale makes the picture w times h from the part crop, in pixels of the source. flip tells that the result will be mirrored (x, y)
// by its orientation, so that halved chroma is laid out to be right afterwards.
func (p *picture) scale(ctx context.Context, crop box, out size, halve bool, flipX, flipY bool) (*scaled, error) {
	s := &scaled{size: out, model: p.model, halved: halve && p.model == modelYCbCr}
	for i, pl := range p.planes {
		to, at := out, crop
		if p.model == modelYCbCr && i > 0 {
			if halve {
				to, at = halved(out, crop, flipX, flipY)
			}
		}
		kx := newKernel(axisOf(pl.w, pl.boxX, pl.perX, p.w).of(pl, p.w), at.x, at.w, to.w)
		ky := newKernel(axisOf(pl.h, pl.boxY, pl.perY, p.h).of(pl, p.h), at.y, at.h, to.h)
		pix, err := resample(ctx, pl, kx, ky, to.w, to.h)
		if err != nil {
			return nil, err
		}
		if p.video {
			stretch(pix, i > 0)
		}
		s.pix, s.sizes = append(s.pix, pix), append(s.sizes, to)
	}
	return s, nil
}

// halved is the size of a 4:2:0 chroma plane and the part of the picture that it covers, which with an odd
// number of pixels is one pixel more than the picture: after its end, or before its start if that becomes the end.
func halved(out size, crop box, flipX, flipY bool) (size, box) {
	to := size{(out.w + 1) / 2, (out.h + 1) / 2}
	px, py := crop.w/float64(out.w), crop.h/float64(out.h)
	if out.w%2 == 1 && flipX {
		crop.x -= px
	}
	if out.h%2 == 1 && flipY {
		crop.y -= py
	}
	crop.w, crop.h = px*2*float64(to.w), py*2*float64(to.h)
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
