package pngrows

import (
	"encoding/binary"
	"errors"
)

// Inflating takes most of the time of a PNG, and the standard library's inflater gives a byte at a time through a window of 32 KiB. This one
// reads from memory 8 bytes at a time, takes up to three literals by one look at a table, and writes where the rows are then read from.
const (
	window   = 32 << 10
	ahead    = 128 << 10 // how much is inflated at a time
	slack    = 3*3 + 258 + 16
	inBuffer = 64 << 10
	inPad    = 64 // zeros behind the last byte: the loop reads 8 at a time
)

var (
	errTruncated = errors.New("the compressed data are cut short")
	errCorrupt   = errors.New("the compressed data are corrupt")
)

// An inflater turns the bytes of source into those that were compressed. out[read:written] are there to be taken.
type inflater struct {
	source func() []byte // the next piece; nil: no more
	piece  []byte

	in           []byte
	inPos, inEnd int // inEnd includes the pad
	realEnd      int // -1: there may be more
	bits         uint64
	nbits        uint

	out           []byte
	read, written int

	inBlock  bool // of Huffman codes
	stored   int  // bytes left of a stored block
	final    bool
	finished bool

	tables tables
}

// newInflater makes one whose take can be asked for up to most bytes.
func newInflater(source func() []byte, most int) *inflater {
	return &inflater{
		source: source, in: make([]byte, inBuffer+inPad), realEnd: -1,
		out: make([]byte, window+ahead+most+slack),
	}
}

// begin reads zlib's header:  method(4 bits, 8) window(4 bits) flags; both as one number divide by 31
func (f *inflater) begin() error {
	f.load()
	f.refill()
	head := uint(f.bits & 0xffff)
	f.drop(16)
	cmf, flags := head&0xff, head>>8
	if f.overrun() {
		return errTruncated
	}
	if cmf&15 != 8 || cmf>>4 > 7 || (cmf<<8|flags)%31 != 0 || flags&0x20 != 0 {
		return errors.New("the compressed data have no zlib header")
	}
	return nil
}

// take returns the next n bytes, valid until the next call. At the end of the data it returns nil and no error.
func (f *inflater) take(n int) ([]byte, error) {
	for f.written-f.read < n {
		if f.finished {
			if f.written == f.read {
				return nil, nil
			}
			return nil, errTruncated
		}
		if f.written > len(f.out)-slack-ahead/2 {
			f.slide()
		}
		if err := f.inflate(); err != nil {
			return nil, err
		}
	}
	b := f.out[f.read : f.read+n]
	f.read += n
	return b, nil
}

// slide makes room: what is still to be taken stays, and what matches may reach back to.
func (f *inflater) slide() {
	keep := max(min(f.read, f.written-window), 0)
	copy(f.out, f.out[keep:f.written])
	f.read -= keep
	f.written -= keep
}

// load moves what is left of the input to the front and fills up behind it. The last 8 bytes that were read stay too: of them a
// stored block may want back what was read ahead.
func (f *inflater) load() {
	if f.realEnd >= 0 {
		return
	}
	keep := max(f.inPos-8, 0)
	n := copy(f.in, f.in[keep:f.inEnd])
	f.inPos -= keep
	for n < inBuffer {
		if len(f.piece) == 0 {
			if f.piece = f.source(); f.piece == nil {
				f.realEnd = n
				clear(f.in[n : n+inPad])
				n += inPad
				break
			}
		}
		c := copy(f.in[n:inBuffer], f.piece)
		f.piece = f.piece[c:]
		n += c
	}
	f.inEnd = n
}

// refill brings at least 56 bits, if there are 8 bytes left.
func (f *inflater) refill() {
	if f.inPos > f.inEnd-8 {
		f.load()
		if f.inPos > f.inEnd-8 {
			return
		}
	}
	f.bits |= binary.LittleEndian.Uint64(f.in[f.inPos:]) << (f.nbits & 63)
	f.inPos += int((63 - f.nbits) >> 3)
	f.nbits |= 56
}

func (f *inflater) drop(n uint) {
	f.bits >>= n & 63
	f.nbits -= n
}

