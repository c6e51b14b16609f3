package jpegwrite

import "math/bits"

// A scan of a progressive file: coefficients from to to of the components first to last, without their lowest al bits. ah is the al
// of the scan that this one refines by a bit; 0: none.
type scan struct{ first, last, from, to, ah, al int }

// The scans are those of libjpeg's jpeg_simple_progression.
var (
	colourScans = []scan{
		{0, 2, 0, 0, 0, 1},
		{0, 0, 1, 5, 0, 2},
		{2, 2, 1, 63, 0, 1},
		{1, 1, 1, 63, 0, 1},
		{0, 0, 6, 63, 0, 2},
		{0, 0, 1, 63, 2, 1},
		{0, 2, 0, 0, 1, 0},
		{2, 2, 1, 63, 1, 0},
		{1, 1, 1, 63, 1, 0},
		{0, 0, 1, 63, 1, 0},
	}
	greyScans = []scan{
		{0, 0, 0, 0, 0, 1},
		{0, 0, 1, 5, 0, 2},
		{0, 0, 6, 63, 0, 2},
		{0, 0, 1, 63, 2, 1},
		{0, 0, 0, 0, 1, 0},
		{0, 0, 1, 63, 1, 0},
	}
)

func (e *encoder) progressive() {
	scans := greyScans
	if len(e.comps) > 1 {
		scans = colourScans
	}
	for _, s := range scans {
		switch {
		case e.out.err != nil:
			return
		case s.from == 0 && s.ah > 0:
			e.startScan(s.first, s.last, 0, 0, s.ah, s.al)
			e.refineDC(s)
		case s.from == 0:
			e.firstDC(s)
		default:
			e.scanAC(s)
		}
		e.out.align()
	}
}

func (e *encoder) firstDC(s scan) {
	var counters [2]histogram
	e.shiftedDC(s.al, func(c *component, diff int32) { counters[c.table][width(magnitude(diff))]++ })
	var codes [2]*code
	for t := range min(len(e.comps), 2) {
		codes[t] = optimal(&counters[t])
		codes[t].write(&e.out, 0, t)
	}
	e.startScan(s.first, s.last, 0, 0, 0, s.al)
	e.shiftedDC(s.al, func(c *component, diff int32) { e.out.number(codes[c.table], 0, diff) })
}

// shiftedDC is interleaved for DC coefficients without their lowest bits.
func (e *encoder) shiftedDC(al int, fn func(c *component, diff int32)) {
	e.interleaved(func(c *component, dc, diff int32, _ *block) { fn(c, dc>>al-(dc-diff)>>al) })
}

func (e *encoder) refineDC(s scan) {
	e.interleaved(func(_ *component, dc, _ int32, _ *block) { e.out.put(uint32(dc>>s.al)&1, 1) })
}

// scanAC writes a scan of one component: once to count, once to write.
func (e *encoder) scanAC(s scan) {
	c := &e.comps[s.first]
	r := runs{scan: s}
	r.all(c)
	r.code = optimal(&r.counts)
	r.out = &e.out
	r.code.write(&e.out, 1, c.table)
	e.startScan(s.first, s.last, s.from, s.to, s.ah, s.al)
	r.all(c)
}

// runs turns the blocks of a scan into symbols: it counts them, or writes them when out is set. Blocks that end without
// another symbol are gathered and told of together, with the refining bits that they owe.
type runs struct {
	scan
	counts histogram
	code   *code
	out    *output

	ended int    // blocks
	owed  []bool // their bits, of which there are never more than maxOwed
	here  []bool // those of the block in hand
}

const (
	maxEnded = 0x7fff
	maxOwed  = 937 // as libjpeg: what its buffer of 1,000 holds before another block might not fit
)

func (r *runs) all(c *component) {
	for by := range c.bh {
		if r.out != nil && r.out.err != nil {
			return
		}
		row := c.row(by)
		for bx := range row {
			if r.ah == 0 {
				r.first(&row[bx])
			} else {
				r.refine(&row[bx])
			}
		}
	}
	r.end()
}

func (r *runs) symbol(s int, extra uint32, size uint) {
	if r.out == nil {
		r.counts[s]++
		return
	}
	r.out.put(uint32(r.code.bits[s&255])<<size|extra, uint(r.code.size[s&255])+size)
}

func (r *runs) owe(list []bool) {
	if r.out == nil {
		return
	}
	for _, bit := range list {
		v := uint32(0)
		if bit {
			v = 1
		}
		r.out.put(v, 1)
	}
}

// end tells of the blocks that ended.
func (r *runs) end() {
	if r.ended == 0 {
		return
	}
	size := width(uint32(r.ended)) - 1
	r.symbol(size<<4, uint32(r.ended)&(1<<size-1), uint(size))
	r.ended = 0
	r.owe(r.owed)
	r.owed = r.owed[:0]
}

// band is the coefficients of the scan that are not 0.
func (r *runs) band(b *block) uint64 {
	return b.used >> r.from << r.from & (1<<(r.to+1) - 1)
}

// first writes a block of a scan that refines none.
func (r *runs) first(b *block) {
	last := r.from - 1
	for used := r.band(b); used != 0; used &= used - 1 {
		k := bits.TrailingZeros64(used)
		v := int32(b.coef[k&63])
		m := magnitude(v) >> r.al
		if m == 0 {
			continue
		}
		r.end()
		run := k - last - 1
		last = k
		for ; run > 15; run -= 16 {
			r.symbol(zeros16, 0, 0)
		}
		size := uint(width(m))
		if v < 0 {
			m = ^m & (1<<size - 1)
		}
		r.symbol(run<<4|int(size), m, size)
	}
	if last < r.to {
		if r.ended++; r.ended == maxEnded {
			r.end()
		}
	}
}

// refine writes a block of a scan that adds a bit to the coefficients that are known, and sends those that this bit makes
// more than 0.
func (r *runs) refine(b *block) {
	band := r.band(b)
	newest := 0 // the last that becomes more than 0
	for used := band; used != 0; used &= used - 1 {
		k := bits.TrailingZeros64(used)
		if magnitude(int32(b.coef[k&63]))>>r.al == 1 {
			newest = k
		}
	}
	run, next := 0, r.from
	r.here = r.here[:0]
	for used := band; used != 0; used &= used - 1 {
		k := bits.TrailingZeros64(used)
		v := int32(b.coef[k&63])
		m := magnitude(v) >> r.al
		if m == 0 {
			continue
		}
		run += k - next
		next = k + 1
		for run > 15 && k <= newest { // beyond it, the end of the block says it
			r.end()
			r.symbol(zeros16, 0, 0)
			run -= 16
			r.owe(r.here)
			r.here = r.here[:0]
		}
		if m > 1 {
			r.here = append(r.here, m&1 == 1)
			continue
		}
		r.end()
		r.symbol(run<<4|1, uint32(1+v>>31), 1)
		r.owe(r.here)
		r.here = r.here[:0]
		run = 0
	}
	run += r.to + 1 - next
	if run > 0 || len(r.here) > 0 {
		r.ended++
		r.owed = append(r.owed, r.here...)
		if r.ended == maxEnded || len(r.owed) > maxOwed {
			r.end()
		}
	}
}
