package vp8lossless

// A group is the five codes that a part of the picture is written in: green (with lengths and places in the cache), red, blue, alpha, distances.
type group struct {
	codes [5][]uint32
	// plain is whether red, blue and alpha are always the same, and take no bits; they are in rest.
	plain bool
	rest  uint32
}

// The symbols of green: colours, then lengths, then places in the cache.
const (
	firstLength = 256
	firstCached = 256 + 24
	mostGroups  = 2600 // as many as libwebp writes
)

// near are the distances that are told by a place nearby: rows up in the upper half, 8 less the columns left in the lower.
var near = [120]uint8{
	0x18, 0x07, 0x17, 0x19, 0x28, 0x06, 0x27, 0x29, 0x16, 0x1a, 0x26, 0x2a, 0x38, 0x05, 0x37, 0x39, 0x15, 0x1b, 0x36, 0x3a,
	0x25, 0x2b, 0x48, 0x04, 0x47, 0x49, 0x14, 0x1c, 0x35, 0x3b, 0x46, 0x4a, 0x24, 0x2c, 0x58, 0x45, 0x4b, 0x34, 0x3c, 0x03,
	0x57, 0x59, 0x13, 0x1d, 0x56, 0x5a, 0x23, 0x2d, 0x44, 0x4c, 0x55, 0x5b, 0x33, 0x3d, 0x68, 0x02, 0x67, 0x69, 0x12, 0x1e,
	0x66, 0x6a, 0x22, 0x2e, 0x54, 0x5c, 0x43, 0x4d, 0x65, 0x6b, 0x32, 0x3e, 0x78, 0x01, 0x77, 0x79, 0x53, 0x5d, 0x11, 0x1f,
	0x64, 0x6c, 0x42, 0x4e, 0x76, 0x7a, 0x21, 0x2f, 0x75, 0x7b, 0x31, 0x3f, 0x63, 0x6d, 0x52, 0x5e, 0x00, 0x74, 0x7c, 0x41,
	0x4f, 0x10, 0x20, 0x62, 0x6e, 0x30, 0x73, 0x7d, 0x51, 0x5f, 0x40, 0x72, 0x7e, 0x61, 0x6f, 0x50, 0x71, 0x7f, 0x60, 0x70,
}

func tiles(n int, bits uint) int { return (n + 1<<bits - 1) >> bits }

// groups reads the codes, and for each tile of 1<<bits pixels which of them are its own (nil: all the same).
func (s *source) groups(w, h int, top bool, cacheBits uint, stop func() error) (all []group, of []uint32, bits uint, err error) {
	highest := uint32(0)
	if top && s.read(1) == 1 {
		bits = uint(s.read(3)) + 2
		if of, err = s.pixels(tiles(w, bits), tiles(h, bits), false, stop); err != nil {
			return nil, nil, 0, err
		}
		for i, v := range of {
			of[i] = v >> 8 & 0xffff
			highest = max(highest, of[i])
		}
		if highest >= mostGroups {
			return nil, nil, 0, errCorrupt
		}
	}
	used := make([]bool, highest+1)
	used[0] = of == nil
	for _, v := range of {
		used[v] = true
	}
	all = make([]group, highest+1)
	for i := range all {
		var g group
		for c, symbols := range [5]int{firstCached, 256, 256, 256, 40} {
			if c == 0 && cacheBits > 0 {
				symbols += 1 << cacheBits
			}
			if g.codes[c], err = s.code(symbols); err != nil {
				return nil, nil, 0, err
			}
		}
		if s.overrun() {
			return nil, nil, 0, errTruncated
		}
		if !used[i] {
			continue
		}
		r, b, a := g.codes[1][0], g.codes[2][0], g.codes[3][0]
		g.plain = (r|b|a)&(63|longer) == 0
		g.rest = a>>16<<24 | r>>16<<16 | b>>16
		all[i] = g
	}
	return all, of, bits, nil
}

// pixels reads a picture of w x h pixels, each alpha, red, green and blue from the highest byte down.
func (s *source) pixels(w, h int, top bool, stop func() error) ([]uint32, error) {
	cacheBits := uint(0)
	var cache []uint32
	if s.read(1) == 1 {
		if cacheBits = uint(s.read(4)); cacheBits < 1 || cacheBits > 11 {
			return nil, errCorrupt
		}
		cache = make([]uint32, 1<<cacheBits)
	}
	all, of, tileBits, err := s.groups(w, h, top, cacheBits, stop)
	if err != nil {
		return nil, err
	}
	wide := tiles(w, tileBits)
	pix := make([]uint32, w*h)
	cached := 0 // up to here pixels are in the cache
	g := &all[0]
	x, y, mask := 0, 0, 1<<tileBits-1
	for p := 0; p < len(pix); {
		if x >= w {
			y += x / w
			x %= w
			if s.overrun() {
				return nil, errTruncated
			}
			if err := stop(); err != nil {
				return nil, err
			}
			if of != nil {
				g = &all[of[y>>tileBits*wide]]
			}
		}
		if of != nil && x&mask == 0 {
			g = &all[of[y>>tileBits*wide+x>>tileBits]]
		}
		s.fill()
		green := s.symbol(g.codes[0])
		switch {
		case green < firstLength:
			if g.plain {
				pix[p] = g.rest | green<<8
			} else {
				red := s.symbol(g.codes[1])
				if s.have < 30 {
					s.fill()
				}
				blue := s.symbol(g.codes[2])
				alpha := s.symbol(g.codes[3])
				pix[p] = alpha<<24 | red<<16 | green<<8 | blue
			}
			p++
			x++
		case green < firstCached:
			length := s.extended(green - firstLength)
			s.fill()
			distance := s.extended(s.symbol(g.codes[4]))
			if distance > len(near) {
				distance -= len(near)
			} else {
				n := int(near[distance-1])
				distance = max(n>>4*w+8-n&15, 1)
			}
			if distance > p || length > len(pix)-p {
				return nil, errCorrupt
			}
			if distance >= length {
				copy(pix[p:p+length], pix[p-distance:])
			} else {
				for i := p; i < p+length; i++ {
					pix[i] = pix[i-distance]
				}
			}
			p += length
			if x += length; of != nil && x < w {
				g = &all[of[y>>tileBits*wide+x>>tileBits]]
			} else if of != nil && p < len(pix) {
				y += x / w
				x %= w
				g = &all[of[y>>tileBits*wide+x>>tileBits]]
			}
			if s.overrun() {
				return nil, errTruncated
			}
		default:
			for ; cached < p; cached++ {
				cache[pix[cached]*0x1e35a7bd>>(32-cacheBits)] = pix[cached]
			}
			pix[p] = cache[green-firstCached] // the code has no symbol beyond
			p++
			x++
		}
	}
	if s.overrun() {
		return nil, errTruncated
	}
	return pix, nil
}

// extended is a length or distance that the symbol begins.
func (s *source) extended(symbol uint32) int {
	if symbol < 4 {
		return int(symbol) + 1
	}
	more := uint(symbol-2) >> 1
	return int((2+symbol&1)<<more+s.read(more)) + 1
}
