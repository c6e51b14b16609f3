package jpegscale

import (
	"bytes"
	"encoding/binary"
)

// The entropy coded bytes of a scan are copied through a small window, which stays in the fastest cache, without the zero
// bytes that are stuffed behind each FF: the bit reader then needs to look at no byte twice, and refills eight bytes at a time.
const (
	windowSize = 1 << 13
	windowMask = windowSize - 1
	slack      = 512                  // more than what one block takes: 64 symbols of up to 31 bits, and a refill
	windowFill = windowSize - 2*slack // bytes of the file in the window at most
)

type window [windowSize + 8]byte

// bits is the place in the window. The upper n bits of acc are the next ones; pos is the byte behind them. The bits below n are
// nothing, or those that a refill will bring again. It is passed by value, so that it lives in registers.
type bits struct {
	acc uint64
	n   uint // at most 63
	pos uint
}

// refill makes n at least 56.
func (b bits) refill(w *window) bits {
	i := b.pos & windowMask
	b.acc |= binary.BigEndian.Uint64(w[i:i+8]) >> (b.n & 63)
	b.pos += (63 - b.n) >> 3
	b.n |= 56
	return b
}

// drop takes n bits away, at most 31.
func (b bits) drop(n uint) bits {
	b.acc <<= n & 31
	b.n -= n & 31
	return b
}

// A source is the file and the window over its current stretch of entropy coded bytes.
type source struct {
	data  []byte
	at    int  // what of data has been put into the window or read
	end   uint // bytes in the window
	limit uint // where a block begins behind it, more must be called
	over  bool // data[at:] is a marker, or empty
	win   window
}

// begin starts a stretch at data[at:].
func (s *source) begin() bits {
	s.end, s.over = 0, false
	b, _ := s.more(bits{})
	return b
}

// more fills the window. It returns false when more bits were taken than there are.
func (s *source) more(b bits) (bits, bool) {
	if s.over {
		return b, int(b.pos)*8-int(b.n) <= int(s.end)*8
	}
	// The byte at pos comes along: what of it acc holds already, a refill brings again.
	s.end = uint(copy(s.win[:], s.win[b.pos:s.end]))
	b.pos = 0
	for s.end < windowFill {
		rest := s.data[s.at:]
		if room := windowFill - s.end; uint(len(rest)) > room {
			rest = rest[:room]
		}
		i := bytes.IndexByte(rest, 0xff)
		if i < 0 {
			i = len(rest)
		}
		copy(s.win[s.end:], rest[:i])
		s.end += uint(i)
		s.at += i
		if s.at >= len(s.data) {
			s.over = true
			break
		}
		if i == len(rest) {
			continue // the window is full, or will be
		}
		if s.at+1 >= len(s.data) || s.data[s.at+1] != 0 {
			s.over = true
			break
		}
		s.win[s.end] = 0xff
		s.end++
		s.at += 2
	}
	if s.over {
		clear(s.win[s.end:])
		s.limit = s.end
		return b, true
	}
	s.limit = s.end - slack
	return b, true
}