// overrun tells whether bits were used that are not there.
func (f *inflater) overrun() bool {
	return int(f.nbits) < 0 || f.realEnd >= 0 && f.inPos-int(f.nbits>>3) > f.realEnd
}

// inflate writes more, until there is no room or no input without another look at both.
func (f *inflater) inflate() error {
	switch {
	case f.stored > 0:
		return f.copyStored()
	case f.inBlock:
		return f.codes()
	case f.final:
		f.finished = true
		return nil
	}
	f.refill()
	if f.nbits < 3 {
		return errTruncated
	}
	f.final = f.bits&1 != 0
	kind := f.bits >> 1 & 3
	f.drop(3)
	switch kind {
	case 0:
		f.drop(f.nbits & 7)
		f.refill()
		length := uint16(f.bits)
		if uint16(f.bits>>16) != ^length {
			return errCorrupt
		}
		f.drop(32)
		// The bytes that were read ahead go back.
		f.inPos -= int(f.nbits >> 3)
		f.bits, f.nbits = 0, 0
		f.stored = int(length)
	case 1:
		f.tables.fixed()
		f.inBlock = true
	case 2:
		if err := f.lengths(); err != nil {
			return err
		}
		f.inBlock = true
	default:
		return errCorrupt
	}
	if f.overrun() {
		return errTruncated
	}
	return nil
}

func (f *inflater) copyStored() error {
	end := f.inEnd
	if f.realEnd >= 0 {
		end = f.realEnd
	}
	if f.inPos >= end {
		if f.realEnd >= 0 {
			return errTruncated
		}
		f.load()
		return nil
	}
	n := min(f.stored, end-f.inPos, len(f.out)-slack-f.written)
	copy(f.out[f.written:], f.in[f.inPos:f.inPos+n])
	f.written += n
	f.inPos += n
	f.stored -= n
	return nil
}

// lengthOrder is the order in which the lengths of the code for lengths come.
var lengthOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// lengths reads the codes of a dynamic block:  nlit(5) ndist(5) nlen(4) lengths(3 each) coded lengths
func (f *inflater) lengths() error {
	f.refill()
	nlit, ndist, nlen := int(f.bits&31)+257, int(f.bits>>5&31)+1, int(f.bits>>10&15)+4
	f.drop(14)
	if nlit > 286 || ndist > 30 {
		return errCorrupt
	}
	var small [19]uint8
	for i := range nlen {
		if f.nbits < 3 {
			f.refill()
		}
		small[lengthOrder[i]] = uint8(f.bits & 7)
		f.drop(3)
	}
	t := &f.tables
	if !build(t.pre[:], preBits, small[:], preEntry) {
		return errCorrupt
	}
	var all [286 + 30 + 138]uint8
	for i := 0; i < nlit+ndist; {
		f.refill()
		e := t.pre[f.bits&(1<<preBits-1)]
		if e&invalid != 0 || f.overrun() {
			return errCorrupt
		}
		f.drop(uint(e & 63))
		symbol := e >> 16
		if symbol < 16 {
			all[i] = uint8(symbol)
			i++
			continue
		}
		value, times := uint8(0), 0
		switch symbol {
		case 16:
			if i == 0 {
				return errCorrupt
			}
			value, times = all[i-1], 3+int(f.bits&3)
			f.drop(2)
		case 17:
			times = 3 + int(f.bits&7)
			f.drop(3)
		default:
			times = 11 + int(f.bits&127)
			f.drop(7)
		}
		for range times {
			all[i] = value
			i++
		}
		if i > nlit+ndist {
			return errCorrupt
		}
	}
	if all[256] == 0 || !build(t.lit[:], litBits, all[:nlit], litEntry) || !build(t.dist[:], distBits, all[nlit:nlit+ndist], distEntry) {
		return errCorrupt
	}
	t.pairs()
	t.isFixed = false
	return nil
}

