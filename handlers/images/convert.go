package images

import (
	"image"
	"image/color"
	"image/draw"
)

// newPicture makes planes of what the decoders of others return (GIF's, by now). YCbCr is used where it lies; the rest is
// converted row by row when it is resampled.
func newPicture(img image.Image) *picture {
	b := img.Bounds()
	p := &picture{size: size{b.Dx(), b.Dy()}}
	switch img := img.(type) {
	case *image.YCbCr:
		p.ycbcr(img)
	case *image.NRGBA:
		p.planes = p.rows(modelRGBA, 4, func(y int, row []uint8) {
			pix := img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):]
			for i := 0; i < len(row); i += 4 {
				premultiply(row[i:i+4], pix[i], pix[i+1], pix[i+2], pix[i+3])
			}
		})
	case *image.Paletted:
		p.paletted(img)
	default:
		p.generic(img)
	}
	return p
}

// generic takes any image, slowly.
func (p *picture) generic(img image.Image) {
	b := img.Bounds()
	p.planes = p.rows(modelRGBA, 4, func(y int, row []uint8) {
		for x := range p.w {
			r, g, bl, a := img.At(b.Min.X+x, b.Min.Y+y).RGBA()
			row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = uint8(r>>8), uint8(g>>8), uint8(bl>>8), uint8(a>>8)
		}
	})
}

// rows is one plane whose rows fill converts into the scratch row.
func (p *picture) rows(m model, channels int, fill func(y int, row []uint8)) []plane {
	p.model = m
	return []plane{{w: p.w, h: p.h, channels: channels, perX: 1, perY: 1, row: func(y int, scratch []uint8) []uint8 {
		fill(y, scratch)
		return scratch
	}}}
}

func bytePlane(pix []uint8, stride, w, h int) plane {
	return plane{w: w, h: h, channels: 1, perX: 1, perY: 1, row: func(y int, _ []uint8) []uint8 { return pix[y*stride:][:w] }}
}

func (p *picture) ycbcr(img *image.YCbCr) {
	p.model = modelYCbCr
	b := img.Rect
	sx, sy := 1, 1
	switch img.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		sx = 2
	case image.YCbCrSubsampleRatio420:
		sx, sy = 2, 2
	case image.YCbCrSubsampleRatio440:
		sy = 2
	case image.YCbCrSubsampleRatio411:
		sx = 4
	case image.YCbCrSubsampleRatio410:
		sx, sy = 4, 2
	}
	cw, ch := (p.w+sx-1)/sx, (p.h+sy-1)/sy
	c := img.COffset(b.Min.X, b.Min.Y)
	p.planes = []plane{
		bytePlane(img.Y[img.YOffset(b.Min.X, b.Min.Y):], img.YStride, p.w, p.h),
		bytePlane(img.Cb[c:], img.CStride, cw, ch),
		bytePlane(img.Cr[c:], img.CStride, cw, ch),
	}
	for i := range p.planes[1:] {
		p.planes[1+i].perX, p.planes[1+i].perY = float64(sx), float64(sy)
	}
}

// paletted looks each index up in a table of ready, premultiplied colours. An index beyond the palette is
// transparent black, as image/png and image/gif leave it possible.
func (p *picture) paletted(img *image.Paletted) {
	var table [256][4]uint8
	opaque := len(img.Palette) > 0
	for i, c := range img.Palette[:min(len(img.Palette), 256)] {
		n := color.NRGBAModel.Convert(c).(color.NRGBA)
		premultiply(table[i][:], n.R, n.G, n.B, n.A)
		opaque = opaque && n.A == 255
	}
	m, channels := modelRGBA, 4
	if opaque {
		m, channels = modelRGB, 3
	}
	b := img.Rect
	p.planes = p.rows(m, channels, func(y int, row []uint8) {
		pix := img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):][:p.w]
		for x, index := range pix {
			copy(row[channels*x:channels*x+channels], table[index][:])
		}
	})
}

func premultiply(dst []uint8, r, g, b, a uint8) {
	_ = dst[3]
	dst[3] = a
	switch a {
	case 255:
		dst[0], dst[1], dst[2] = r, g, b
	case 0:
		dst[0], dst[1], dst[2] = 0, 0, 0
	default:
		dst[0], dst[1], dst[2] = times(r, a), times(g, a), times(b, a)
	}
}

// times is v*a/255, rounded.
func times(v, a uint8) uint8 {
	t := uint32(v)*uint32(a) + 128
	return uint8((t + t>>8) >> 8)
}

// onCanvas puts a GIF frame that does not cover its picture where it belongs.
func onCanvas(img image.Image, s size) image.Image {
	canvas := image.NewNRGBA(image.Rect(0, 0, s.w, s.h))
	draw.Draw(canvas, img.Bounds(), img, img.Bounds().Min, draw.Src)
	return canvas
}

// Video range to full range, by table.
var videoLuma, videoChroma = func() (luma, chroma [256]uint8) {
	for i := range luma {
		luma[i] = uint8(min(max(float64(i-16)*255/219+0.5, 0), 255))
		chroma[i] = uint8(min(max(float64(i-128)*255/224+128.5, 0), 255))
	}
	return luma, chroma
}()
