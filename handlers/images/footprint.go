package images

import "image/color"

// A jpegFrame is what the frame header of a JPEG says of the memory that decoding takes. The zero jpegFrame: there is none.
type jpegFrame struct {
	progressive bool
	components  int
	samples     float64 // per pixel, all components together: 1.5 for 4:2:0
}

// jpegFrameOf reads the payload of SOFn:  precision height(2) width(2) components{id sampling table}
func jpegFrameOf(marker byte, payload []byte) jpegFrame {
	if len(payload) < 6 || len(payload) < 6+3*int(payload[5]) {
		return jpegFrame{}
	}
	f := jpegFrame{progressive: marker&3 == 2, components: int(payload[5])}
	var area, wide, high int
	for i := range f.components {
		h, v := int(payload[7+3*i]>>4), int(payload[7+3*i]&15)
		area, wide, high = area+h*v, max(wide, h), max(high, v)
	}
	if wide*high > 0 {
		f.samples = float64(area) / float64(wide*high)
	}
	return f
}

// footprint is about how many bytes of memory it takes to decode the picture and to make something of made pixels out of it: the
// figures of the decoders used here.
func (i info) footprint(file int, made int64) int64 {
	const rows = 1 << 20 // of the reducing filter, and the encoder
	px := float64(i.pixels())
	per := 8.0 // bytes per pixel
	switch i.format {
	case formatJPEG:
		per = max(i.frame.samples, 1)
		if i.frame.progressive {
			per *= 5 // all coefficients, at four bytes, are kept beside the planes
		}
		if i.frame.components == 4 {
			per += 4 // is brought together once more
		}
	case formatPNG:
		switch i.colors {
		case color.GrayModel:
			per = 1
		case color.Gray16Model:
			per = 2
		case color.RGBAModel, color.NRGBAModel:
			per = 4
		case color.RGBA64Model, color.NRGBA64Model:
			per = 8
		default: // a palette
			per = 1
		}
		if i.interlaced {
			per *= 2
		}
	case formatGIF:
		per = 5 // with a canvas, if the frame is smaller
	case formatWebP:
		switch i.colors {
		case color.YCbCrModel:
			per = 1.5
		case color.NYCbCrAModel:
			per = 2.5
		}
	}
	return int64(px*per) + int64(file) + 8*made + rows
}
