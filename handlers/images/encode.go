package images

import (
	"context"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
)

// encode writes the picture. icc is the source's colour profile, kept where it still fits.
func (s *scaled) encode(ctx context.Context, w io.Writer, format string, quality int, icc []byte) error {
	icc = fitting(icc, s.model)
	w = &watched{ctx, w}
	if format == formatPNG {
		e := png.Encoder{CompressionLevel: png.DefaultCompression}
		return e.Encode(&inserting{w: w, after: 33, extra: pngProfile(icc)}, s.image(false))
	}
	return jpeg.Encode(&inserting{w: w, after: 2, extra: jpegProfile(icc)}, s.image(true), &jpeg.Options{Quality: quality})
}

// image presents the samples to an encoder. For flat, transparency is laid over white.
func (s *scaled) image(flat bool) image.Image {
	r := image.Rect(0, 0, s.w, s.h)
	switch s.model {
	case modelGray:
		return &image.Gray{Pix: s.pix[0], Stride: s.w, Rect: r}
	case modelYCbCr:
		m := &image.YCbCr{
			Y: s.pix[0], Cb: s.pix[1], Cr: s.pix[2], YStride: s.w, CStride: s.sizes[1].w,
			SubsampleRatio: image.YCbCrSubsampleRatio444, Rect: r,
		}
		if s.halved {
			m.SubsampleRatio = image.YCbCrSubsampleRatio420
		}
		if !flat {
			return rgbOf(m)
		}
		return m
	case modelRGB:
		m := image.NewRGBA(r)
		for i, j := 0, 0; i < len(m.Pix); i, j = i+4, j+3 {
			copy(m.Pix[i:i+3], s.pix[0][j:j+3])
			m.Pix[i+3] = 255
		}
		return m
	}
	if flat {
		m := image.NewRGBA(r)
		for i := 0; i < len(m.Pix); i += 4 {
			px := s.pix[0][i : i+4]
			white := 255 - px[3]
			for c := range 3 {
				m.Pix[i+c] = min(px[c], px[3]) + white
			}
			m.Pix[i+3] = 255
		}
		return m
	}
	m := image.NewNRGBA(r)
	for i := 0; i < len(m.Pix); i += 4 {
		px := s.pix[0][i : i+4]
		a := uint32(px[3])
		m.Pix[i+3] = px[3]
		if a == 0 {
			continue
		}
		for c := range 3 {
			m.Pix[i+c] = uint8(min((uint32(px[c])*255+a/2)/a, 255))
		}
	}
	return m
}

func rgbOf(m *image.YCbCr) *image.RGBA {
	out := image.NewRGBA(m.Rect)
	i := 0
	for y := range m.Rect.Dy() {
		for x := range m.Rect.Dx() {
			yi, ci := m.YOffset(x, y), m.COffset(x, y)
			r, g, b := color.YCbCrToRGB(m.Y[yi], m.Cb[ci], m.Cr[ci])
			out.Pix[i], out.Pix[i+1], out.Pix[i+2], out.Pix[i+3] = r, g, b, 255
			i += 4
		}
	}
	return out
}

// inserting puts extra behind the first bytes of a stream: encoders of the standard library write no metadata.
type inserting struct {
	w     io.Writer
	after int
	extra []byte
}

func (i *inserting) Write(p []byte) (int, error) {
	n := 0
	if i.after > 0 {
		head := p[:min(i.after, len(p))]
		wrote, err := i.w.Write(head)
		n += wrote
		i.after -= wrote
		if err != nil {
			return n, err
		}
		p = p[len(head):]
	}
	if i.after == 0 && len(i.extra) > 0 {
		if _, err := i.w.Write(i.extra); err != nil {
			return n, err
		}
		i.extra = nil
	}
	if len(p) == 0 {
		return n, nil
	}
	wrote, err := i.w.Write(p)
	return n + wrote, err
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
