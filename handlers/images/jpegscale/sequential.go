package jpegscale

// The rows of sequential scans, one function for each way to go over a block. Each decodes the MCUs from to to of row y and
// returns false where the data ends or makes no sense.

// row1 keeps the DC of each block: its mean.
func (s *scan) row1(y, from, to int) bool {
	src := &s.d.src
	w := &src.win
	b := s.b
	for x := from; x < to; x++ {
		for i := range s.blocks {
			m := &s.blocks[i]
			if b.pos > src.limit {
				var ok bool
				if b, ok = src.more(b); !ok {
					return false
				}
			}
			c := m.c
			b = b.refill(w)
			e := m.dc.value[b.acc>>(64-valueBits)]
			if e != 0 {
				b = b.drop(uint(e & 0xff))
				c.pred += e >> 16
			} else {
				diff, used := m.dc.difference(b)
				if used == 0 {
					return false
				}
				b = b.drop(used)
				c.pred += diff
			}
			if i == 0 && x%detailStep == 0 && s.detailed {
				s.d.detail.look(c, m.ac, b, w)
			}
			c.fine[(y*m.perY+m.y)*c.stride+x*m.perX+m.x] = limit(c.pred*c.quant[0] + zero)
			if b = m.ac.skipAC(b, w, 1); b.n > 63 {
				return false
			}
		}
	}
	s.b = b
	return true
}

// difference reads a DC difference the long way. length 0: there is none.
func (h *huffman) difference(b bits) (diff int32, length uint) {
	symbol, length := h.symbol(b)
	if length == 0 || symbol > 15 {
		return 0, 0
	}
	return receive(bits{b.acc << (length & 63), 0, 0}, uint(symbol)), length + uint(symbol)
}

// skipAC goes over the coefficients from k on. n is more than 63 when there was no code.
func (h *huffman) skipAC(b bits, w *window, k uint32) bits {
	for {
		b = b.refill(w)
		before := b.acc
		e := uint32(h.skip[b.acc>>(64-skipBits)])
		b = b.drop(uint(e))
		k += e >> 5
		if k < 64 {
			before = b.acc
			e = uint32(h.skip[b.acc>>(64-skipBits)])
			b = b.drop(uint(e))
			k += e >> 5
			if k < 64 {
				continue
			}
		}
		if k-skipEnd < 64 { // an end of block within the block
			return b
		}
		// More symbols than the block has room for, or a long code: again, one by one.
		k -= e >> 5
		b = bits{before, b.n + uint(e&31), b.pos}
		b = b.refill(w)
		symbol, length := h.symbol(b)
		if length == 0 {
			b.n = 64
			return b
		}
		b = b.drop(length)
		run, size := uint32(symbol>>4), uint(symbol&15)
		b = b.drop(size)
		if size == 0 && run < 15 {
			return b
		}
		if k += run + 1; k > 63 {
			return b
		}
	}
}

// row2 makes four samples of the lowest four coefficients of each block.
func (s *scan) row2(y, from, to int) bool {
	src := &s.d.src
	w := &src.win
	b := s.b
	var z [64]int32
	for x := from; x < to; x++ {
		for i := range s.blocks {
			m := &s.blocks[i]
			if b.pos > src.limit {
				var ok bool
				if b, ok = src.more(b); !ok {
					return false
				}
			}
			c := m.c
			b = b.refill(w)
			e := m.dc.value[b.acc>>(64-valueBits)]
			if e != 0 {
				b = b.drop(uint(e & 0xff))
				c.pred += e >> 16
			} else {
				diff, used := m.dc.difference(b)
				if used == 0 {
					return false
				}
				b = b.drop(used)
				c.pred += diff
			}
			if i == 0 && x%detailStep == 0 && s.detailed {
				s.d.detail.look(c, m.ac, b, w)
			}
			z[1], z[2], z[4] = 0, 0, 0
			k := uint32(1)
			for k < 5 {
				if b.n < 16 {
					b = b.refill(w)
				}
				e := uint32(m.ac.value[b.acc>>(64-valueBits)])
				if e != 0 {
					b = b.drop(uint(e & 0xff))
					k += e >> 8 & 0xff
					z[k&63] = int32(e) >> 16
					k++
					continue
				}
				b = b.refill(w)
				symbol, length := m.ac.symbol(b)
				if length == 0 {
					return false
				}
				b = b.drop(length)
				run, size := uint32(symbol>>4), uint(symbol&15)
				if size == 0 && run < 15 {
					k = 64
					break
				}
				k += run
				z[k&63] = receive(b, size)
				b = b.drop(size)
				k++
			}
			if k < 64 {
				if b = m.ac.skipAC(b, w, k); b.n > 63 {
					return false
				}
			}
			bx, by := x*m.perX+m.x, y*m.perY+m.y
			dc := c.pred * c.quant[0]
			store2(c.fine[by*2*c.stride+bx*2:], c.stride, dc, z[1]*c.quant[1], z[2]*c.quant[2], z[4]*c.quant[4])
			if c.eighth != nil {
				c.eighth[by*c.blocksW+bx] = limit(dc + zero)
			}
		}
	}
	s.b = b
	return true
}

