package vp8lossless

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

var (
	errTruncated = errors.New("vp8lossless: the data are cut short")
	errCorrupt   = errors.New("vp8lossless: the data are corrupt")
)

// A source gives bits, the lowest of a byte first.
type source struct {
	data []byte
	bits uint64
	have uint
	past uint // bits made up behind the end
}

// fill brings 56 bits at least; behind the end they are zero.
func (s *source) fill() {
	if len(s.data) >= 8 {
		s.bits |= binary.LittleEndian.Uint64(s.data) << (s.have & 63)
		s.data = s.data[(63-s.have)>>3:]
		s.have |= 56
		return
	}
	for s.have <= 56 {
		if len(s.data) > 0 {
			s.bits |= uint64(s.data[0]) << s.have
			s.data = s.data[1:]
		} else {
			s.past += 8
		}
		s.have += 8
	}
}

func (s *source) overrun() bool { return s.past > s.have }

// read returns n bits, 32 at most.
func (s *source) read(n uint) uint32 {
	if s.have < 32 {
		s.fill()
	}
	v := uint32(s.bits & (1<<n - 1))
	s.bits >>= n
	s.have -= n
	return v
}

// symbol reads one of a code. The caller has seen to 15 bits.
func (s *source) symbol(t []uint32) uint32 {
	e := t[s.bits&(1<<rootBits-1)]
	if e&longer != 0 {
		e = t[e>>16+uint32(s.bits>>rootBits)&(1<<(e>>8&15)-1)]
	}
	s.bits >>= e & 63
	s.have -= uint(e & 63)
	return e >> 16
}

// The entry of a table has how many bits a code takes in bits 0-5 and the symbol from bit 16 on; or longer, how many bits index the second table in bits 8-11, and where
// that starts.
const (
	rootBits = 8
	longer   = 1 << 12
)

// table makes the table of the code whose symbols have the lengths given. One symbol alone takes no bits.
func table(lengths []uint8) ([]uint32, error) {
	var count [16]int
	symbols, only := 0, 0
	for s, l := range lengths {
		if l > 0 {
			count[l]++
			symbols, only = symbols+1, s
		}
	}
	root := make([]uint32, 1<<rootBits, 1<<rootBits+64)
	if symbols == 1 {
		for i := range root {
			root[i] = uint32(only) << 16
		}
		return root, nil
	}
	var next [17]uint32
	left := 1
	for l := 1; l <= 15; l++ {
		left = left<<1 - count[l]
		if left < 0 {
			return nil, errCorrupt
		}
		next[l+1] = (next[l] + uint32(count[l])) << 1
	}
	if left != 0 {
		return nil, errCorrupt
	}
	// The codes, reversed; and how long the longest is that begins as a second table's index does.
	codes := make([]uint32, len(lengths))
	var width [1 << rootBits]uint8
	for s, l := range lengths {
		if l == 0 {
			continue
		}
		codes[s] = bits.Reverse32(next[l]) >> (32 - l)
		next[l]++
		if l > rootBits {
			w := &width[codes[s]&(1<<rootBits-1)]
			*w = max(*w, l-rootBits)
		}
	}
	for i, w := range width {
		if w > 0 {
			root[i] = longer | uint32(len(root))<<16 | uint32(w)<<8
			root = append(root, make([]uint32, 1<<w)...)
		}
	}
	for s, l := range lengths {
		e := uint32(s)<<16 | uint32(l)
		switch {
		case l == 0:
		case l <= rootBits:
			for i := codes[s]; i < 1<<rootBits; i += 1 << l {
				root[i] = e
			}
		default:
			first := root[codes[s]&(1<<rootBits-1)]
			second := root[first>>16:][:1<<(first>>8&15)]
			for i := int(codes[s] >> rootBits); i < len(second); i += 1 << (l - rootBits) {
				second[i] = e
			}
		}
	}
	return root, nil
}

var lengthOrder = [19]uint8{17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// code reads the lengths of a code of so many symbols, and makes its table.
func (s *source) code(symbols int) ([]uint32, error) {
	lengths := make([]uint8, max(symbols, 256))
	if s.read(1) == 1 { // one or two symbols
		two := s.read(1) == 1
		first := s.read(1 + 7*uint(s.read(1)))
		lengths[first] = 1
		if two {
			lengths[s.read(8)] = 1
		}
		for _, l := range lengths[symbols:] {
			if l != 0 {
				return nil, errCorrupt
			}
		}
		return table(lengths[:symbols])
	}
	lengths = lengths[:symbols]
	var small [19]uint8
	n := int(s.read(4)) + 4
	if n > len(small) {
		return nil, errCorrupt
	}
	for _, i := range lengthOrder[:n] {
		small[i] = uint8(s.read(3))
	}
	t, err := table(small[:])
	if err != nil {
		return nil, err
	}
	most := symbols
	if s.read(1) == 1 {
		most = int(s.read(2+2*uint(s.read(3)))) + 2
		if most > symbols {
			return nil, errCorrupt
		}
	}
	previous := uint8(8)
	for i := 0; i < symbols && most > 0; most-- {
		s.fill()
		l := s.symbol(t)
		if l < 16 {
			lengths[i] = uint8(l)
			i++
			if l != 0 {
				previous = uint8(l)
			}
			continue
		}
		times, value := 0, uint8(0)
		switch l {
		case 16:
			times, value = 3+int(s.read(2)), previous
		case 17:
			times = 3 + int(s.read(3))
		default:
			times = 11 + int(s.read(7))
		}
		if i+times > symbols {
			return nil, errCorrupt
		}
		for range times {
			lengths[i] = value
			i++
		}
	}
	if s.overrun() {
		return nil, errTruncated
	}
	return table(lengths)
}
