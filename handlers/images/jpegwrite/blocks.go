package jpegwrite

import "math/bits"

// A block is the quantised coefficients of 8 x 8 samples in the file's order. used has a bit for each that is not 0.
type block struct {
	used uint64
	coef [64]int16
}

const blockBytes = 64*2 + 8

// A component is one plane on its way to blocks.
type component struct {
	plane  Plane
	w, h   int // samples
	hs, vs int // blocks in an MCU of an interleaved scan
	bw, bh int // blocks that hold samples
	table  int // of quantisation and of both kinds of Huffman codes

	steps [64]uint8
	// A coefficient of the transform, eight times too large, is divided by 8*step and rounded: (v+half)*inverse >> 32
	// is that exactly for every v of 16 bits. What is not above low becomes 0. All are in the file's order.
	low     [64]uint32
	half    [64]uint32
	inverse [64]uint64

	blocks []block // all, or room for the rows of one MCU
	kept   bool
}

func (c *component) quantise(quality int) {
	c.steps = stepsOf(c.table, quality)
	for k, natural := range zigzag {
		d := uint32(c.steps[natural]) * 8
		c.half[k], c.inverse[k] = d/2, (1<<32+uint64(d)-1)/uint64(d)
		c.low[k] = d - d/2 - 1
	}
}

// hold makes room, and all blocks if they are kept.
func (c *component) hold(all bool) {
	c.kept = all
	if !all {
		c.blocks = make([]block, c.bw*c.vs)
		return
	}
	c.blocks = make([]block, c.bw*c.bh)
	for by := range c.bh {
		c.make(by, c.blocks[by*c.bw:][:c.bw])
	}
}

// row is the blocks of row by, to be read until c.vs rows later.
func (c *component) row(by int) []block {
	if c.kept {
		return c.blocks[by*c.bw:][:c.bw]
	}
	row := c.blocks[by%c.vs*c.bw:][:c.bw]
	clear(row)
	c.make(by, row)
	return row
}

// make transforms a row of blocks, which are empty. At the right and lower edge the last sample is repeated.
func (c *component) make(by int, row []block) {
	var (
		work [64]int32
		edge [64]uint8
	)
	for bx := range row {
		pix, stride := c.plane.Pix[by*8*c.plane.Stride+bx*8:], c.plane.Stride
		if bx*8+8 > c.w || by*8+8 > c.h {
			for y := range 8 {
				from := c.plane.Pix[min(by*8+y, c.h-1)*stride:]
				for x := range 8 {
					edge[y*8+x] = from[min(bx*8+x, c.w-1)]
				}
			}
			pix, stride = edge[:], 8
		}
		forward(&work, pix, stride)
		c.divide(&row[bx], &work)
	}
}

// divide fills b, which is empty. Most coefficients are less than half a step, which is all there is to know of them.
func (c *component) divide(b *block, work *[64]int32) {
	var used uint64
	for k := range 64 {
		v := work[zigzag[k]&63]
		if low := c.low[k]; uint32(v)+low <= 2*low {
			continue
		}
		sign := v >> 31
		q := int32(uint64(uint32((v^sign)-sign)+c.half[k]) * c.inverse[k] >> 32)
		if k > 0 {
			q = min(q, 1023) // what the codes can say
		}
		b.coef[k] = int16((q ^ sign) - sign)
		used |= 1 << k
	}
	b.used = used
}

// width is how many bits hold a magnitude.
func width(v uint32) int { return bits.Len32(v) }
