package images

import (
	"bytes"
	"context"
	"errors"
	"image/color"
	"io"

	"github.com/stalkworker/stalk/handlers/images/jpegwrite"
	"github.com/stalkworker/stalk/handlers/images/pngwrite"
)

// leastQuality is how far max_bytes may push a JPEG: what is below shows nothing worth its bytes.
const leastQuality = 10

// An attachment is what goes into the file beside the picture.
type attachment struct {
	icc  []byte // nil: none, which means sRGB
	exif []byte // a TIFF structure; nil: none
}

// encode writes the picture in the style. It returns the quality that maxBytes came to, 0 when it was not asked for.
func (s *scaled) encode(ctx context.Context, w io.Writer, st style, a attachment) (int, error) {
	a.icc = fitting(a.icc, s.model)
	w = &watched{ctx, w}
	if st.format == formatPNG {
		if st.maxBytes > 0 {
			return 0, valueError("max_bytes is for JPEG: a PNG has no quality to give up")
		}
		return 0, pngwrite.Encode(w, s.pixels(), append(pngProfile(a.icc), pngEXIF(a.exif)...))
	}
	about, err := jpegEXIF(a.exif)
	if err != nil {
		return 0, err
	}
	o := jpegwrite.Options{Quality: st.quality, Progressive: st.progressive, Segments: append(about, jpegProfile(a.icc)...)}
	p := s.planes(st.full)
	if st.maxBytes == 0 {
		return 0, jpegwrite.Encode(w, p, o)
	}
	return encodeWithin(ctx, w, st.maxBytes, p, o)
}

// encodeWithin writes at the best quality that takes no more than most bytes, from o's own down.
func encodeWithin(ctx context.Context, w io.Writer, most int64, p jpegwrite.Picture, o jpegwrite.Options) (int, error) {
	var best []byte
	quality := 0
	try := func(q int) (bool, error) {
		b := bounded{most: most}
		o.Quality = q
		err := jpegwrite.Encode(&watched{ctx, &b}, p, o)
		if err == nil {
			best, quality = b.Bytes(), q
		} else if !errors.Is(err, errFull) {
			return false, err
		}
		return err == nil, nil
	}
	low, high := min(leastQuality, o.Quality), o.Quality
	fits, err := try(high)
	for high--; err == nil && !fits && low <= high; {
		middle := (low + high + 1) / 2
		var ok bool
		if ok, err = try(middle); ok {
			low = middle + 1
		} else {
			high = middle - 1
		}
	}
	switch {
	case err != nil:
		return 0, err
	case best == nil:
		return 0, valueError("the thumbnail does not fit in max_bytes %d at quality %d, which is the least that is tried", most, min(leastQuality, o.Quality))
	}
	_, err = w.Write(best)
	return quality, err
}

var errFull = errors.New("images: more than was asked for")

// bounded is a buffer that takes no more than most bytes.
type bounded struct {
	bytes.Buffer
	most int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(b.Len()+len(p)) > b.most {
		return 0, errFull
	}
	return b.Buffer.Write(p)
}

// planes presents the samples to the JPEG encoder: converted once where they are RGB, transparency laid over white.
func (s *scaled) planes(full bool) jpegwrite.Picture {
	p := jpegwrite.Picture{W: s.w, H: s.h}
	switch s.model {
	case modelGray:
		p.Planes = []jpegwrite.Plane{{Pix: s.pix[0], Stride: s.w}}
		return p
	case modelYCbCr:
		for i, pix := range s.pix {
			p.Planes = append(p.Planes, jpegwrite.Plane{Pix: pix, Stride: s.sizes[i].w})
		}
		if s.halved {
			p.Sampling = jpegwrite.S420
		}
		return p
	}
	step := 2
	if full {
		step = 1
	} else {
		p.Sampling = jpegwrite.S420
	}
	y, cb, cr := s.ycbcr(step)
	wide := (s.w + step - 1) / step
	p.Planes = []jpegwrite.Plane{{Pix: y, Stride: s.w}, {Pix: cb, Stride: wide}, {Pix: cr, Stride: wide}}
	return p
}

