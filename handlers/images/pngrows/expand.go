package pngrows

import "encoding/binary"

// times is v*a/255, rounded.
func times(v, a uint8) uint8 {
	t := uint32(v)*uint32(a) + 128
	return uint8((t + t>>8) >> 8)
}

// indexes gives each sample of less than 8 bits a byte of its own.
func (r *Reader) indexes(stored []uint8) []uint8 {
	if r.Depth == 8 || r.Interlaced {
		return stored
	}
	if r.spread == nil {
		r.spread = make([]uint8, r.Width)
	}
	out, per := r.spread, 8/r.Depth
	mask := uint8(1<<r.Depth - 1)
	at := 0
	for _, v := range stored {
		for range per {
			v = v<<r.Depth | v>>(8-r.Depth)
			if at < len(out) {
				out[at] = v & mask
			}
			at++
		}
	}
	return out
}

// expand makes of a stored row of up to 8 bits what Row returns.
func (r *Reader) expand(stored []uint8) []uint8 {
	if r.out == nil {
		r.out = make([]uint8, r.Width*r.Channels+4)
	}
	out := r.out[:r.Width*r.Channels]
	switch {
	case r.Colour == 3:
		r.look(out, r.indexes(stored))
	case r.Colour == 0:
		grey := r.indexes(stored)
		scale := uint8(255 / (1<<r.Depth - 1))
		switch {
		case r.keyed:
			for x, v := range grey {
				px := out[4*x:][:4]
				if uint16(v) == r.key[0] {
					px[0], px[1], px[2], px[3] = 0, 0, 0, 0
					r.clear = true
					continue
				}
				v *= scale
				px[0], px[1], px[2], px[3] = v, v, v, 255
			}
		case r.Depth == 8:
			return grey
		default:
			for x, v := range grey {
				out[x] = v * scale
			}
		}
	case r.Colour == 2:
		if !r.keyed {
			return stored
		}
		for x := range r.Width {
			px, from := out[4*x:][:4], stored[3*x:][:3]
			if uint16(from[0]) == r.key[0] && uint16(from[1]) == r.key[1] && uint16(from[2]) == r.key[2] {
				px[0], px[1], px[2], px[3] = 0, 0, 0, 0
				r.clear = true
				continue
			}
			px[0], px[1], px[2], px[3] = from[0], from[1], from[2], 255
		}
	case r.Colour == 4:
		for x := range r.Width {
			px, v, a := out[4*x:][:4], stored[2*x], stored[2*x+1]
			if a != 255 {
				r.clear = true
				v = times(v, a)
			}
			px[0], px[1], px[2], px[3] = v, v, v, a
		}
	default:
		return r.premultiply(out, stored)
	}
	return out
}

// look puts the palette's colours for indexes.
func (r *Reader) look(out, indexes []uint8) {
	if r.Channels == 4 {
		all := uint8(255)
		for _, v := range indexes {
			if len(out) < 4 {
				break
			}
			c := &r.palette[v]
			all &= c[3]
			copy(out[:4], c[:])
			out = out[4:]
		}
		r.clear = r.clear || all != 255
		return
	}
	for _, v := range indexes {
		if len(out) < 3 {
			break
		}
		c := &r.palette[v]
		out[0], out[1], out[2] = c[0], c[1], c[2]
		out = out[3:]
	}
}

// premultiply multiplies colours by alpha; a row that is opaque stays where it is.
func (r *Reader) premultiply(out, stored []uint8) []uint8 {
	const alphas = 0xff000000ff000000
	from := stored
	all := uint64(alphas)
	for len(from) >= 8 {
		all &= binary.LittleEndian.Uint64(from)
		from = from[8:]
	}
	if all&alphas == alphas && (len(from) < 4 || from[3] == 255) {
		return stored
	}
	r.clear = true
	from = stored
	for to := out; len(to) >= 4 && len(from) >= 4; to, from = to[4:], from[4:] {
		v := binary.LittleEndian.Uint32(from)
		switch a := v >> 24; a {
		case 255:
		case 0:
			v = 0
		default:
			// Two colours at a time, 16 bits each; what is multiplied by 255 at the place of alpha gives alpha.
			rb, g := v&0xff00ff*a+0x800080, (v>>8&0xff|0xff0000)*a+0x800080
			rb = (rb + rb>>8&0xff00ff) >> 8 & 0xff00ff
			g = (g + g>>8&0xff00ff) >> 8 & 0xff00ff
			v = rb | g<<8
		}
		binary.LittleEndian.PutUint32(to, v)
	}
	return out
}

// expand16 makes of a stored row of 16 bits what Row16 returns.
func (r *Reader) expand16(stored []uint8) []uint16 {
	if r.out16 == nil {
		r.out16 = make([]uint16, r.Width*r.Channels)
	}
	out := r.out16
	at := func(i int) uint16 { return binary.BigEndian.Uint16(stored[2*i:]) }
	if r.Channels != 4 {
		for i := range out {
			out[i] = at(i)
		}
		return out
	}
	n := r.samples()
	for x := range r.Width {
		px := out[4*x:][:4]
		a := uint16(0xffff)
		switch r.Colour {
		case 0:
			px[0] = at(x)
			px[1], px[2] = px[0], px[0]
			if px[0] == r.key[0] {
				a = 0
			}
		case 2:
			px[0], px[1], px[2] = at(n*x), at(n*x+1), at(n*x+2)
			if px[0] == r.key[0] && px[1] == r.key[1] && px[2] == r.key[2] {
				a = 0
			}
		case 4:
			px[0], a = at(n*x), at(n*x+1)
			px[1], px[2] = px[0], px[0]
		default:
			px[0], px[1], px[2], a = at(n*x), at(n*x+1), at(n*x+2), at(n*x+3)
		}
		if a != 0xffff {
			r.clear = true
			for c := range 3 {
				px[c] = uint16((uint32(px[c])*uint32(a) + 0x7fff) / 0xffff)
			}
		}
		px[3] = a
	}
	return out
}