// store2 writes the two by two samples of a block, of which dc, right, down and both are the lowest coefficients.
func store2(fine []uint16, stride int, dc, right, down, both int32) {
	dc += zero
	top, bottom := fine[:2], fine[stride:][:2]
	top[0] = limit(dc + right + down + both)
	top[1] = limit(dc - right + down - both)
	bottom[0] = limit(dc + right - down - both)
	bottom[1] = limit(dc - right - down + both)
}

// row48 makes four by four or eight by eight samples of each block.
func (s *scan) row48(y, from, to int) bool {
	d := s.d
	src := &d.src
	w := &src.win
	b := s.b
	n, last := d.n, uint32(d.lastKept)
	var z block
	for x := from; x < to; x++ {
		for i := range s.blocks {
			m := &s.blocks[i]
			if b.pos > src.limit {
				var ok bool
				if b, ok = src.more(b); !ok {
					return false
				}
			}
			c := m.c
			b = b.refill(w)
			e := m.dc.value[b.acc>>(64-valueBits)]
			if e != 0 {
				b = b.drop(uint(e & 0xff))
				c.pred += e >> 16
			} else {
				diff, used := m.dc.difference(b)
				if used == 0 {
					return false
				}
				b = b.drop(used)
				c.pred += diff
			}
			if i == 0 && x%detailStep == 0 && s.detailed {
				s.d.detail.look(c, m.ac, b, w)
			}
			clear(z[:])
			z[0] = c.pred * c.quant[0]
			k, top := uint32(1), uint32(0) // top is the last coefficient that is not zero
			for k <= last {
				b = b.refill(w)
				e := uint32(m.ac.value[b.acc>>(64-valueBits)])
				if e != 0 {
					b = b.drop(uint(e & 0xff))
					k += e >> 8 & 0xff
					if k > 63 {
						break
					}
					z[natural[k]&63] = int32(e) >> 16 * c.quant[k]
					top = k
					k++
					continue
				}
				symbol, length := m.ac.symbol(b)
				if length == 0 {
					return false
				}
				b = b.drop(length)
				run, size := uint32(symbol>>4), uint(symbol&15)
				if size == 0 {
					if run < 15 {
						k = 64
						break
					}
					k += 16
					continue
				}
				k += run
				v := receive(b, size)
				b = b.drop(size)
				if k > 63 {
					break
				}
				z[natural[k]&63] = v * c.quant[k]
				top = k
				k++
			}
			if k < 64 {
				if b = m.ac.skipAC(b, w, k); b.n > 63 {
					return false
				}
			}
			bx, by := x*m.perX+m.x, y*m.perY+m.y
			if d.opt.Coarser != nil {
				c.coarser(&z, bx, by)
			}
			at := (by*c.stride + bx) * n
			if n == 4 {
				z.inverse4(c.fine[at:], c.stride, top)
			} else {
				z.inverse8(c.pix[at:], c.stride, top)
			}
		}
	}
	s.b = b
	return true
}

// zero is the level in the middle, of which coefficients tell the difference, as Plane.Fine has it.
const zero = (128 + FineZero) << FineBits

// limit keeps what no sound file goes beyond within three times the range of samples.
func limit(v int32) uint16 {
	return uint16(min(max(v, 0), (512+FineZero)<<FineBits-1))
}

func clamp(v int32) uint8 {
	if uint32(v) > 255 {
		v = ^(v >> 31)
	}
	return uint8(v)
}
