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
	fitInside  = "inside"  // keep the ratio, stay within the size, never enlarge: Pillow's Image.thumbnail
	fitContain = "contain" // keep the ratio, as large as the size allows: ImageOps.contain
	fitCover   = "cover"   // fill the size exactly, cut what sticks out: ImageOps.fit
	fitFill    = "fill"    // the size exactly, the ratio be damned: Image.resize
)

// fit returns what an upright picture of src becomes and which part of it is used, of which crop is the whole. It
// refuses a crop that src does not have.
func (f framing) fit(src size) (out size, used box, err error) {
	at := box{0, 0, float64(src.w), float64(src.h)}
	if c := f.crop; c != nil {
		if c[2] > src.w || c[3] > src.h {
			return out, at, valueError("crop (%d, %d, %d, %d) leaves the picture, which is %d x %d pixels", c[0], c[1], c[2], c[3], src.w, src.h)
		}
		src = size{c[2] - c[0], c[3] - c[1]}
		at = box{float64(c[0]), float64(c[1]), float64(src.w), float64(src.h)}
	}
	switch f.how {
	case fitCover:
		ratio := float64(f.size.w) / float64(f.size.h)
		if at.w/at.h >= ratio {
			w := ratio * at.h
			at.x += (at.w - w) * f.focal[0]
			at.w = w
		} else {
			h := at.w / ratio
			at.y += (at.h - h) * f.focal[1]
			at.h = h
		}
		return f.size, at, nil
	case fitFill:
		return f.size, at, nil
	case fitContain:
		return contain(src, f.size), at, nil
	}
	return inside(src, f.size), at, nil
}

// stored is where the box of an upright picture lies in the picture as stored, of size s.
func (b box) stored(s size, orientation int) box {
	if orientation >= 5 {
		b = box{b.y, b.x, b.h, b.w}
	}
	flipX, flipY := flips(orientation)
	if flipX {
		b.x = float64(s.w) - b.x - b.w
	}
	if flipY {
		b.y = float64(s.h) - b.y - b.h
	}
	return b
}

// contain is ImageOps.contain's own rounding.
func contain(src, want size) size {
	ratio, wanted := float64(src.w)/float64(src.h), float64(want.w)/float64(want.h)
	switch {
	case ratio > wanted:
		want.h = max(int(math.RoundToEven(float64(src.h)/float64(src.w)*float64(want.w))), 1)
	case ratio < wanted:
		want.w = max(int(math.RoundToEven(ratio*float64(want.h))), 1)
	}
	return want
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