// ycbcr converts RGB to JFIF's planes, chroma being the mean of step x step pixels.
func (s *scaled) ycbcr(step int) (luma, cb, cr []uint8) {
	channels := 3
	if s.model == modelRGBA {
		channels = 4
	}
	wide, high := (s.w+step-1)/step, (s.h+step-1)/step
	luma, cb, cr = make([]uint8, s.w*s.h), make([]uint8, wide*high), make([]uint8, wide*high)
	sums := make([][3]int32, wide)
	for y := 0; y < s.h; y += step {
		clear(sums)
		for dy := range step {
			at := min(y+dy, s.h-1) // the last row and column stand for those that are missing
			row := s.pix[0][at*s.w*channels:][:s.w*channels]
			for x := range s.w {
				px := row[x*channels:][:channels]
				r, g, b := int32(px[0]), int32(px[1]), int32(px[2])
				if channels == 4 {
					a := int32(px[3])
					r, g, b = min(r, a)+255-a, min(g, a)+255-a, min(b, a)+255-a
				}
				luma[at*s.w+x] = uint8((19595*r + 38470*g + 7471*b + 1<<15) >> 16)
				sum := &sums[x/step]
				sum[0], sum[1], sum[2] = sum[0]+r, sum[1]+g, sum[2]+b
				if x == s.w-1 && step == 2 && x%2 == 0 {
					sum[0], sum[1], sum[2] = sum[0]+r, sum[1]+g, sum[2]+b
				}
			}
		}
		shift := 16
		if step == 2 {
			shift = 18
		}
		out := y / step * wide
		half := int32(1)<<(shift-1) - 1
		for i, sum := range sums {
			r, g, b := sum[0], sum[1], sum[2]
			cb[out+i] = uint8((-11059*r - 21709*g + 32768*b + half + 128<<shift) >> shift)
			cr[out+i] = uint8((32768*r - 27439*g - 5329*b + half + 128<<shift) >> shift)
		}
	}
	return luma, cb, cr
}

// pixels presents the samples to the PNG encoder: without alpha where none is seen through.
func (s *scaled) pixels() pngwrite.Picture {
	p := pngwrite.Picture{W: s.w, H: s.h, Channels: 3, Pix: s.pix[0]}
	switch s.model {
	case modelGray:
		p.Channels = 1
	case modelYCbCr:
		p.Pix = s.rgb()
	case modelRGBA:
		p.Channels = 3
		for i := 3; i < len(s.pix[0]); i += 4 {
			if s.pix[0][i] < 255 {
				p.Channels = 4
				break
			}
		}
		p.Pix = make([]uint8, p.Channels*s.w*s.h)
		for i, j := 0, 0; i < len(s.pix[0]); i, j = i+4, j+p.Channels {
			px := s.pix[0][i : i+4]
			for c := range 3 {
				p.Pix[j+c] = divided(px[c], px[3])
			}
			if p.Channels == 4 {
				p.Pix[j+3] = px[3]
			}
		}
	}
	return p
}

// divided is a colour that was multiplied by alpha.
func divided(v, alpha uint8) uint8 {
	if alpha == 0 {
		return 0
	}
	a := uint32(alpha)
	return uint8(min((uint32(v)*255+a/2)/a, 255))
}

// rgb is the planes of a YCbCr picture as pixels of three channels.
func (s *scaled) rgb() []uint8 {
	out := make([]uint8, 3*s.w*s.h)
	step := 1
	if s.halved {
		step = 2
	}
	i := 0
	for y := range s.h {
		luma := s.pix[0][y*s.w:][:s.w]
		chroma := y / step * s.sizes[1].w
		for x, l := range luma {
			c := chroma + x/step
			out[i], out[i+1], out[i+2] = color.YCbCrToRGB(l, s.pix[1][c], s.pix[2][c])
			i += 3
		}
	}
	return out
}

// watched lets the end of the context end an encoder.
type watched struct {
	ctx context.Context
	w   io.Writer
}

func (w *watched) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.w.Write(p)
}
