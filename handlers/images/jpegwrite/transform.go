package jpegwrite

// Constants of the transform in 13 bits below the point: what libjpeg calls FIX_0_298631336 and so on.
const (
	constBits = 13
	passBits  = 2

	c0_298631336 = 2446
	c0_390180644 = 3196
	c0_541196100 = 4433
	c0_765366865 = 6270
	c0_899976223 = 7373
	c1_175875602 = 9633
	c1_501321110 = 12299
	c1_847759065 = 15137
	c1_961570560 = 16069
	c2_053119869 = 16819
	c2_562915447 = 20995
	c3_072711026 = 25172
)

// forward is the cosine transform of 8 x 8 samples by Loeffler, Ligtenberg and Moschytz in integers, as in libjpeg's
// accurate method, bit for bit. The result is eight times too large.
func forward(out *[64]int32, pix []uint8, stride int) {
	for y := range 8 {
		s := pix[y*stride:][:8]
		o := out[y*8:][:8]
		t0, t7 := int32(s[0])+int32(s[7]), int32(s[0])-int32(s[7])
		t1, t6 := int32(s[1])+int32(s[6]), int32(s[1])-int32(s[6])
		t2, t5 := int32(s[2])+int32(s[5]), int32(s[2])-int32(s[5])
		t3, t4 := int32(s[3])+int32(s[4]), int32(s[3])-int32(s[4])
		t10, t13 := t0+t3, t0-t3
		t11, t12 := t1+t2, t1-t2
		o[0] = (t10 + t11 - 8*128) << passBits
		o[4] = (t10 - t11) << passBits
		z1 := (t12+t13)*c0_541196100 + 1<<(constBits-passBits-1)
		o[2] = (z1 + t13*c0_765366865) >> (constBits - passBits)
		o[6] = (z1 - t12*c1_847759065) >> (constBits - passBits)

		z1, z2, z3, z4 := t4+t7, t5+t6, t4+t6, t5+t7
		z5 := (z3+z4)*c1_175875602 + 1<<(constBits-passBits-1)
		z1 *= -c0_899976223
		z2 *= -c2_562915447
		z3 = z5 - z3*c1_961570560
		z4 = z5 - z4*c0_390180644
		o[7] = (t4*c0_298631336 + z1 + z3) >> (constBits - passBits)
		o[5] = (t5*c2_053119869 + z2 + z4) >> (constBits - passBits)
		o[3] = (t6*c3_072711026 + z2 + z3) >> (constBits - passBits)
		o[1] = (t7*c1_501321110 + z1 + z4) >> (constBits - passBits)
	}
	for x := range 8 {
		t0, t7 := out[x]+out[56+x], out[x]-out[56+x]
		t1, t6 := out[8+x]+out[48+x], out[8+x]-out[48+x]
		t2, t5 := out[16+x]+out[40+x], out[16+x]-out[40+x]
		t3, t4 := out[24+x]+out[32+x], out[24+x]-out[32+x]
		t10, t13 := t0+t3+1<<(passBits-1), t0-t3
		t11, t12 := t1+t2, t1-t2
		out[x] = (t10 + t11) >> passBits
		out[32+x] = (t10 - t11) >> passBits
		z1 := (t12+t13)*c0_541196100 + 1<<(constBits+passBits-1)
		out[16+x] = (z1 + t13*c0_765366865) >> (constBits + passBits)
		out[48+x] = (z1 - t12*c1_847759065) >> (constBits + passBits)

		z1, z2, z3, z4 := t4+t7, t5+t6, t4+t6, t5+t7
		z5 := (z3+z4)*c1_175875602 + 1<<(constBits+passBits-1)
		z1 *= -c0_899976223
		z2 *= -c2_562915447
		z3 = z5 - z3*c1_961570560
		z4 = z5 - z4*c0_390180644
		out[56+x] = (t4*c0_298631336 + z1 + z3) >> (constBits + passBits)
		out[40+x] = (t5*c2_053119869 + z2 + z4) >> (constBits + passBits)
		out[24+x] = (t6*c3_072711026 + z2 + z3) >> (constBits + passBits)
		out[8+x] = (t7*c1_501321110 + z1 + z4) >> (constBits + passBits)
	}
}
