package images

import (
	"context"

	"github.com/stalkworker/stalk/handlers/images/pngrows"
)

// pngPicture is a picture whose rows are inflated anew by each pass: nothing of it is kept, unless it is interlaced.
func pngPicture(ctx context.Context, name string, data []byte, i info) (*picture, error) {
	p := &picture{size: i.size}
	var r *pngrows.Reader
	open := func() (err error) {
		if r, err = pngrows.NewReader(data); err != nil {
			return damaged(name, formatPNG, err)
		}
		r.Stop = ctx.Err
		return nil
	}
	if err := open(); err != nil {
		return nil, err
	}
	switch r.Channels {
	case 1:
		p.model = modelGray
	case 3:
		p.model = modelRGB
	default:
		p.model = modelRGBA
		p.opaque = func() bool { return r.Opaque() }
	}
	p.planes = []plane{{
		w: p.w, h: p.h, channels: r.Channels, perX: 1, perY: 1, deep: r.Deep,
		open: func() (rows, error) {
			if err := open(); err != nil {
				return nil, err
			}
			return &pngRows{ctx: ctx, name: name, r: r}, nil
		},
	}}
	return p, nil
}

type pngRows struct {
	ctx  context.Context // of the pass
	name string
	r    *pngrows.Reader
	deep []uint16
}

func (p *pngRows) next() (row []uint8, deep []uint16, err error) {
	defer recoverDecoder(p.name, &err)
	if p.r.Deep {
		deep, err = p.r.Row16()
	} else {
		row, err = p.r.Row()
	}
	if err != nil {
		if p.ctx.Err() != nil {
			return nil, nil, context.Cause(p.ctx)
		}
		return nil, nil, damaged(p.name, formatPNG, err)
	}
	if deep == nil {
		return row, nil, nil
	}
	if p.deep == nil {
		p.deep = make([]uint16, len(deep))
	}
	for x, v := range deep {
		p.deep[x] = uint16((uint32(v)*deepMax + 0x7fff) / 0xffff)
	}
	return nil, p.deep, nil
}
