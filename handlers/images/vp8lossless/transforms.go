package vp8lossless

// A transform is undone row by row, the last one of the file first.
type transform struct {
	kind  int
	bits  uint     // of a tile's side; of indexed colours, of how many pixels share one
	tiles []uint32 // what applies to each tile, or the colours
	w     int      // of its rows
	row   []uint32 // the last that came out, and behind it what lies to its right in the file: the next one's first
}

const (
	predictor = iota
	crossColour
	subtractGreen
	indexed
)

func add(a, b uint32) uint32 {
	return (a&0xff00ff00+b&0xff00ff00)&0xff00ff00 | (a&0xff00ff+b&0xff00ff)&0xff00ff
}

func mean(a, b uint32) uint32 { return (a^b)&0xfefefefe>>1 + a&b }

func absolute(v int32) int32 {
	m := v >> 31
	return v ^ m - m
}

// nearer is the one of left and top that is nearer to left+top-corner.
func nearer(left, top, corner uint32) uint32 {
	d := int32(0)
	for shift := 0; shift < 32; shift += 8 {
		c := int32(corner >> shift & 255)
		d += absolute(int32(top>>shift&255)-c) - absolute(int32(left>>shift&255)-c)
	}
	if d < 0 {
		return left
	}
	return top
}

func clip(v int32) uint32 { return uint32(min(max(v, 0), 255)) }

func whole(left, top, corner uint32) (out uint32) {
	for shift := 0; shift < 32; shift += 8 {
		out |= clip(int32(left>>shift&255)+int32(top>>shift&255)-int32(corner>>shift&255)) << shift
	}
	return out
}

func half(m, corner uint32) (out uint32) {
	for shift := 0; shift < 32; shift += 8 {
		a := int32(m >> shift & 255)
		out |= clip(a+(a-int32(corner>>shift&255))/2) << shift
	}
	return out
}

// undo makes row y of what was before the transform.
func (t *transform) undo(y int, in []uint32) []uint32 {
	switch t.kind {
	case predictor:
		return t.unpredict(y, in)
	case crossColour:
		tiles := t.tiles[y>>t.bits*tiles(t.w, t.bits):]
		for x, v := range in {
			c := tiles[x>>t.bits]
			green := int32(int8(v >> 8))
			red := int32(v>>16) + (int32(int8(c))*green)>>5
			blue := int32(v) + (int32(int8(c>>8))*green)>>5 + (int32(int8(c>>16))*int32(int8(red)))>>5
			t.row[x] = v&0xff00ff00 | uint32(red&255)<<16 | uint32(blue&255)
		}
	case subtractGreen:
		for x, v := range in {
			green := v >> 8 & 255
			t.row[x] = v&0xff00ff00 | (v&0xff00ff+green<<16+green)&0xff00ff
		}
	default:
		per := 8 >> t.bits
		packed := uint32(0)
		for x := range t.w {
			if x&(1<<t.bits-1) == 0 {
				packed = in[x>>t.bits] >> 8 & 255
			}
			t.row[x] = t.tiles[packed&(1<<per-1)]
			packed >>= per
		}
	}
	return t.row[:t.w]
}

func (t *transform) unpredict(y int, in []uint32) []uint32 {
	row := t.row
	if y == 0 {
		left := uint32(0xff000000)
		for x, v := range in {
			left = add(v, left)
			row[x] = left
		}
		return row[:t.w]
	}
	// In row, what is not yet made is still the row above; corner is what was there left of x.
	corner := row[0]
	row[0] = add(in[0], row[0])
	row[t.w] = row[0] // to the right of the last one above
	left := row[0]
	modes := t.tiles[y>>t.bits*tiles(t.w, t.bits):]
	for x := 1; x < t.w; {
		mode := modes[x>>t.bits] >> 8 & 15
		end := min((x>>t.bits+1)<<t.bits, t.w)
		for ; x < end; x++ {
			top := row[x]
			p := uint32(0xff000000)
			switch mode {
			case 1:
				p = left
			case 2:
				p = top
			case 3:
				p = row[x+1]
			case 4:
				p = corner
			case 5:
				p = mean(mean(left, row[x+1]), top)
			case 6:
				p = mean(left, corner)
			case 7:
				p = mean(left, top)
			case 8:
				p = mean(corner, top)
			case 9:
				p = mean(top, row[x+1])
			case 10:
				p = mean(mean(left, corner), mean(top, row[x+1]))
			case 11:
				p = nearer(left, top, corner)
			case 12:
				p = whole(left, top, corner)
			case 13:
				p = half(mean(left, top), corner)
			}
			left = add(in[x], p)
			row[x], corner = left, top
		}
	}
	return row[:t.w]
}
