package pngwrite

// The filters of the format: a byte less what the byte to its left, above, and left above say of it.
const (
	none = iota
	sub
	up
	average
	paeth
	filters
)

// A filter filters one row after the other.
type filter struct {
	channels int
	above    []uint8 // the row before, with channels of zeros in front
	this     []uint8 // so, too
	lines    [filters][]uint8
}

func newFilter(width, channels int) *filter {
	f := &filter{channels: channels, above: make([]uint8, channels+width), this: make([]uint8, channels+width)}
	for i := range f.lines {
		f.lines[i] = make([]uint8, 1+width)
		f.lines[i][0] = uint8(i)
	}
	return f
}

// row is the row with the number of its filter in front, by the filter whose results, taken as signed, are smallest in sum. It is valid
// until the next call.
func (f *filter) row(pix []uint8) []uint8 {
	f.above, f.this = f.this, f.above
	copy(f.this[f.channels:], pix)
	var sums [filters]int
	left, corner, above := f.this[:len(pix)], f.above[:len(pix)], f.above[f.channels:][:len(pix)]
	l0, l1, l2, l3, l4 := f.lines[0][1:][:len(pix)], f.lines[1][1:][:len(pix)], f.lines[2][1:][:len(pix)], f.lines[3][1:][:len(pix)], f.lines[4][1:][:len(pix)]
	for i, v := range pix {
		a, b, c := left[i], above[i], corner[i]
		l0[i], l1[i], l2[i] = v, v-a, v-b
		l3[i] = v - uint8((uint(a)+uint(b))/2)
		l4[i] = v - predict(int32(a), int32(b), int32(c))
		sums[none] += size(v)
		sums[sub] += size(l1[i])
		sums[up] += size(l2[i])
		sums[average] += size(l3[i])
		sums[paeth] += size(l4[i])
	}
	best := none
	for i, sum := range sums {
		if sum < sums[best] {
			best = i
		}
	}
	return f.lines[best]
}

// size is how far a byte is from 0, around the circle.
func size(v uint8) int {
	s := int32(int8(v))
	return int((s ^ s>>7) - s>>7)
}

// predict is Paeth's: which of the three is nearest to a + b - c.
func predict(a, b, c int32) uint8 {
	pa, pb := b-c, a-c
	pc := pa + pb
	pa, pb, pc = max(pa, -pa), max(pb, -pb), max(pc, -pc)
	switch {
	case pa <= pb && pa <= pc:
		return uint8(a)
	case pb <= pc:
		return uint8(b)
	}
	return uint8(c)
}
