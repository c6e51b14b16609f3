package jpegscale

// The rows of progressive scans. They gather coefficients; transform makes samples of them when the scans are read.

func (s *scan) rowDCFirst(y, from, to int) bool {
	d := s.d
	src := &d.src
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
			c.coef[((y*m.perY+m.y)*c.blocksW+x*m.perX+m.x)*d.slots] = int16(c.pred << s.al)
		}
	}
	s.b = b
	return true
}

func (s *scan) rowDCRefine(y, from, to int) bool {
	d := s.d
	src := &d.src
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
			b = b.refill(w)
			bit := int16(b.acc >> 63)
			b = b.drop(1)
			m.c.coef[((y*m.perY+m.y)*m.c.blocksW+x*m.perX+m.x)*d.slots] |= bit << s.al
		}
	}
	s.b = b
	return true
}

// rowACFirst reads a band of one component.
func (s *scan) rowACFirst(y, from, to int) bool {
	d := s.d
	src := &d.src
	w := &src.win
	b := s.b
	c, ac := s.comps[0], s.blocks[0].ac
	ss, se := uint32(s.ss), uint32(s.se)
	if s.detailed {
		d.detail.blocks += float64(to - from)
	}
	for x := from; x < to; x++ {
		if s.eobRun > 0 { // so many blocks have nothing in the band
			skip := min(int(s.eobRun), to-x)
			s.eobRun -= int32(skip)
			x += skip - 1
			continue
		}
		if b.pos > src.limit {
			var ok bool
			if b, ok = src.more(b); !ok {
				return false
			}
		}
		at := y*c.blocksW + x
		coef := c.coef[at*d.slots:][:d.slots]
		nonzero := uint64(0)
		for k := ss; k <= se; {
			b = b.refill(w)
			var v int32
			if e := uint32(ac.value[b.acc>>(64-valueBits)]); e != 0 {
				b = b.drop(uint(e & 0xff))
				k += e >> 8 & 0xff
				v = int32(e) >> 16
			} else {
				symbol, length := ac.symbol(b)
				if length == 0 {
					return false
				}
				b = b.drop(length)
				run, size := uint32(symbol>>4), uint(symbol&15)
				if size == 0 && run < 15 {
					s.eobRun = 1<<run - 1
					if run > 0 {
						s.eobRun += int32(b.acc >> (64 - run&63))
						b = b.drop(uint(run))
					}
					break
				}
				k += run
				v = receive(b, size)
				b = b.drop(size)
			}
			if k > se {
				break
			}
			if s.detailed && (k == d.detail.k || k == d.detail.l) {
				d.detail.add(v << s.al * c.quant[k&63])
			}
			if slot := d.slot[k&63]; v != 0 && slot >= 0 && int(slot) < len(coef) {
				coef[slot] = int16(v << s.al)
				nonzero |= 1 << (k & 63)
			}
			k++
		}
		if c.nonzero != nil {
			c.nonzero[at] |= nonzero
		}
	}
	s.b = b
	return true
}

// rowACRefine reads one more bit of a band of one component, at full size.
func (s *scan) rowACRefine(y, from, to int) bool {
	d := s.d
	src := &d.src
	w := &src.win
	b := s.b
	c, ac := s.comps[0], s.blocks[0].ac
	ss, se := uint32(s.ss), uint32(s.se)
	one := int16(1) << s.al
	for x := from; x < to; x++ {
		if b.pos > src.limit {
			var ok bool
			if b, ok = src.more(b); !ok {
				return false
			}
		}
		at := y*c.blocksW + x
		coef := (*[64]int16)(c.coef[at*64:])
		nonzero := c.nonzero[at]
		k := ss
		for s.eobRun == 0 && k <= se {
			b = b.refill(w)
			symbol, length := ac.symbol(b)
			if length == 0 {
				return false
			}
			b = b.drop(length)
			run, v := uint32(symbol>>4), int16(0)
			switch {
			case symbol&15 != 0:
				v = -one
				if b.acc>>63 != 0 {
					v = one
				}
				b = b.drop(1)
			case run < 15:
				s.eobRun = 1 << run
				if run > 0 {
					s.eobRun += int32(b.acc >> (64 - run&63))
					b = b.drop(uint(run))
				}
				continue
			}
			// To the place of v: over run coefficients that are zero, and each that is not has a bit more.
			for ; k <= se; k++ {
				if nonzero>>(k&63)&1 == 0 {
					if run == 0 {
						break
					}
					run--
					continue
				}
				b = b.refill(w)
				b = b.correct(&coef[natural[k&63]&63], one)
			}
			if v != 0 && k <= se {
				coef[natural[k&63]&63] = v
				nonzero |= 1 << (k & 63)
			}
			k++
		}
		if s.eobRun > 0 {
			s.eobRun--
			for ; k <= se; k++ {
				if nonzero>>(k&63)&1 != 0 {
					b = b.refill(w)
					b = b.correct(&coef[natural[k&63]&63], one)
				}
			}
		}
		c.nonzero[at] = nonzero
	}
	s.b = b
	return true
}

// correct adds one more bit to a coefficient that is not zero.
func (b bits) correct(v *int16, one int16) bits {
	if b.acc>>63 != 0 {
		if *v < 0 {
			one = -one
		}
		*v += one
	}
	return b.drop(1)
}

// transform makes the samples of a progressive file.
func (d *decoder) transform() error {
	for i := range d.comps {
		c := &d.comps[i]
		// By slot: the quantisation, and half of what the bits that were not read are worth.
		var quant, half, back [64]int32
		for k, slot := range d.slot {
			if slot >= 0 {
				quant[slot], back[slot] = c.quant[k], int32(k)
				half[slot] = int32(1) << c.unread[k] >> 1
			}
		}
		half[0] = 0
		for y := range ceilDiv(c.high, 8) {
			if err := d.check(); err != nil {
				return err
			}
			for x := range ceilDiv(c.w, 8) {
				coef := c.coef[(y*c.blocksW+x)*d.slots:][:d.slots]
				at := (y*c.stride + x) * d.n
				switch d.n {
				case 1:
					c.fine[at] = limit(int32(coef[0])*quant[0] + zero)
				case 2:
					dc := int32(coef[0]) * quant[0]
					store2(c.fine[at:], c.stride, dc, centred(coef[1], half[1])*quant[1], centred(coef[2], half[2])*quant[2], centred(coef[3], half[3])*quant[3])
					if c.eighth != nil {
						c.eighth[y*c.blocksW+x] = limit(dc + zero)
					}
				default:
					var z block
					top := int32(0)
					for slot, v := range coef {
						if v == 0 {
							continue
						}
						z[slot/d.n*8+slot%d.n] = centred(v, half[slot]) * quant[slot]
						top = max(top, back[slot])
					}
					if d.opt.Coarser != nil {
						c.coarser(&z, x, y)
					}
					if d.n == 4 {
						z.inverse4(c.fine[at:], c.stride, uint32(top))
					} else {
						z.inverse8(c.pix[at:], c.stride, uint32(top))
					}
				}
			}
		}
		c.coef, c.nonzero = nil, nil
	}
	return nil
}

// centred is a coefficient in the middle of what it may be, where its lowest bits were not read.
// It has no branch: signs are as good as random.
func centred(v int16, half int32) int32 {
	w := int32(v)
	return w + half*(w>>31|int32(uint32(-w)>>31))
}
