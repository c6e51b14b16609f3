package images

import (
	"context"
	"image/color"

	"github.com/stalkworker/stalk/handlers/images/jpegscale"
)

// jpegReserve is how many samples a reduced JPEG has at least for each pixel that is made of them, each way.
const jpegReserve = 2

// jpegNarrow is a side so short that what the last block holds beyond the picture's edge would be seen in the whole.
const jpegNarrow = 128

// jpegScale is how far a JPEG is reduced while it is decoded, so that want can be made of it.
func (i info) jpegScale(want size) jpegscale.Scale {
	if min(i.w, i.h) < jpegNarrow {
		want = i.size
	}
	return i.jpeg.Scale(jpegReserve*want.w, jpegReserve*want.h)
}

// decodeJPEG decodes a probed JPEG, reduced as far as want allows.
func decodeJPEG(ctx context.Context, data []byte, i info, want size) (*picture, error) {
	return decodeJPEGAt(ctx, data, i, i.jpegScale(want))
}

func decodeJPEGAt(ctx context.Context, data []byte, i info, scale jpegscale.Scale) (*picture, error) {
	img, err := jpegscale.Decode(data, jpegscale.Options{
		Scale: scale,
		Check: func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	p := &picture{size: size{img.Width, img.Height}}
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
	return p, nil
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
