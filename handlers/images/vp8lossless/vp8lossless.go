// Package vp8lossless decodes a lossless WebP (VP8L), or the alpha of a lossy one, for a filter that takes its rows one by one: the pixels are kept as they are
// stored, four bytes each, and the transforms are undone row by row. It decodes what golang.org/x/image/vp8l does, in less
// time and half of the memory. It knows no containers.
package vp8lossless

import "errors"

// A Picture is decoded but for its transforms.
type Picture struct {
	W, H  int
	Alpha bool // the file says that it has transparency

	pix        []uint32
	w          int // of pix
	transforms []transform
	y          int
}

// Decode decodes a file's payload. Stop is asked now and then; its error ends the decoding. The caller has checked the size.
func Decode(data []byte, stop func() error) (*Picture, error) {
	w, h, alpha, err := DecodeHeader(data)
	if err != nil {
		return nil, err
	}
	return DecodeBody(data[5:], w, h, alpha, stop)
}

// DecodeHeader reads the size:  2F width-1(14 bits) height-1(14 bits) alpha(1) version(3)
func DecodeHeader(data []byte) (w, h int, alpha bool, err error) {
	if len(data) < 5 {
		return 0, 0, false, errTruncated
	}
	v := uint32(data[1]) | uint32(data[2])<<8 | uint32(data[3])<<16 | uint32(data[4])<<24
	if data[0] != 0x2f || v>>29 != 0 {
		return 0, 0, false, errors.New("vp8lossless: there is no header")
	}
	return int(v&0x3fff) + 1, int(v>>14&0x3fff) + 1, v>>28&1 != 0, nil
}

// DecodeBody is Decode without the header.
func DecodeBody(data []byte, w, h int, alpha bool, stop func() error) (*Picture, error) {
	p := &Picture{W: w, H: h, Alpha: alpha, w: w}
	s := &source{data: data}
	seen := [4]bool{}
	for s.read(1) == 1 {
		t := transform{kind: int(s.read(2)), w: p.w}
		if seen[t.kind] {
			return nil, errCorrupt
		}
		seen[t.kind] = true
		var err error
		switch t.kind {
		case predictor, crossColour:
			t.bits = uint(s.read(3)) + 2
			t.tiles, err = s.pixels(tiles(p.w, t.bits), tiles(h, t.bits), false, stop)
		case indexed:
			n := int(s.read(8)) + 1
			switch {
			case n <= 2:
				t.bits = 3
			case n <= 4:
				t.bits = 2
			case n <= 16:
				t.bits = 1
			}
			t.tiles, err = s.pixels(n, 1, false, stop)
			for i := 1; i < len(t.tiles); i++ {
				t.tiles[i] = add(t.tiles[i], t.tiles[i-1])
			}
			if err == nil {
				t.tiles = append(t.tiles, make([]uint32, 256-n)...)
			}
			p.w = tiles(p.w, t.bits)
		}
		if err != nil {
			return nil, err
		}
		t.row = make([]uint32, t.w+1)
		p.transforms = append(p.transforms, t)
	}
	var err error
	p.pix, err = s.pixels(p.w, h, true, stop)
	return p, err
}

// Rewind has the rows begin again.
func (p *Picture) Rewind() { p.y = 0 }

// Row returns the next row, valid until the next call: of each pixel alpha, red, green and blue, from the highest byte down. There are H.
func (p *Picture) Row() []uint32 {
	row := p.pix[p.y*p.w:][:p.w]
	for i := len(p.transforms) - 1; i >= 0; i-- {
		row = p.transforms[i].undo(p.y, row)
	}
	p.y++
	return row
}
