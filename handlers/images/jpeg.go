package images

import (
	"context"
	"errors"
	"image/color"
	"math"
	"slices"

	"github.com/stalkworker/stalk/handlers/images/jpegscale"
)

// How many samples a reduced JPEG must have for each pixel that is made of them, each way, beside two at least:
// what the scale leaves out would be seen. Measured with photographs, noise and text, the error is below
// reserveError/gap^reservePower of the detail that jpegscale finds just beyond the scale.
const (
	reserveError = 0.39
	reservePower = 1.7
	mostError    = 0.75 // levels, root mean square: nothing beside what the writing as JPEG costs
)

// reserve is the gap from which a scale is tried: with less most photographs would turn out to have too much detail for it.
var reserve = map[jpegscale.Scale]float64{jpegscale.Eighth: 2.75, jpegscale.Quarter: 2.5, jpegscale.Half: 2}

// coarserReserve is the gap that a second, coarser scale must have beside the one that is looked at for detail.
const coarserReserve = 4

// jpegNarrow is a side so short that what the last block holds beyond the picture's edge would be seen in the whole.
const jpegNarrow = 128

// gap is how many samples the scale has for a pixel of want, in the direction that has fewer.
func (i info) gap(s jpegscale.Scale, want size) float64 {
	return float64(s) / 8 * min(float64(i.w)/float64(want.w), float64(i.h)/float64(want.h))
}

// A jpegPlan is how a JPEG is reduced while it is decoded.
type jpegPlan struct {
	scale     jpegscale.Scale
	coarser   []jpegscale.Scale
	maxDetail float64 // more than this, and the next finer scale is taken; 0: none is
}

var reducing = []jpegscale.Scale{jpegscale.Eighth, jpegscale.Quarter, jpegscale.Half}

// jpegPlan is for a picture of which all of wants are to be made.
func (i info) jpegPlan(wants []size) jpegPlan {
	if min(i.w, i.h) < jpegNarrow {
		return jpegPlan{scale: jpegscale.Full}
	}
	p := jpegPlan{scale: jpegscale.Eighth}
	for _, want := range wants {
		s := jpegscale.Full
		for _, r := range reducing {
			if i.gap(r, want) >= reserve[r] {
				s = r
				break
			}
		}
		p.scale = max(p.scale, s)
	}
	least := math.Inf(1) // the gap of those that are made at p.scale
	for _, want := range wants {
		if s := i.coarser(p.scale, want); s < p.scale {
			if !slices.Contains(p.coarser, s) {
				p.coarser = append(p.coarser, s)
			}
			continue
		}
		least = min(least, i.gap(p.scale, want))
	}
	if p.scale < jpegscale.Full && !math.IsInf(least, 1) {
		p.maxDetail = mostError / reserveError * math.Pow(least, reservePower)
	}
	slices.Sort(p.coarser)
	return p
}

// coarser is the scale at which want is made of a picture that is decoded to the scale finest.
func (i info) coarser(finest jpegscale.Scale, want size) jpegscale.Scale {
	for _, r := range reducing {
		if r < finest && i.gap(r, want) >= coarserReserve {
			return r
		}
	}
	return finest
}

// finer is the plan for when there is too much detail. It goes no further, so that the work and the memory are bounded.
func (p jpegPlan) finer() jpegPlan {
	p.scale, p.maxDetail = 2*p.scale, 0
	return p
}

// memory is what decoding takes, the second attempt included.
func (p jpegPlan) memory(h jpegscale.Header) int64 {
	most := h.Memory(p.scale, p.coarser...)
	if p.maxDetail > 0 {
		most += h.Memory(p.finer().scale, p.coarser...)
	}
	return most
}

