package vp8frame

// bands says which probabilities the coefficient at a place has.
var bands = [17]uint8{0, 1, 2, 3, 6, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 0}

var zigzag = [16]uint8{0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15}

// The probabilities of the extra bits of large coefficients.
var extraBits = [4][]uint8{
	{173, 148, 140}, {176, 155, 140, 135}, {180, 157, 141, 134, 130}, {254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129},
}

// block reads the coefficients of one block of 4 x 4 from place n on (section 13), multiplied by the quantiser's steps dc and ac. It returns
// how many places there are up to the last one that is not zero; none: 0, whatever n.
func (b *bools) block(probs *[8][3][11]uint8, neighbours int, dc, ac int32, n int, out *[16]int16) int {
	if b.have < 16 {
		b.fill()
	}
	p := &probs[bands[n]][neighbours]
	value, width, have := b.value, b.width, b.have
	value, width, used, yes := step(value, width, p[0])
	have -= used
	if !yes {
		b.value, b.width, b.have = value, width, have
		return 0
	}
	for n < 16 {
		// Zero or not, one or more, its sign, the end: four at most before the next look.
		if have < 40 {
			b.value, b.width, b.have = value, width, have
			b.fill()
			value, have = b.value, b.have
		}
		at := zigzag[n]
		n++
		value, width, used, yes = step(value, width, p[1])
		have -= used
		if !yes {
			p = &probs[bands[n]][0]
			continue
		}
		v := int32(1)
		value, width, used, yes = step(value, width, p[2])
		have -= used
		if !yes {
			p = &probs[bands[n]][1]
		} else {
			b.value, b.width, b.have = value, width, have
			v = b.large(p)
			if b.have < 24 {
				b.fill()
			}
			value, width, have = b.value, b.width, b.have
			p = &probs[bands[n]][2]
		}
		if at == 0 {
			v *= dc
		} else {
			v *= ac
		}
		value, width, used, yes = step(value, width, 128)
		have -= used
		if yes {
			v = -v
		}
		out[at] = int16(v)
		if n == 16 {
			break
		}
		value, width, used, yes = step(value, width, p[0])
		have -= used
		if !yes {
			break
		}
	}
	b.value, b.width, b.have = value, width, have
	return n
}

// large is a coefficient of 2 or more.
func (b *bools) large(p *[11]uint8) int32 {
	if !b.bit(p[3]) {
		if !b.bit(p[4]) {
			return 2
		}
		return int32(3 + b.one(p[5]))
	}
	if !b.bit(p[6]) {
		if !b.bit(p[7]) {
			return int32(5 + b.one(159))
		}
		return int32(7 + 2*b.one(165) + b.one(145))
	}
	high := b.one(p[8])
	category := 2*high + b.one(p[9+high])
	v := 0
	for _, p := range extraBits[category] {
		v = v<<1 | b.one(p)
	}
	return int32(v + 3 + 8<<category)
}
