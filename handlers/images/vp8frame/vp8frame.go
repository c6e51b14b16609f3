// Package vp8frame decodes the one key frame that a lossy WebP is (RFC 6386) into its planes. It decodes the same samples as libwebp and
// golang.org/x/image/vp8, in half the time of the latter, and can leave out the loop filter, which smooths the edges of blocks
// and hardly shows once a picture is reduced. It knows no containers, no other frames, and no alpha.
package vp8frame

import (
	"errors"
	"fmt"
)

// A Plane is samples in rows, within margins that predictions look at.
type Plane struct {
	Stride int
	pix    []uint8
	start  int
}

// Row returns the samples of row y from the first on; those beyond the picture's width are of no meaning.
func (p *Plane) Row(y int) []uint8 { return p.pix[p.start+y*p.Stride:] }

func (p *Plane) at(x, y int) int { return p.start + y*p.Stride + x }

const margin = 16 // left of a plane; right of it there are as many before the next row's begins

func newPlane(w, h int) Plane {
	stride := w + 2*margin
	p := Plane{Stride: stride, pix: make([]uint8, (h+1)*stride), start: stride + margin}
	row := p.pix[:stride]
	for x := range row {
		row[x] = 127
	}
	for y := range h {
		p.pix[p.at(-1, y)] = 129
	}
	return p
}

// A frame is what is decoded.
type frame struct {
	wide, high int // in macroblocks
	planes     [3]Plane
	limits     []limits
	simple     bool

	head  bools
	parts []bools

	segmented, mapped bool
	segmentProbs      [3]uint8
	steps             [4]steps
	levels            [4][2]limits // of the loop filter, by segment and whether it is predicted in small blocks
	level             int
	probs             [4][8][3][11]uint8
	skips             bool
	skipProb          uint8

	segment int
	above   []edges
	left    edges
	modes   [16]uint8
	blocks  [24][16]int16
	second  [16]int16
}

// steps are what coefficients are multiplied by: of luma, of its second transform, of chroma, each the first and the others.
type steps struct{ y, second, chroma [2]int32 }

// edges is what the next macroblock asks of the one above or left.
type edges struct {
	modes   [4]uint8
	nonZero [8]uint8 // blocks of luma (4) and of each chroma (2) that have coefficients
	second  uint8
}

var errTruncated = errors.New("vp8frame: the data are cut short")

// DecodeHeader returns the size of the frame in data.
func DecodeHeader(data []byte) (width, height int, err error) {
	if len(data) < 10 {
		return 0, 0, errTruncated
	}
	if data[0]&1 != 0 || data[3] != 0x9d || data[4] != 0x01 || data[5] != 0x2a {
		return 0, 0, errors.New("vp8frame: it does not start with a key frame")
	}
	width, height = int(data[6])|int(data[7]&0x3f)<<8, int(data[8])|int(data[9]&0x3f)<<8
	if width == 0 || height == 0 {
		return 0, 0, fmt.Errorf("vp8frame: the frame is %d x %d pixels", width, height)
	}
	return width, height, nil
}

// Memory is how many bytes Decode takes for a frame of w x h pixels.
func Memory(w, h int) int64 {
	w, h = (w+15)/16, (h+15)/16
	plane := func(w, h int) int64 { return int64(w+2*margin) * int64(h+1) }
	return plane(16*w, 16*h) + 2*plane(8*w, 8*h) + 16*int64(w)*int64(h) + 32*int64(w) + 64<<10
}

// Decode decodes the frame into its planes Y, Cb and Cr, of which the latter two have half the size, rounded up. Smooth is whether
// the loop filter is applied. Stop is asked after each row of macroblocks; its error ends the decoding.
func Decode(data []byte, smooth bool, stop func() error) (planes [3]Plane, err error) {
	w, h, err := DecodeHeader(data)
	if err != nil {
		return planes, err
	}
	first := int(data[0])>>5 | int(data[1])<<3 | int(data[2])<<11
	data = data[10:]
	if first > len(data) {
		return planes, errTruncated
	}
	f := &frame{wide: (w + 15) / 16, high: (h + 15) / 16, head: newBools(data[:first])}
	if err := f.header(data[first:]); err != nil {
		return planes, err
	}
	f.planes = [3]Plane{newPlane(16*f.wide, 16*f.high), newPlane(8*f.wide, 8*f.high), newPlane(8*f.wide, 8*f.high)}
	f.above = make([]edges, f.wide)
	smooth = smooth && f.level != 0
	if smooth {
		f.limits = make([]limits, f.wide*f.high)
	}
	for my := range f.high {
		if err := stop(); err != nil {
			return planes, err
		}
		f.left = edges{}
		part := &f.parts[my&(len(f.parts)-1)]
		for mx := range f.wide {
			l := f.macroblock(mx, my, part)
			if smooth {
				f.limits[my*f.wide+mx] = l
			}
		}
		if f.head.overrun() || part.overrun() {
			return planes, errTruncated
		}
		// Above the blocks of the next row, to the right of the last one, stands its last sample.
		y := &f.planes[0]
		end := y.at(16*f.wide, 16*my+15)
		fill(y.pix[end:end+8], y.pix[end-1])
	}
	if smooth {
		f.smooth()
	}
	return f.planes, nil
}

