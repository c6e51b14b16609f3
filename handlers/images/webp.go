package images

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/stalkworker/stalk/handlers/images/vp8frame"
	"github.com/stalkworker/stalk/handlers/images/vp8lossless"
)

// roughFrom is the reduction from which on a lossy WebP is not smoothed: what the loop filter takes from one side of an edge it gives to the other, and
// the thumbnails are the same to 55 dB and more, at the lowest qualities to 50.
const roughFrom = 6

// webpChunks finds the lossy frame and its alpha, or the lossless picture, among the chunks:  kind(4) length(4, the lowest byte first) payload, filled up to an even length
func webpChunks(data []byte) (frame, alpha, lossless []byte) {
	rest := data[min(12, len(data)):]
	for len(rest) >= 8 {
		n := uint64(binary.LittleEndian.Uint32(rest[4:]))
		if n > uint64(len(rest)-8) {
			break
		}
		kind, payload := string(rest[:4]), rest[8:8+n]
		switch kind {
		case "VP8 ":
			return payload, alpha, nil
		case "VP8L":
			return nil, nil, payload
		case "ALPH":
			alpha = payload
		}
		rest = rest[min(8+n+n%2, uint64(len(rest))):]
	}
	return nil, nil, nil
}

// webpPicture decodes a WebP. It returns nil and no error if there is no picture in it, or an animation.
func webpPicture(ctx context.Context, data []byte, i info, want size) (*picture, error) {
	frame, hidden, lossless := webpChunks(data)
	switch {
	case lossless != nil:
		return losslessPicture(ctx, lossless, i)
	case frame == nil:
		return nil, nil
	}
	w, h, err := vp8frame.DecodeHeader(frame)
	if err != nil {
		return nil, err
	}
	if (size{w, h}) != i.size {
		return nil, errors.New("the frame has another size than the file")
	}
	var alpha []uint8
	if hidden != nil {
		if alpha, err = webpAlpha(ctx, hidden, i.size); err != nil {
			return nil, err
		}
	}
	smooth := i.w < roughFrom*want.w || i.h < roughFrom*want.h
	planes, err := vp8frame.Decode(frame, smooth, func() error { return context.Cause(ctx) })
	if err != nil {
		return nil, err
	}
	p := &picture{size: i.size}
	if alpha != nil {
		p.planes = p.rows(modelRGBA, 4, func(y int, row []uint8) {
			videoRow(row, planes[0].Row(y), planes[1].Row(y/2), planes[2].Row(y/2), alpha[y*p.w:][:p.w])
		})
		return p, nil
	}
	p.model, p.video = modelYCbCr, true
	for n := range planes {
		to, per := i.size, 1.0
		if n > 0 {
			to, per = size{(i.w + 1) / 2, (i.h + 1) / 2}, 2
		}
		p.planes = append(p.planes, plane{
			w: to.w, h: to.h, channels: 1, perX: per, perY: per,
			row: func(y int, _ []uint8) []uint8 { return planes[n].Row(y)[:to.w] },
		})
	}
	return p, nil
}

// losslessPicture is a picture whose rows are made of what is stored by each pass.
func losslessPicture(ctx context.Context, data []byte, i info) (*picture, error) {
	w, h, _, err := vp8lossless.DecodeHeader(data)
	if err != nil {
		return nil, err
	}
	if (size{w, h}) != i.size {
		return nil, errors.New("the picture has another size than the file")
	}
	stored, err := vp8lossless.Decode(data, func() error { return context.Cause(ctx) })
	if err != nil {
		return nil, err
	}
	r := &losslessRows{stored: stored, channels: 3}
	p := &picture{size: i.size, model: modelRGB}
	if stored.Alpha {
		p.model, r.channels = modelRGBA, 4
		p.opaque = func() bool { return !r.clear }
	}
	r.row = make([]uint8, i.w*r.channels)
	p.planes = []plane{{
		w: p.w, h: p.h, channels: r.channels, perX: 1, perY: 1,
		open: func() (rows, error) {
			stored.Rewind()
			return r, nil
		},
	}}
	return p, nil
}

type losslessRows struct {
	stored   *vp8lossless.Picture
	channels int
	clear    bool // a pixel was not opaque
	row      []uint8
}

