// Package jpegwrite writes JPEG files: baseline or progressive, grey or Y, Cb and Cr planes at their own sizes,
// always with Huffman tables made for the picture. What it writes is what libjpeg writes of the same planes at the
// same quality with optimize on: its tables for quantisation, its accurate integer transform, its script of scans.
// It converts no colours and knows no image.Image; package images hands it planes.
package jpegwrite

import (
	"errors"
	"fmt"
	"io"
)

// A Sampling says how many luma samples share a sample of the two chroma planes.
type Sampling int

const (
	S444 Sampling = iota // one
	S422                 // two side by side
	S440                 // two above each other
	S420                 // four in a square
)

// MaxSide is what the format can count.
const MaxSide = 65535

// maxQuality is the finest quality.
const maxQuality = 100

// keep is how many bytes of coefficients are held between the passes over a picture. Those of a larger one are made
// anew from its samples for each pass: more work, no more memory.
const keep = 64 << 20

// A Picture is what is written: one plane (grey) or three (Y, Cb, Cr in full range, as JFIF wants them). A chroma plane has
// as many samples as the sampling makes of the luma plane's, rounded up. Nothing is kept or changed after Encode returned.
type Picture struct {
	W, H     int
	Planes   []Plane
	Sampling Sampling // of three planes
}

// A Plane is samples in rows, Stride apart.
type Plane struct {
	Pix    []uint8
	Stride int
}

// Options are how it is written.
type Options struct {
	Quality     int  // 1 to 100, the scale of libjpeg
	Progressive bool // in ten scans (grey: six)

	// Segments stand behind the JFIF header: whole marker segments such as EXIF (APP1) and ICC profiles (APP2).
	Segments []byte
}

// Encode writes the picture to w, in pieces of about 32 KB. It returns the first error of w as it is, and refuses a picture or
// options that cannot be before it writes a byte.
func Encode(w io.Writer, p Picture, o Options) error {
	e, err := newEncoder(w, p, o)
	if err != nil {
		return err
	}
	if err := e.encode(); err != nil {
		return err
	}
	return e.out.finish()
}

func (e *encoder) encode() error {
	e.header(e.options)
	if e.options.Progressive {
		e.progressive()
	} else {
		e.baseline()
	}
	e.out.marker(0xd9)
	return e.out.err
}

type encoder struct {
	out        output
	options    Options
	w, h       int
	hmax, vmax int
	mcusX      int // of interleaved scans
	mcusY      int
	comps      []component
}

func newEncoder(w io.Writer, p Picture, o Options) (*encoder, error) {
	switch {
	case p.W < 1 || p.H < 1 || p.W > MaxSide || p.H > MaxSide:
		return nil, fmt.Errorf("jpegwrite: a picture of %d x %d pixels, want 1 to %d each way", p.W, p.H, MaxSide)
	case len(p.Planes) != 1 && len(p.Planes) != 3:
		return nil, fmt.Errorf("jpegwrite: %d planes, want 1 or 3", len(p.Planes))
	case o.Quality < 1 || o.Quality > maxQuality:
		return nil, fmt.Errorf("jpegwrite: quality %d, want 1 to %d", o.Quality, maxQuality)
	}
	e := &encoder{options: o, w: p.W, h: p.H, hmax: 1, vmax: 1}
	if len(p.Planes) == 3 {
		switch p.Sampling {
		case S444:
		case S422:
			e.hmax = 2
		case S440:
			e.vmax = 2
		case S420:
			e.hmax, e.vmax = 2, 2
		default:
			return nil, fmt.Errorf("jpegwrite: sampling %d is none", p.Sampling)
		}
	}
	e.mcusX, e.mcusY = ceilDiv(p.W, 8*e.hmax), ceilDiv(p.H, 8*e.vmax)
	blocks := 0
	for i, plane := range p.Planes {
		c := component{plane: plane, w: p.W, h: p.H, hs: e.hmax, vs: e.vmax}
		if i > 0 {
			c.w, c.h, c.hs, c.vs, c.table = ceilDiv(p.W, e.hmax), ceilDiv(p.H, e.vmax), 1, 1, 1
		}
		if plane.Stride < c.w || len(plane.Pix) < (c.h-1)*plane.Stride+c.w {
			return nil, errors.New("jpegwrite: a plane is smaller than its picture")
		}
		c.bw, c.bh = ceilDiv(c.w, 8), ceilDiv(c.h, 8)
		c.quantise(o.Quality)
		blocks += c.bw * c.bh
		e.comps = append(e.comps, c)
	}
	for i := range e.comps {
		e.comps[i].hold(blocks*blockBytes <= keep)
	}
	e.out.w = w
	return e, nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// header is everything before the first scan.
func (e *encoder) header(o Options) {
	out := &e.out
	out.marker(0xd8)
	out.segment(0xe0, 'J', 'F', 'I', 'F', 0, 1, 1, 0, 0, 1, 0, 1, 0, 0)
	out.raw(o.Segments)
	for table := range min(len(e.comps), 2) {
		dqt := make([]byte, 65)
		dqt[0] = byte(table)
		for k, natural := range zigzag {
			dqt[1+k] = e.comps[table].steps[natural]
		}
		out.segment(0xdb, dqt...)
	}
	sof := byte(0xc0)
	if o.Progressive {
		sof = 0xc2
	}
	frame := []byte{8, byte(e.h >> 8), byte(e.h), byte(e.w >> 8), byte(e.w), byte(len(e.comps))}
	for i, c := range e.comps {
		frame = append(frame, byte(i+1), byte(c.hs<<4|c.vs), byte(c.table))
	}
	out.segment(sof, frame...)
}

// startScan writes the header of a scan of the components first to last and of coefficients from to to; ah and al are the
// bits of them that were sent before and will be afterwards.
func (e *encoder) startScan(first, last, from, to, ah, al int) {
	sos := []byte{byte(last - first + 1)}
	for i := first; i <= last; i++ {
		t := byte(e.comps[i].table)
		switch {
		case e.options.Progressive && from > 0: // no table for DC, and the other way round
			sos = append(sos, byte(i+1), t)
		case e.options.Progressive && ah > 0:
			sos = append(sos, byte(i+1), 0)
		case e.options.Progressive:
			sos = append(sos, byte(i+1), t<<4)
		default:
			sos = append(sos, byte(i+1), t<<4|t)
		}
	}
	e.out.segment(0xda, append(sos, byte(from), byte(to), byte(ah<<4|al))...)
}
