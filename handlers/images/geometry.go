package images

import "math"

// A size is a width and a height in pixels.
type size struct{ w, h int }

func (s size) pixels() int64 { return int64(s.w) * int64(s.h) }

func (s size) swapped(yes bool) size {
	if yes {
		return size{s.h, s.w}
	}
	return s
}

// A box is a stretch of a picture in its own pixels.
type box struct{ x, y, w, h float64 }

// The ways to fit a picture into a size.
const (
	fitInside = "inside" // keep the ratio, stay within the size, never enlarge: Pillow's Image.thumbnail
	fitCover  = "cover"  // fill the size exactly, cut what sticks out equally on both sides: ImageOps.fit
	fitFill   = "fill"   // the size exactly, the ratio be damned: Image.resize
)

// fit returns what a picture of src becomes and which part of it is used.
func fit(how string, src, want size) (out size, crop box) {
	crop = box{0, 0, float64(src.w), float64(src.h)}
	switch how {
	case fitCover:
		ratio := float64(want.w) / float64(want.h)
		if crop.w/crop.h >= ratio {
			crop.w = ratio * crop.h
			crop.x = (float64(src.w) - crop.w) / 2
		} else {
			crop.h = crop.w / ratio
			crop.y = (float64(src.h) - crop.h) / 2
		}
		return want, crop
	case fitFill:
		return want, crop
	}
	return inside(src, want), crop
}

// inside is Image.thumbnail's own rounding: of the two whole numbers, the one whose ratio is nearer.
func inside(src, want size) size {
	if want.w >= src.w && want.h >= src.h {
		return src
	}
	aspect := float64(src.w) / float64(src.h)
	w, h := float64(want.w), float64(want.h)
	if w/h >= aspect {
		want.w = nearest(h*aspect, func(n float64) float64 { return math.Abs(aspect - n/h) })
	} else {
		want.h = nearest(w/aspect, func(n float64) float64 {
			if n == 0 {
				return 0
			}
			return math.Abs(aspect - w/n)
		})
	}
	return want
}

func nearest(v float64, off func(float64) float64) int {
	lo, hi := math.Floor(v), math.Ceil(v)
	if off(hi) < off(lo) {
		lo = hi
	}
	return max(int(lo), 1)
}