// codes writes what the codes of the block say, as long as there are 8 bytes of input and room for the longest match.
func (f *inflater) codes() error {
	if f.inPos > f.inEnd-8 {
		f.load()
		if f.inPos > f.inEnd-8 {
			return errTruncated
		}
	}
	var (
		t     = &f.tables
		in    = f.in[:f.inEnd]
		out   = f.out
		pos   = f.inPos
		w     = f.written
		bits  = f.bits
		nbits = f.nbits
		most  = len(out) - slack
		err   error
	)
	for pos <= len(in)-8 && w <= most {
		bits |= binary.LittleEndian.Uint64(in[pos:]) << (nbits & 63)
		pos += int((63 - nbits) >> 3)
		nbits |= 56
		e := t.lit[bits&(1<<litBits-1)]
		if e&literals != 0 {
			binary.LittleEndian.PutUint32(out[w:], e>>8)
			w += int(e >> 6 & 3)
			bits >>= e & 63
			nbits -= uint(e & 63)
			e = t.lit[bits&(1<<litBits-1)]
			if e&literals != 0 {
				binary.LittleEndian.PutUint32(out[w:], e>>8)
				w += int(e >> 6 & 3)
				bits >>= e & 63
				nbits -= uint(e & 63)
				e = t.lit[bits&(1<<litBits-1)]
				if e&literals != 0 {
					binary.LittleEndian.PutUint32(out[w:], e>>8)
					w += int(e >> 6 & 3)
					bits >>= e & 63
					nbits -= uint(e & 63)
					continue
				}
			}
			// At most 22 bits are gone: of the 34 left a length takes 20, so a match needs more.
			if pos <= len(in)-8 {
				bits |= binary.LittleEndian.Uint64(in[pos:]) << (nbits & 63)
				pos += int((63 - nbits) >> 3)
				nbits |= 56
			} else {
				continue
			}
		}
		if e&(longer|invalid|endOfBlock) != 0 {
			if e&longer != 0 {
				e = t.lit[(e>>16+uint32(bits>>litBits)&(1<<(e>>8&15)-1))&(1<<litTotal-1)]
				if e&literals != 0 {
					out[w] = uint8(e >> 8)
					w++
					bits >>= e & 63
					nbits -= uint(e & 63)
					continue
				}
			}
			if e&endOfBlock != 0 {
				bits >>= e & 63
				nbits -= uint(e & 63)
				f.inBlock = false
				break
			}
			if e&invalid != 0 {
				err = errCorrupt
				break
			}
		}
		bits >>= e & 63
		nbits -= uint(e & 63)
		extra := e >> 8 & 15
		length := int(e>>16) + int(bits&(1<<extra-1))
		bits >>= extra
		nbits -= uint(extra)

		e = t.dist[bits&(1<<distBits-1)]
		if e&(longer|invalid) != 0 {
			if e&longer != 0 {
				e = t.dist[(e>>16+uint32(bits>>distBits)&(1<<(e>>8&15)-1))&(1<<distTotal-1)]
			}
			if e&invalid != 0 {
				err = errCorrupt
				break
			}
		}
		bits >>= e & 63
		nbits -= uint(e & 63)
		extra = e >> 8 & 15
		distance := int(e>>16) + int(bits&(1<<extra-1))
		bits >>= extra
		nbits -= uint(extra)
		if distance > w {
			err = errCorrupt
			break
		}
		from := w - distance
		switch {
		case distance >= 8 && length <= 16:
			binary.LittleEndian.PutUint64(out[w:], binary.LittleEndian.Uint64(out[from:]))
			binary.LittleEndian.PutUint64(out[w+8:], binary.LittleEndian.Uint64(out[from+8:]))
			w += length
		case distance >= length:
			copy(out[w:w+length], out[from:from+length])
			w += length
		default: // it repeats itself
			end := w + length
			for step := distance; step < 8; step += distance {
				for i := range distance {
					out[w+i] = out[from+i]
				}
				w += distance
			}
			for ; w < end; w += 8 {
				binary.LittleEndian.PutUint64(out[w:], binary.LittleEndian.Uint64(out[from:]))
				from += 8
			}
			w = end
		}
	}
	f.inPos, f.written, f.bits, f.nbits = pos, w, bits, nbits
	if err == nil && f.overrun() {
		err = errTruncated
	}
	return err
}
