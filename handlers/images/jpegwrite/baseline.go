package jpegwrite

import "math/bits"

// Symbols of AC codes that are no run and size.
const (
	endOfBlock = 0x00
	zeros16    = 0xf0
)

// counter and writer are the two passes of a baseline scan over the blocks in the order of the file: the first counts
// symbols, the second writes their codes.
type counter struct{ dc, ac histogram }

func (e *encoder) baseline() {
	tables := min(len(e.comps), 2)
	var counters [2]counter
	e.interleaved(func(c *component, _, diff int32, b *block) {
		t := &counters[c.table]
		t.dc[width(magnitude(diff))]++
		if b == nil {
			t.ac[endOfBlock]++
			return
		}
		t.count(b)
	})
	var dc, ac [2]*code
	for t := range tables {
		dc[t], ac[t] = optimal(&counters[t].dc), optimal(&counters[t].ac)
		dc[t].write(&e.out, 0, t)
		ac[t].write(&e.out, 1, t)
	}
	e.startScan(0, len(e.comps)-1, 0, 63, 0, 0)
	e.interleaved(func(c *component, _, diff int32, b *block) {
		e.out.number(dc[c.table], 0, diff)
		if b == nil {
			e.out.put(uint32(ac[c.table].bits[endOfBlock]), uint(ac[c.table].size[endOfBlock]))
			return
		}
		e.out.coefficients(ac[c.table], b)
	})
	e.out.align()
}

// interleaved calls fn for each block of all components, MCU by MCU, with its DC coefficient and the difference to the one
// before. b is nil for a block beyond the picture, which repeats the DC coefficient before it and is empty otherwise.
func (e *encoder) interleaved(fn func(c *component, dc, diff int32, b *block)) {
	var before [3]int32
	var rows [3][2][]block
	for my := range e.mcusY {
		if e.out.err != nil {
			return
		}
		for i := range e.comps {
			c := &e.comps[i]
			for v := range c.vs {
				rows[i][v] = nil
				if by := my*c.vs + v; by < c.bh {
					rows[i][v] = c.row(by)
				}
			}
		}
		for mx := range e.mcusX {
			for i := range e.comps {
				c := &e.comps[i]
				for v := range c.vs {
					row := rows[i][v]
					for h := range c.hs {
						bx := mx*c.hs + h
						if bx >= len(row) {
							fn(c, before[i], 0, nil)
							continue
						}
						dc := int32(row[bx].coef[0])
						fn(c, dc, dc-before[i], &row[bx])
						before[i] = dc
					}
				}
			}
		}
	}
}

// count adds what coefficients will write.
func (t *counter) count(b *block) {
	last := 0
	for used := b.used &^ 1; used != 0; used &= used - 1 {
		k := bits.TrailingZeros64(used)
		run := k - last - 1
		last = k
		for ; run > 15; run -= 16 {
			t.ac[zeros16]++
		}
		t.ac[run<<4|width(magnitude(int32(b.coef[k&63])))]++
	}
	if last < 63 {
		t.ac[endOfBlock]++
	}
}

// coefficients writes the AC coefficients of a block.
func (o *output) coefficients(c *code, b *block) {
	last := 0
	for used := b.used &^ 1; used != 0; used &= used - 1 {
		k := bits.TrailingZeros64(used)
		run := k - last - 1
		last = k
		for ; run > 15; run -= 16 {
			o.put(uint32(c.bits[zeros16]), uint(c.size[zeros16]))
		}
		o.number(c, run<<4, int32(b.coef[k&63]))
	}
	if last < 63 {
		o.put(uint32(c.bits[endOfBlock]), uint(c.size[endOfBlock]))
	}
}

// number writes the code of prefix and size of v together, then v in as many bits: what is negative less one.
func (o *output) number(c *code, prefix int, v int32) {
	size := uint(width(magnitude(v)))
	symbol := prefix | int(size)
	low := uint32(v+v>>31) & (1<<size - 1)
	o.put(uint32(c.bits[symbol&255])<<size|low, uint(c.size[symbol&255])+size)
}

func magnitude(v int32) uint32 {
	sign := v >> 31
	return uint32((v ^ sign) - sign)
}
