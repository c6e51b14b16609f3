// Package pngrows reads PNG files row by row, for a filter that reduces the picture while it is read: beside the file, which the caller holds
// in memory, it takes two rows and the inflater's 160 KiB. It reads every colour type and depth, and interlaced files,
// which have to be put together as a whole first. It is not for keeping files as they are: it gives pixels ready to be
// averaged, colours multiplied by alpha, and no metadata.
package pngrows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A Header is what the first chunk says.
type Header struct {
	Width, Height int
	Depth         int // bits per sample: 1, 2, 4, 8 or 16
	Colour        int // 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha
	Interlaced    bool
}

// samples is how many samples a stored pixel has.
func (h Header) samples() int {
	switch h.Colour {
	case 2:
		return 3
	case 4:
		return 2
	case 6:
		return 4
	}
	return 1
}

// rowBytes is how many bytes a stored row of w pixels takes, without its filter.
func (h Header) rowBytes(w int) int { return (w*h.samples()*h.Depth + 7) / 8 }

// A Reader gives the rows of one file in order. It keeps the file it is made of, and what Row returns is valid until the next call.
type Reader struct {
	Header
	Channels int  // of the rows: 1 grey, 3 RGB, 4 RGB and alpha, colours multiplied by it
	Deep     bool // Row16 has the rows, not Row

	// Stop, if set, is asked now and then while an interlaced picture is put together; its error ends that.
	Stop func() error

	rest    []byte // of the file, behind what is read
	palette [256][4]uint8
	colours int       // of the palette; 0: none
	key     [3]uint16 // this colour is transparent
	keyed   bool
	clear   bool // a pixel was not opaque

	flow       *inflater
	y          int
	row, prior []uint8
	out        []uint8
	out16      []uint16
	spread     []uint8 // samples of less than 8 bits, a byte each
	whole      []uint8 // of an interlaced picture, in stored pixels of a byte at least
	err        error
}

const signature = "\x89PNG\r\n\x1a\n"

// DecodeHeader reads the header of the file data; nothing is allocated.
func DecodeHeader(data []byte) (Header, error) {
	if len(data) < 33 || string(data[:8]) != signature || string(data[12:16]) != "IHDR" || binary.BigEndian.Uint32(data[8:]) != 13 {
		return Header{}, errors.New("pngrows: there is no PNG header")
	}
	if crc32.ChecksumIEEE(data[12:29]) != binary.BigEndian.Uint32(data[29:]) {
		return Header{}, errors.New("pngrows: the header's checksum is wrong")
	}
	w, h := binary.BigEndian.Uint32(data[16:]), binary.BigEndian.Uint32(data[20:])
	if w == 0 || h == 0 || w > 1<<31-1 || h > 1<<31-1 {
		return Header{}, fmt.Errorf("pngrows: the header says %d x %d pixels", w, h)
	}
	head := Header{Width: int(w), Height: int(h), Depth: int(data[24]), Colour: int(data[25]), Interlaced: data[28] == 1}
	valid := false
	switch head.Colour {
	case 0:
		valid = head.Depth == 1 || head.Depth == 2 || head.Depth == 4 || head.Depth == 8 || head.Depth == 16
	case 3:
		valid = head.Depth == 1 || head.Depth == 2 || head.Depth == 4 || head.Depth == 8
	case 2, 4, 6:
		valid = head.Depth == 8 || head.Depth == 16
	}
	if !valid {
		return Header{}, fmt.Errorf("pngrows: the header says colour type %d with %d bits, which PNG does not have", head.Colour, head.Depth)
	}
	if data[26] != 0 || data[27] != 0 || data[28] > 1 {
		return Header{}, fmt.Errorf("pngrows: the header says compression %d, filter %d, interlace %d, which PNG does not have", data[26], data[27], data[28])
	}
	return head, nil
}

