package vp8frame

func clip(v int32) uint8 {
	if uint32(v) <= 255 {
		return uint8(v)
	}
	return uint8(^(v >> 31)) // negative: 0, else 255
}

// inverse adds the inverse transform of c (section 14.4) to the block of 4 x 4 at pix.
func inverse(c *[16]int16, pix []uint8, stride int) {
	const (
		cos = 85627 // 65536 * sqrt(2) * cos(pi/8)
		sin = 35468
	)
	var m [16]int32
	for i := range 4 {
		c0, c4, c8, c12 := int32(c[i]), int32(c[4+i]), int32(c[8+i]), int32(c[12+i])
		a, b := c0+c8, c0-c8
		p := (c4*sin)>>16 - (c12*cos)>>16
		q := (c4*cos)>>16 + (c12*sin)>>16
		m[i], m[4+i], m[8+i], m[12+i] = a+q, b+p, b-p, a-q
	}
	for j := range 4 {
		// Row j of the result is made of column j of the transform, whose row m has.
		m0, m1, m2, m3 := m[4*j]+4, m[4*j+1], m[4*j+2], m[4*j+3]
		a, b := m0+m2, m0-m2
		p := (m1*sin)>>16 - (m3*cos)>>16
		q := (m1*cos)>>16 + (m3*sin)>>16
		row := pix[j*stride:][:4]
		row[0] = clip(int32(row[0]) + (a+q)>>3)
		row[1] = clip(int32(row[1]) + (b+p)>>3)
		row[2] = clip(int32(row[2]) + (b-p)>>3)
		row[3] = clip(int32(row[3]) + (a-q)>>3)
	}
}

// flat is inverse of a block that has but its first coefficient.
func flat(c int16, pix []uint8, stride int) {
	d := (int32(c) + 4) >> 3
	for j := range 4 {
		row := pix[j*stride:][:4]
		row[0], row[1], row[2], row[3] = clip(int32(row[0])+d), clip(int32(row[1])+d), clip(int32(row[2])+d), clip(int32(row[3])+d)
	}
}

// hadamard gives the 16 blocks of luma their first coefficients (section 14.3).
func hadamard(c *[16]int16, blocks *[24][16]int16) {
	var m [16]int32
	for i := range 4 {
		a, b := int32(c[i])+int32(c[12+i]), int32(c[4+i])+int32(c[8+i])
		d, e := int32(c[4+i])-int32(c[8+i]), int32(c[i])-int32(c[12+i])
		m[i], m[8+i], m[4+i], m[12+i] = a+b, a-b, e+d, e-d
	}
	for i := range 4 {
		first := m[4*i] + 3
		a, b := first+m[4*i+3], m[4*i+1]+m[4*i+2]
		d, e := m[4*i+1]-m[4*i+2], first-m[4*i+3]
		blocks[4*i][0], blocks[4*i+1][0] = int16((a+b)>>3), int16((e+d)>>3)
		blocks[4*i+2][0], blocks[4*i+3][0] = int16((a-b)>>3), int16((e-d)>>3)
	}
}
