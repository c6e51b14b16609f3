package jpegwrite

import (
	"encoding/binary"
	"io"
)

// piece is how much is gathered before it is written.
const piece = 32 << 10

// output gathers segments and the bits of scans, in which each FF is followed by 00.
type output struct {
	w   io.Writer
	buf []byte
	acc uint64 // its lowest n bits wait
	n   uint
	err error
}

func (o *output) raw(p []byte) {
	o.buf = append(o.buf, p...)
	if len(o.buf) >= piece {
		o.flush()
	}
}

func (o *output) marker(m byte) { o.raw([]byte{0xff, m}) }

func (o *output) segment(m byte, payload ...byte) {
	o.marker(m)
	o.raw(binary.BigEndian.AppendUint16(nil, uint16(2+len(payload))))
	o.raw(payload)
}

// put adds the lowest size bits of v, of which the others are 0; size is at most 32.
func (o *output) put(v uint32, size uint) {
	o.acc = o.acc<<size | uint64(v)
	o.n += size
	if o.n >= 32 {
		o.drain()
	}
}

// drain moves 32 bits into the buffer.
func (o *output) drain() {
	o.n -= 32
	word := uint32(o.acc >> o.n)
	if word&0x80808080&(word+0x01010101)^word&0x80808080 == 0 { // no byte is FF: none of those with the highest bit loses it by one more
		o.buf = binary.BigEndian.AppendUint32(o.buf, word)
	} else {
		for shift := 24; shift >= 0; shift -= 8 {
			o.stuffed(byte(word >> shift))
		}
	}
	if len(o.buf) >= piece {
		o.flush()
	}
}

func (o *output) stuffed(b byte) {
	o.buf = append(o.buf, b)
	if b == 0xff {
		o.buf = append(o.buf, 0)
	}
}

// align ends a scan: the last byte is filled with ones.
func (o *output) align() {
	if o.n%8 != 0 {
		fill := 8 - o.n%8
		o.put(1<<fill-1, fill)
	}
	for o.n > 0 {
		o.n -= 8
		o.stuffed(byte(o.acc >> o.n))
	}
	o.acc = 0
}

func (o *output) flush() {
	if o.err == nil {
		_, o.err = o.w.Write(o.buf)
	}
	o.buf = o.buf[:0]
}

func (o *output) finish() error {
	o.flush()
	return o.err
}
