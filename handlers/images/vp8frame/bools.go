package vp8frame

import (
	"encoding/binary"
	"math/bits"
)

// A bools reads the arithmetic code of a partition (RFC 6386, section 7): the next bits stand at the top of value, 64 at a time.
type bools struct {
	data  []byte
	value uint64
	width uint32 // of the interval, 128 to 255
	have  int    // how many bits of value are there
	past  int    // bits that were made up behind the end
}

func newBools(data []byte) bools { return bools{data: data, width: 255} }

// fill brings 56 bits at least. Behind the end there are zeros, which overrun tells.
func (b *bools) fill() {
	if len(b.data) >= 8 {
		b.value |= binary.BigEndian.Uint64(b.data) >> (b.have & 63) // what is behind the whole bytes comes again, as the same
		n := (63 - b.have) >> 3
		b.data = b.data[n:]
		b.have += 8 * n
		return
	}
	for b.have <= 56 {
		v := uint64(0)
		if len(b.data) > 0 {
			v = uint64(b.data[0])
			b.data = b.data[1:]
		} else {
			b.past += 8
		}
		b.value |= v << (56 - b.have)
		b.have += 8
	}
}

// overrun tells whether bits were used that are not there.
func (b *bools) overrun() bool { return b.past > b.have }

// step decides one bool whose probability to be false is p, of 256.
func step(value uint64, width uint32, p uint8) (v uint64, w uint32, used int, yes bool) {
	split := 1 + ((width-1)*uint32(p))>>8
	if big := uint64(split) << 56; value >= big {
		value, width, yes = value-big, width-split, true
	} else {
		width = split
	}
	used = bits.LeadingZeros32(width) - 24
	return value << (used & 63), width << (used & 31), used, yes
}

func (b *bools) bit(p uint8) bool {
	if b.have < 16 {
		b.fill()
	}
	v, w, used, yes := step(b.value, b.width, p)
	b.value, b.width = v, w
	b.have -= used
	return yes
}

func (b *bools) one(p uint8) int {
	if b.bit(p) {
		return 1
	}
	return 0
}

// number is n bits that are as likely as not.
func (b *bools) number(n int) int {
	v := 0
	for range n {
		v = v<<1 | b.one(128)
	}
	return v
}

// optional is a number of n bits with a sign, if there is one.
func (b *bools) optional(n int) int {
	if !b.bit(128) {
		return 0
	}
	v := b.number(n)
	if b.bit(128) {
		return -v
	}
	return v
}