// decodeJPEG decodes a probed JPEG, reduced as far as wants allow.
func decodeJPEG(ctx context.Context, data []byte, i info, wants []size) (*picture, error) {
	plan := i.jpegPlan(wants)
	img, err := plan.decode(ctx, data)
	if errors.Is(err, jpegscale.ErrDetail) {
		img, err = plan.finer().decode(ctx, data)
	}
	if err != nil {
		return nil, err
	}
	p := pictureOf(img)
	for _, c := range img.Coarser {
		p.coarser = append(p.coarser, pictureOf(c))
	}
	return p, nil
}

func (p jpegPlan) decode(ctx context.Context, data []byte) (*jpegscale.Image, error) {
	return jpegscale.Decode(data, jpegscale.Options{
		Scale: p.scale, Coarser: p.coarser, MaxDetail: p.maxDetail,
		Check: func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return nil
		},
	})
}

// pictureOf makes a picture of the planes as they lie.
func pictureOf(img *jpegscale.Image) *picture {
	p := &picture{size: size{img.Width, img.Height}, scaleOf: img.Scale}
	box := 8 / int(img.Scale)
	for _, from := range img.Planes {
		pl := bytePlane(from.Pix, from.Stride, from.W, from.H)
		pl.perX, pl.perY = from.PerX, from.PerY
		if fine := from.Fine; fine != nil {
			pl.fine = func(y int) []uint16 { return fine[y*from.Stride:][:from.W] }
		}
		if box > 1 {
			pl.boxX, pl.boxY, pl.dct = box, box, true
		} else { // what is in the blocks beyond the edge is nobody's
			pl.w, pl.h = from.FullW, from.FullH
		}
		p.planes = append(p.planes, pl)
	}
	switch img.Model {
	case jpegscale.Gray:
		p.model = modelGray
	case jpegscale.YCbCr:
		p.model = modelYCbCr
	default:
		p.interleave(img.Model)
	}
	return p
}

// interleave makes one plane of colours of planes of RGB, CMYK or YCCK.
func (p *picture) interleave(m jpegscale.Model) {
	from := p.planes
	// The finest plane gives the size; of the others the sample below is taken.
	pl := from[0]
	for _, f := range from {
		pl.w, pl.h = max(pl.w, f.w), max(pl.h, f.h)
		pl.perX, pl.perY = min(pl.perX, f.perX), min(pl.perY, f.perY)
	}
	pl.channels, pl.fine = 3, nil
	scratch := make([][]uint8, len(from))
	for i := range scratch {
		scratch[i] = make([]uint8, pl.w)
	}
	rounded := make([]uint8, pl.w)
	pl.row = func(y int, row []uint8) []uint8 {
		for i, f := range from {
			line := f.whole(min(int((float64(y)+0.5)*pl.perY/f.perY), f.h-1), rounded)
			if f.perX == pl.perX {
				copy(scratch[i], line)
				continue
			}
			for x := range scratch[i] {
				scratch[i][x] = line[min(int((float64(x)+0.5)*pl.perX/f.perX), f.w-1)]
			}
		}
		combine(m, row, scratch)
		return row
	}
	p.model, p.planes = modelRGB, []plane{pl}
}

// whole is a row in whole levels.
func (p plane) whole(y int, scratch []uint8) []uint8 {
	if p.fine == nil {
		return p.row(y, scratch)
	}
	scratch = scratch[:p.w]
	for x, v := range p.fine(y) {
		scratch[x] = uint8(min(max((int(v)+1<<(jpegscale.FineBits-1))>>jpegscale.FineBits-jpegscale.FineZero, 0), 255))
	}
	return scratch
}

// combine makes a row of RGB. Inks are stored as their complement.
func combine(m jpegscale.Model, row []uint8, from [][]uint8) {
	for x := range len(row) / 3 {
		a, b, c := from[0][x], from[1][x], from[2][x]
		if m == jpegscale.YCCK {
			a, b, c = color.YCbCrToRGB(a, b, c)
			a, b, c = ^a, ^b, ^c
		}
		if m != jpegscale.RGB {
			k := from[3][x]
			a, b, c = times(a, k), times(b, k), times(c, k)
		}
		row[3*x], row[3*x+1], row[3*x+2] = a, b, c
	}
}
