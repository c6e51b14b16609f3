package jpegscale

import "math"

// detailStep is how many MCUs lie between two blocks of a sequential scan that are looked at for detail.
const detailStep = 16

// A detail measures what the scale leaves out: the coefficients k and l, the first beyond it along either axis.
type detail struct {
	wanted bool
	k, l   uint32 // in zigzag order; k comes first
	sum    float64
	blocks float64
	most   float64 // what sum may come to
}

// measure sets up the measuring of detail.
func (d *decoder) measure() {
	if d.opt.MaxDetail <= 0 || d.n == 8 {
		return
	}
	t := &d.detail
	t.wanted = true
	switch d.n {
	case 1:
		t.k, t.l = 1, 2
	case 2:
		t.k, t.l = 3, 5
	case 4:
		t.k, t.l = 10, 14
	}
	c := &d.comps[0]
	blocks := ceilDiv(c.w, 8) * ceilDiv(c.high, 8)
	if !d.progressive {
		blocks /= detailStep * c.h * c.v
	}
	t.most = d.opt.MaxDetail * d.opt.MaxDetail * 64 * float64(blocks)
}

// exceeded tells that there is too much of it, whatever comes.
func (t *detail) exceeded() bool { return t.wanted && t.sum > t.most && t.blocks > 64 }

func (t *detail) rms() float64 {
	if t.blocks == 0 {
		return 0
	}
	return math.Sqrt(t.sum/t.blocks) / 8
}

// look reads the two coefficients of a block of the component, whose AC coefficients begin at b.
func (t *detail) look(c *component, h *huffman, b bits, w *window) {
	t.blocks++
	for k := uint32(1); k <= t.l; k++ {
		b = b.refill(w)
		symbol, length := h.symbol(b)
		if length == 0 {
			return
		}
		b = b.drop(length)
		run, size := uint32(symbol>>4), uint(symbol&15)
		if size == 0 && run < 15 {
			return
		}
		k += run
		v := receive(b, size)
		b = b.drop(size)
		if k == t.k || k == t.l {
			t.add(v * c.quant[k])
		}
	}
}

func (t *detail) add(v int32) { t.sum += float64(v) * float64(v) }