// NewReader reads all chunks before the pixels. The caller has checked the header's size: an interlaced picture is allocated as a whole by the first Row.
func NewReader(data []byte) (*Reader, error) {
	head, err := DecodeHeader(data)
	if err != nil {
		return nil, err
	}
	r := &Reader{Header: head, rest: data[33:], Deep: head.Depth == 16}
	for {
		kind, payload, err := r.chunk()
		if err != nil {
			return nil, err
		}
		switch kind {
		case "PLTE":
			err = r.readPalette(payload)
		case "tRNS":
			err = r.readTransparency(payload)
		case "IHDR":
			err = errors.New("pngrows: there is a second header")
		case "IEND":
			err = errors.New("pngrows: there are no pixels")
		case "IDAT":
			if r.Colour == 3 && r.colours == 0 {
				return nil, errors.New("pngrows: there is no palette")
			}
			r.start(payload)
			return r, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// chunk reads one:  length(4) kind(4) payload crc(4, of kind and payload)
func (r *Reader) chunk() (kind string, payload []byte, err error) {
	if len(r.rest) < 12 {
		return "", nil, errors.New("pngrows: the file is cut short")
	}
	n := uint64(binary.BigEndian.Uint32(r.rest))
	if n+12 > uint64(len(r.rest)) {
		return "", nil, errors.New("pngrows: the file is cut short")
	}
	body := r.rest[4 : 8+n]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(r.rest[8+n:]) {
		return "", nil, fmt.Errorf("pngrows: the checksum of a chunk %q is wrong", body[:4])
	}
	r.rest = r.rest[12+n:]
	return string(body[:4]), body[4:], nil
}

func (r *Reader) readPalette(p []byte) error {
	if r.colours > 0 || len(p) == 0 || len(p)%3 != 0 || len(p) > 3*256 {
		return errors.New("pngrows: the palette is wrong")
	}
	if r.Colour == 0 || r.Colour == 4 {
		return errors.New("pngrows: a grey picture has a palette")
	}
	r.colours = len(p) / 3
	if r.Colour == 3 && r.colours > 1<<r.Depth {
		return errors.New("pngrows: the palette is too long")
	}
	for i := range r.palette { // an index beyond the palette is black
		r.palette[i] = [4]uint8{0, 0, 0, 255}
		if i < r.colours {
			copy(r.palette[i][:3], p[3*i:])
		}
	}
	return nil
}

func (r *Reader) readTransparency(p []byte) error {
	wrong := errors.New("pngrows: the transparency is wrong")
	switch r.Colour {
	case 3:
		if r.colours == 0 || len(p) > r.colours {
			return wrong
		}
		for i, a := range p {
			c := &r.palette[i]
			r.keyed = r.keyed || a < 255
			c[0], c[1], c[2], c[3] = times(c[0], a), times(c[1], a), times(c[2], a), a
		}
	case 0, 2:
		n := r.samples()
		if len(p) != 2*n {
			return wrong
		}
		for i := range n {
			r.key[i] = binary.BigEndian.Uint16(p[2*i:])
		}
		r.keyed = true
	default:
		return wrong
	}
	return nil
}

// start has the pixels begin with the payload first of a chunk IDAT.
func (r *Reader) start(first []byte) {
	switch {
	case r.Colour == 4 || r.Colour == 6 || r.keyed:
		r.Channels = 4
	case r.Colour == 0:
		r.Channels = 1
	default:
		r.Channels = 3
	}
	r.flow = newInflater(func() []byte {
		if first != nil {
			piece := first
			first = nil
			if len(piece) > 0 {
				return piece
			}
		}
		for len(r.rest) >= 8 && string(r.rest[4:8]) == "IDAT" {
			_, payload, err := r.chunk()
			if err != nil {
				r.err = err
				return nil
			}
			if len(payload) > 0 {
				return payload
			}
		}
		return nil
	}, 1+r.rowBytes(r.Width))
}

// Opaque tells whether every pixel of the rows read so far was opaque.
func (r *Reader) Opaque() bool { return !r.clear }

// Row returns the next row, of Width times Channels samples. There are Height, and Row is not asked for more. An error
// comes again with every further call.
func (r *Reader) Row() ([]uint8, error) {
	stored, err := r.stored()
	if err != nil {
		return nil, err
	}
	return r.expand(stored), nil
}

// Row16 is Row for a Deep picture.
func (r *Reader) Row16() ([]uint16, error) {
	stored, err := r.stored()
	if err != nil {
		return nil, err
	}
	return r.expand16(stored), nil
}

// stored returns the next row as it is stored.
func (r *Reader) stored() ([]uint8, error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.Interlaced {
		if r.whole == nil {
			if r.err = r.assemble(); r.err != nil {
				return nil, r.err
			}
		}
		n := len(r.whole) / r.Height
		row := r.whole[r.y*n:][:n]
		r.y++
		return row, nil
	}
	if r.row == nil {
		if err := r.begin(r.rowBytes(r.Width)); err != nil {
			return nil, err
		}
	}
	row, err := r.next(r.rowBytes(r.Width))
	if err != nil {
		return nil, err
	}
	if r.y++; r.y == r.Height {
		if err := r.end(); err != nil {
			return nil, err
		}
	}
	return row, nil
}

// fail keeps the first error: that of a chunk says more than that of the inflater which lacks it.
func (r *Reader) fail(err error) error {
	if r.err == nil {
		r.err = fmt.Errorf("pngrows: %w", err)
	}
	return r.err
}

func (r *Reader) begin(most int) error {
	r.row, r.prior = make([]uint8, most), make([]uint8, most)
	if err := r.flow.begin(); err != nil {
		return r.fail(err)
	}
	return nil
}

// next inflates and unfilters a row of n bytes; r.prior is the one before.
func (r *Reader) next(n int) ([]uint8, error) {
	raw, err := r.flow.take(1 + n)
	if err == nil && raw == nil {
		err = errTruncated
	}
	if err != nil {
		return nil, r.fail(err)
	}
	row := r.row[:n]
	if !unfilter(raw[0], row, raw[1:], r.prior, max(r.samples()*r.Depth/8, 1)) {
		return nil, r.fail(fmt.Errorf("row %d has filter %d, which PNG does not have", r.y, raw[0]))
	}
	r.row, r.prior = r.prior, r.row
	return row, nil
}

// end sees to it that the file ends where it should: one that goes on, or is cut short behind the last row, is damaged. The checksum
// at the end of the compressed data is not looked at: each chunk has its own.
func (r *Reader) end() error {
	more, err := r.flow.take(1)
	if err != nil {
		return r.fail(err)
	}
	if more != nil {
		return r.fail(errors.New("there are more pixels than the header says"))
	}
	for {
		kind, _, err := r.chunk()
		if err != nil {
			r.err = err
			return err
		}
		if kind == "IEND" {
			return nil
		}
	}
}
