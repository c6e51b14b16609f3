package images

import (
	"image/color"

	"github.com/stalkworker/stalk/handlers/images/vp8frame"
)

// footprint is about how many bytes of memory it takes to decode the picture and to make something of made pixels out of it, where
// wants is what decode is told: the figures of the decoders used here.
func (i info) footprint(file int, wants []size, made int64) int64 {
	const rows = 1 << 20 // of the decoder, and the encoder
	px := float64(i.pixels())
	per := 8.0 // bytes per pixel
	switch i.format {
	case formatJPEG:
		return i.jpegPlan(wants).memory(i.jpeg) + int64(file) + 8*made + rows + i.filterRows()
	case formatPNG:
		if per = 0; i.interlaced {
			switch i.colors { // as it is stored, but a byte for less
			case color.GrayModel:
				per = 2
			case color.Gray16Model:
				per = 4
			case color.RGBAModel, color.NRGBAModel:
				per = 4
			case color.RGBA64Model, color.NRGBA64Model:
				per = 8
			default: // a palette
				per = 1
			}
		}
	case formatGIF:
		per = 5 // with a canvas, if the frame is smaller
	case formatWebP:
		// Lossless pixels and alpha take four bytes while they are decoded, and their codes some megabytes.
		frame := float64(vp8frame.Memory(i.w, i.h)) / px
		codes := float64(min(64*int64(file), 64<<20)) / px
		switch i.colors {
		case color.YCbCrModel:
			per = max(frame, 4.5+codes) // it may be lossless all the same
		case color.NYCbCrAModel:
			per = max(frame+1+4.5, 4.5) + codes
		default:
			per = 4.5 + codes
		}
	}
	return int64(px*per) + int64(file) + 8*made + rows + i.filterRows()
}

// filterRows is what one thumbnail takes of the filter: rows of up to four channels, of the width of the source, at its several stages.
func (i info) filterRows() int64 { return 4 * 40 * int64(i.w) }