func (l *losslessRows) next() ([]uint8, []uint16, error) {
	row := l.row
	if l.channels == 3 {
		for _, v := range l.stored.Row() {
			row[0], row[1], row[2] = uint8(v>>16), uint8(v>>8), uint8(v)
			row = row[3:]
		}
		return l.row, nil, nil
	}
	for _, v := range l.stored.Row() {
		a := uint8(v >> 24)
		if px := row[:4]; a == 255 {
			px[0], px[1], px[2], px[3] = uint8(v>>16), uint8(v>>8), uint8(v), 255
		} else {
			premultiply(px, uint8(v>>16), uint8(v>>8), uint8(v), a)
			l.clear = true
		}
		row = row[4:]
	}
	return l.row, nil, nil
}

// webpAlpha reads the chunk ALPH:  flags data. Of the flags, from below: compression(2) filter(2).
func webpAlpha(ctx context.Context, data []byte, s size) ([]uint8, error) {
	if len(data) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	flags, data := data[0], data[1:]
	n := s.w * s.h
	var alpha []uint8
	switch flags & 3 {
	case 0:
		if len(data) < n {
			return nil, io.ErrUnexpectedEOF
		}
		alpha = bytes.Clone(data[:n])
	case 1: // the green of a lossless picture without its header
		p, err := vp8lossless.DecodeBody(data, s.w, s.h, false, func() error { return context.Cause(ctx) })
		if err != nil {
			return nil, err
		}
		alpha = make([]uint8, 0, n)
		for range s.h {
			for _, v := range p.Row() {
				alpha = append(alpha, uint8(v>>8))
			}
		}
	default:
		return nil, errors.New("its alpha is compressed in an unknown way")
	}
	unfilterAlpha(alpha, s.w, flags>>2&3)
	return alpha, nil
}

func unfilterAlpha(alpha []uint8, w int, filter uint8) {
	if filter == 0 {
		return
	}
	for x := 1; x < w; x++ {
		alpha[x] += alpha[x-1]
	}
	for y := w; y < len(alpha); y += w {
		row, above := alpha[y:y+w], alpha[y-w:y]
		switch filter {
		case 1:
			row[0] += above[0]
			for x := 1; x < w; x++ {
				row[x] += row[x-1]
			}
		case 2:
			for x, v := range above {
				row[x] += v
			}
		default:
			row[0] += above[0]
			for x := 1; x < w; x++ {
				row[x] += uint8(min(max(int(row[x-1])+int(above[x])-int(above[x-1]), 0), 255))
			}
		}
	}
}

// What luma and chroma in video range add to red, green and blue, with 16 bits below the point.
var videoY, videoRV, videoGU, videoGV, videoBU = func() (y, rv, gu, gv, bu [256]int32) {
	const one = 1 << 16
	for i := range 256 {
		v := float64(i - 128)
		y[i] = int32(float64(i-16)*255/219*one + one/2)
		rv[i] = int32(1.402 * 255 / 224 * v * one)
		gu[i] = int32(-0.344136 * 255 / 224 * v * one)
		gv[i] = int32(-0.714136 * 255 / 224 * v * one)
		bu[i] = int32(1.772 * 255 / 224 * v * one)
	}
	return y, rv, gu, gv, bu
}()

// videoRow makes a row of RGBA, colours multiplied by alpha, of planes in video range whose chroma is half as wide.
func videoRow(row, luma, cb, cr, alpha []uint8) {
	for x, a := range alpha {
		px := row[4*x:][:4]
		if a == 0 {
			px[0], px[1], px[2], px[3] = 0, 0, 0, 0
			continue
		}
		y, u, v := videoY[luma[x]], cb[x/2], cr[x/2]
		r, g, b := clip8((y+videoRV[v])>>16), clip8((y+videoGU[u]+videoGV[v])>>16), clip8((y+videoBU[u])>>16)
		if a != 255 {
			r, g, b = times(r, a), times(g, a), times(b, a)
		}
		px[0], px[1], px[2], px[3] = r, g, b, a
	}
}

func clip8(v int32) uint8 {
	if uint32(v) <= 255 {
		return uint8(v)
	}
	return uint8(^(v >> 31)) // negative: 0, else 255
}