// header reads what comes before the macroblocks (section 9). data are the other partitions.
func (f *frame) header(data []byte) error {
	b := &f.head
	b.number(2) // colour space, and whether clamping is needed
	var quantizer, strength [4]int
	relative := false
	f.segmentProbs = [3]uint8{255, 255, 255}
	if f.segmented = b.bit(128); f.segmented {
		f.mapped = b.bit(128)
		if b.bit(128) {
			relative = !b.bit(128)
			for i := range quantizer {
				quantizer[i] = b.optional(7)
			}
			for i := range strength {
				strength[i] = b.optional(6)
			}
		}
		if f.mapped {
			for i := range f.segmentProbs {
				if b.bit(128) {
					f.segmentProbs[i] = uint8(b.number(8))
				}
			}
		}
	}
	f.simple = b.bit(128)
	f.level = b.number(6)
	sharpness := b.number(3)
	var reference, small int
	if deltas := b.bit(128); deltas && b.bit(128) {
		for i := range 8 {
			switch v := b.optional(6); i {
			case 0:
				reference = v
			case 4:
				small = v
			}
		}
	}
	for i := range f.levels {
		base := f.level
		if f.segmented {
			if base = strength[i]; relative {
				base += f.level
			}
		}
		f.levels[i][0] = limitsOf(base+reference, sharpness)
		f.levels[i][1] = limitsOf(base+reference+small, sharpness)
		f.levels[i][1].inside = true
	}

	n := 1 << b.number(2)
	sizes := data
	if len(data) < 3*(n-1) {
		return errTruncated
	}
	data = data[3*(n-1):]
	for i := range n {
		size := len(data)
		if i < n-1 {
			size = int(sizes[3*i]) | int(sizes[3*i+1])<<8 | int(sizes[3*i+2])<<16
		}
		if size > len(data) {
			return errTruncated
		}
		f.parts = append(f.parts, newBools(data[:size]))
		data = data[size:]
	}

	base := b.number(7)
	var delta [5]int
	for i := range delta {
		delta[i] = b.optional(4)
	}
	for i := range f.steps {
		q := base
		if f.segmented {
			if q = quantizer[i]; relative {
				q += base
			}
		}
		of := func(table *[128]int32, delta, most int) int32 { return table[min(max(q+delta, 0), most)] }
		f.steps[i] = steps{
			y:      [2]int32{of(&dcSteps, delta[0], 127), of(&acSteps, 0, 127)},
			second: [2]int32{of(&dcSteps, delta[1], 127) * 2, max(of(&acSteps, delta[2], 127)*155/100, 8)},
			chroma: [2]int32{of(&dcSteps, delta[3], 117), of(&acSteps, delta[4], 127)},
		}
	}
	b.bit(128) // whether later frames may refer to this one
	f.probs = tokenDefaults
	for i := range f.probs {
		for j := range f.probs[i] {
			for k := range f.probs[i][j] {
				for l := range f.probs[i][j][k] {
					if b.bit(tokenUpdates[i][j][k][l]) {
						f.probs[i][j][k][l] = uint8(b.number(8))
					}
				}
			}
		}
	}
	if f.skips = b.bit(128); f.skips {
		f.skipProb = uint8(b.number(8))
	}
	if b.overrun() {
		return errTruncated
	}
	return nil
}

func limitsOf(level, sharpness int) limits {
	if level <= 0 {
		return limits{}
	}
	level = min(level, 63)
	inner := level
	if sharpness > 0 {
		if inner >>= 1; sharpness > 4 {
			inner >>= 1
		}
		inner = min(inner, 9-sharpness)
	}
	inner = max(inner, 1)
	l := limits{edge: int32(2*level + inner), inner: int32(inner)}
	switch {
	case level >= 40:
		l.variance = 2
	case level >= 15:
		l.variance = 1
	}
	return l
}
