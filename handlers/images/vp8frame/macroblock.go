package vp8frame

import "encoding/binary"

// macroblock decodes one, and returns how its edges are to be smoothed.
func (f *frame) macroblock(mx, my int, part *bools) limits {
	b := &f.head
	if f.mapped {
		if !b.bit(f.segmentProbs[0]) {
			f.segment = b.one(f.segmentProbs[1])
		} else {
			f.segment = 2 + b.one(f.segmentProbs[2])
		}
	}
	skip := f.skips && b.bit(f.skipProb)
	above := &f.above[mx]
	whole := b.bit(145)
	mode := uint8(0)
	if whole {
		mode = f.wholeMode(above)
	} else {
		f.smallModes(above)
	}
	chroma := uint8(predictTM)
	switch {
	case !b.bit(142):
		chroma = predictDC
	case !b.bit(114):
		chroma = predictVE
	case !b.bit(183):
		chroma = predictHE
	}
	var filled [24]uint8 // how many places of each block are to be transformed
	if !skip {
		skip = !f.residuals(part, above, whole, &filled)
	} else {
		above.nonZero, f.left.nonZero = [8]uint8{}, [8]uint8{}
		if whole {
			above.second, f.left.second = 0, 0
		}
	}

	y := &f.planes[0]
	at := y.at(16*mx, 16*my)
	if whole {
		square(mode, y.pix, at, y.Stride, 16, my > 0, mx > 0)
		if !skip {
			for i := range 16 {
				f.add(i, filled[i], y.pix[at+i/4*4*y.Stride+i%4*4:], y.Stride)
			}
		}
	} else {
		// What is above to the right of the last column lies above the macroblock, for all its rows: the one to the right is not there yet.
		beyond := binary.LittleEndian.Uint32(y.pix[at-y.Stride+16:])
		for i := range 16 {
			to := at + i/4*4*y.Stride + i%4*4
			right := beyond
			if i%4 < 3 {
				right = binary.LittleEndian.Uint32(y.pix[to-y.Stride+4:])
			}
			small(f.modes[i], y.pix, to, y.Stride, right)
			f.add(i, filled[i], y.pix[to:], y.Stride)
		}
	}
	for c := range 2 {
		p := &f.planes[1+c]
		at := p.at(8*mx, 8*my)
		square(chroma, p.pix, at, p.Stride, 8, my > 0, mx > 0)
		if !skip {
			for i := range 4 {
				f.add(16+4*c+i, filled[16+4*c+i], p.pix[at+i/2*4*p.Stride+i%2*4:], p.Stride)
			}
		}
	}
	kind := 0
	if !whole {
		kind = 1
	}
	l := f.levels[f.segment][kind]
	l.inside = l.inside || !skip
	return l
}

// add adds a block's transform to its prediction, and leaves the block zero.
func (f *frame) add(i int, filled uint8, pix []uint8, stride int) {
	switch c := &f.blocks[i]; {
	case filled > 1:
		inverse(c, pix, stride)
		*c = [16]int16{}
	case filled == 1:
		flat(c[0], pix, stride)
		c[0] = 0
	}
}

func (f *frame) wholeMode(above *edges) uint8 {
	b, mode := &f.head, uint8(0)
	if !b.bit(156) {
		if mode = predictDC; b.bit(163) {
			mode = predictVE
		}
	} else if mode = predictHE; b.bit(128) {
		mode = predictTM
	}
	m := [4]uint8{mode, mode, mode, mode}
	above.modes, f.left.modes = m, m
	return mode
}

func (f *frame) smallModes(above *edges) {
	b := &f.head
	for j := range 4 {
		mode := f.left.modes[j]
		for i := range 4 {
			p := &modeProbs[above.modes[i]][mode]
			switch {
			case !b.bit(p[0]):
				mode = predictDC
			case !b.bit(p[1]):
				mode = predictTM
			case !b.bit(p[2]):
				mode = predictVE
			case !b.bit(p[3]):
				switch {
				case !b.bit(p[4]):
					mode = predictHE
				case !b.bit(p[5]):
					mode = predictRD
				default:
					mode = predictVR
				}
			case !b.bit(p[6]):
				mode = predictLD
			case !b.bit(p[7]):
				mode = predictVL
			case !b.bit(p[8]):
				mode = predictHD
			default:
				mode = predictHU
			}
			f.modes[4*j+i] = mode
			above.modes[i] = mode
		}
		f.left.modes[j] = mode
	}
}

// The kinds of blocks, by their probabilities.
const (
	lumaRest = iota // but for the first coefficient, which is in the second transform
	secondTransform
	chromaBlock
	lumaBlock
)

// residuals reads the coefficients of all blocks, and tells whether there are any.
func (f *frame) residuals(part *bools, above *edges, whole bool, filled *[24]uint8) bool {
	s := &f.steps[f.segment]
	left := &f.left
	kind, first := lumaBlock, 0
	if whole {
		n := part.block(&f.probs[secondTransform], int(above.second+left.second), s.second[0], s.second[1], 0, &f.second)
		above.second = 0
		if n > 0 {
			above.second = 1
			hadamard(&f.second, &f.blocks)
			f.second = [16]int16{}
		}
		left.second = above.second
		kind, first = lumaRest, 1
	}
	any := uint8(0)
	read := func(i, kind, first int, up, side *uint8, steps *[2]int32) {
		c := &f.blocks[i]
		n := part.block(&f.probs[kind], int(*up+*side), steps[0], steps[1], first, c)
		*up = 0
		if n > 0 {
			*up = 1
		} else if c[0] != 0 {
			n = 1
		}
		*side = *up
		filled[i] = uint8(n)
		any |= uint8(n)
	}
	for i := range 16 {
		read(i, kind, first, &above.nonZero[i%4], &left.nonZero[i/4], &s.y)
	}
	for c := range 2 {
		for i := range 4 {
			read(16+4*c+i, chromaBlock, 0, &above.nonZero[4+2*c+i%2], &left.nonZero[4+2*c+i/2], &s.chroma)
		}
	}
	return any != 0
}
