package images

import "context"

// A plane is samples in rows: one channel, or several interleaved. A row is produced when it is asked for, so
// that what must be converted (a palette, 16 bits, alpha) never exists twice as a whole.
//
// Sample x covers the pixels [x*perX, (x+1)*perX) of the source, which need not be whole, and the last one may stick
// out beyond the picture's edge. Where a decoder reduced by taking means, boxX and boxY say of how many samples of the plane as it
// would be at full size each is the mean (the last of what is left); the kernel makes up for that. 0 is 1.
type plane struct {
	w, h, channels int
	perX, perY     float64
	boxX, boxY     int
	dct            bool // the boxes are those of a JPEG's blocks, which are no means: see dctSpline

	// Rows come in order, each once in a pass; the ones that nobody wants are not asked for. One of row, open and fine is set:
	row  func(y int, scratch []uint8) []uint8 // w*channels samples; may return scratch or the picture's own memory
	open func() (rows, error)                 // begins a pass over what is decoded while it is read
	deep bool                                 // with open: rows come as stage has them, not as bytes
	fine func(y int) []uint16                 // rows of a JPEG that was decoded reduced, as jpegscale.Plane.Fine has them
}

// rows are those of one pass.
type rows interface {
	// next returns the next row, as bytes or as stage has them, valid until the next call.
	next() ([]uint8, []uint16, error)
}

// laid are the rows of a plane that lies in memory.
type laid struct {
	p       *plane
	y       int
	scratch []uint8
}

func (l *laid) next() ([]uint8, []uint16, error) {
	l.y++
	if l.p.fine != nil {
		return nil, l.p.fine(l.y - 1), nil
	}
	row := l.p.row(l.y-1, l.scratch)
	return row[:l.p.w*l.p.channels], nil, nil
}

// pass gives every row to the sinks. When ctx ends it returns the cause.
func (p *plane) pass(ctx context.Context, to *sinks) error {
	var from rows = &laid{p: p, scratch: make([]uint8, p.w*p.channels)}
	last := to.last(p.h)
	if p.open != nil {
		var err error
		if from, err = p.open(); err != nil {
			return err
		}
		last = p.h // to the end, to see whether it is whole
	}
	for y := range last {
		if y%checkRows == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		row, deep, err := from.next()
		switch {
		case err != nil:
			return err
		case deep != nil:
			to.deep(deep)
		default:
			to.bytes(row)
		}
	}
	return nil
}
