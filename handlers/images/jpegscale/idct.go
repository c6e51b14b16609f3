package jpegscale

// A block is the coefficients of eight by eight samples, row by row, dequantised.
type block [64]int32

// Constants of the inverse transforms, times 1<<fixBits.
const (
	fixBits  = 13
	passBits = 2 // kept below the point between the two passes

	fix0298 = 2446
	fix0390 = 3196
	fix0541 = 4433
	fix0765 = 6270
	fix0899 = 7373
	fix1175 = 9633
	fix1306 = 10703
	fix1501 = 12299
	fix1847 = 15137
	fix1961 = 16069
	fix2053 = 16819
	fix2562 = 20995
	fix3072 = 25172
)

// flat fills the samples with the mean.
func (z *block) flat(pix []uint8, stride int) {
	v := clamp((z[0]+4)>>3 + 128)
	for y := range 8 {
		row := pix[y*stride:][:8]
		for x := range row {
			row[x] = v
		}
	}
}

// inverse8 is the inverse transform by Loeffler, Ligtenberg and Moschytz in integers, as exact as libjpeg's "islow". top is the
// last coefficient in zigzag order that is not zero.
func (z *block) inverse8(pix []uint8, stride int, top uint32) {
	if top == 0 {
		z.flat(pix, stride)
		return
	}
	for x := range 8 {
		c := z[x : x+57 : 64]
		c0, c1, c2, c3, c4, c5, c6, c7 := c[0], c[8], c[16], c[24], c[32], c[40], c[48], c[56]
		if c1|c2|c3|c4|c5|c6|c7 == 0 {
			v := c0 << passBits
			c[0], c[8], c[16], c[24], c[32], c[40], c[48], c[56] = v, v, v, v, v, v, v, v
			continue
		}
		const shift, round = fixBits - passBits, 1 << (fixBits - passBits - 1)
		t := (c2 + c6) * fix0541
		t2, t3 := t-c6*fix1847, t+c2*fix0765
		t0, t1 := (c0+c4)<<fixBits+round, (c0-c4)<<fixBits+round
		e0, e3, e1, e2 := t0+t3, t0-t3, t1+t2, t1-t2

		z1, z2, z3, z4 := c7+c1, c5+c3, c7+c3, c5+c1
		z5 := (z3 + z4) * fix1175
		o0, o1, o2, o3 := c7*fix0298, c5*fix2053, c3*fix3072, c1*fix1501
		z1, z2 = -z1*fix0899, -z2*fix2562
		z3, z4 = z5-z3*fix1961, z5-z4*fix0390
		o0 += z1 + z3
		o1 += z2 + z4
		o2 += z2 + z3
		o3 += z1 + z4
		c[0], c[56] = (e0+o3)>>shift, (e0-o3)>>shift
		c[8], c[48] = (e1+o2)>>shift, (e1-o2)>>shift
		c[16], c[40] = (e2+o1)>>shift, (e2-o1)>>shift
		c[24], c[32] = (e3+o0)>>shift, (e3-o0)>>shift
	}
	for y := range 8 {
		c := z[8*y:][:8:8]
		c0, c1, c2, c3, c4, c5, c6, c7 := c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
		const shift = fixBits + passBits + 3
		const round = 1<<(shift-1) + 128<<shift
		row := pix[y*stride:][:8:8]
		t := (c2 + c6) * fix0541
		t2, t3 := t-c6*fix1847, t+c2*fix0765
		t0, t1 := (c0+c4)<<fixBits+round, (c0-c4)<<fixBits+round
		e0, e3, e1, e2 := t0+t3, t0-t3, t1+t2, t1-t2
		if c1|c3|c5|c7 == 0 {
			v0, v1, v2, v3 := clamp(e0>>shift), clamp(e1>>shift), clamp(e2>>shift), clamp(e3>>shift)
			row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7] = v0, v1, v2, v3, v3, v2, v1, v0
			continue
		}
		z1, z2, z3, z4 := c7+c1, c5+c3, c7+c3, c5+c1
		z5 := (z3 + z4) * fix1175
		o0, o1, o2, o3 := c7*fix0298, c5*fix2053, c3*fix3072, c1*fix1501
		z1, z2 = -z1*fix0899, -z2*fix2562
		z3, z4 = z5-z3*fix1961, z5-z4*fix0390
		o0 += z1 + z3
		o1 += z2 + z4
		o2 += z2 + z3
		o3 += z1 + z4
		row[0], row[7] = clamp((e0+o3)>>shift), clamp((e0-o3)>>shift)
		row[1], row[6] = clamp((e1+o2)>>shift), clamp((e1-o2)>>shift)
		row[2], row[5] = clamp((e2+o1)>>shift), clamp((e2-o1)>>shift)
		row[3], row[4] = clamp((e3+o0)>>shift), clamp((e3-o0)>>shift)
	}
}

// inverse4 makes four by four samples of the lowest four by four coefficients.
func (z *block) inverse4(fine []uint16, stride int, top uint32) {
	if top == 0 {
		v := limit(z[0] + zero)
		for y := range 4 {
			row := fine[y*stride:][:4:4]
			row[0], row[1], row[2], row[3] = v, v, v, v
		}
		return
	}
	for x := range 4 {
		c := z[x : x+25 : 64]
		c0, c1, c2, c3 := c[0], c[8], c[16], c[24]
		const shift, round = fixBits - passBits, 1 << (fixBits - passBits - 1)
		e0, e1 := (c0+c2)<<fixBits+round, (c0-c2)<<fixBits+round
		o0, o1 := c1*fix1306+c3*fix0541, c1*fix0541-c3*fix1306
		c[0], c[24] = (e0+o0)>>shift, (e0-o0)>>shift
		c[8], c[16] = (e1+o1)>>shift, (e1-o1)>>shift
	}
	for y := range 4 {
		c := z[8*y:][:4:4]
		c0, c1, c2, c3 := c[0], c[1], c[2], c[3]
		const shift = fixBits + passBits + 3 - FineBits
		const round = 1<<(shift-1) + zero<<shift
		e0, e1 := (c0+c2)<<fixBits+round, (c0-c2)<<fixBits+round
		o0, o1 := c1*fix1306+c3*fix0541, c1*fix0541-c3*fix1306
		row := fine[y*stride:][:4:4]
		row[0], row[3] = limit((e0+o0)>>shift), limit((e0-o0)>>shift)
		row[1], row[2] = limit((e1+o1)>>shift), limit((e1-o1)>>shift)
	}
}
