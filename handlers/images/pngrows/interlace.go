package pngrows

// A pass of an interlaced picture has the pixels from (x, y) on, each dx and dy from the next.
type pass struct{ x, y, dx, dy int }

var passes = [7]pass{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}}

// assemble reads all passes of an interlaced picture. Samples of less than 8 bits get a byte each.
func (r *Reader) assemble() error {
	if err := r.begin(r.rowBytes(r.Width)); err != nil {
		return err
	}
	pixel := max(r.samples()*r.Depth/8, 1)
	line := r.Width * pixel
	whole := make([]uint8, line*r.Height)
	for _, p := range passes {
		w, h := (r.Width-p.x+p.dx-1)/p.dx, (r.Height-p.y+p.dy-1)/p.dy
		if w <= 0 || h <= 0 {
			continue
		}
		n := r.rowBytes(w)
		clear(r.prior)
		for y := range h {
			if y%64 == 0 && r.Stop != nil {
				if err := r.Stop(); err != nil {
					return err
				}
			}
			row, err := r.next(n)
			if err != nil {
				return err
			}
			at := (p.y+y*p.dy)*line + p.x*pixel
			switch {
			case r.Depth < 8:
				for x := range w {
					bit := x * r.Depth
					whole[at] = row[bit>>3] >> (8 - r.Depth - bit&7) & (1<<r.Depth - 1)
					at += p.dx
				}
			case pixel == 1:
				for _, v := range row {
					whole[at] = v
					at += p.dx
				}
			default:
				for x := 0; x < len(row); x += pixel {
					copy(whole[at:at+pixel], row[x:])
					at += p.dx * pixel
				}
			}
		}
	}
	r.whole = whole
	return r.end()
}
