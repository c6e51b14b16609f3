package images

import (
	"image"
	"testing"
)

// fit is the geometry of a request that says no more than size and fit.
func fit(how string, src, want size) (size, box) {
	out, used, err := framing{size: want, how: how, focal: defaultFocal}.fit(src)
	if err != nil {
		panic(err)
	}
	return out, used
}

// asked is a variant of which no more is said.
func asked(how string, w, h int) variant {
	return variant{frame: framing{size: size{w, h}, how: how, focal: defaultFocal}, style: defaultStyle}
}

// shown is what an encoder for the format gets to see.
func shown(s *scaled, format string) image.Image {
	if format == formatPNG || s.model != modelYCbCr {
		p := s.pixels()
		r := image.Rect(0, 0, p.W, p.H)
		switch p.Channels {
		case 1:
			return &image.Gray{Pix: p.Pix, Stride: p.W, Rect: r}
		case 4:
			return &image.NRGBA{Pix: p.Pix, Stride: 4 * p.W, Rect: r}
		}
		m := image.NewRGBA(r)
		for i, j := 0, 0; i < len(m.Pix); i, j = i+4, j+3 {
			copy(m.Pix[i:i+3], p.Pix[j:j+3])
			m.Pix[i+3] = 255
		}
		return m
	}
	m := &image.YCbCr{
		Y: s.pix[0], Cb: s.pix[1], Cr: s.pix[2], YStride: s.w, CStride: s.sizes[1].w,
		SubsampleRatio: image.YCbCrSubsampleRatio444, Rect: image.Rect(0, 0, s.w, s.h),
	}
	if s.halved {
		m.SubsampleRatio = image.YCbCrSubsampleRatio420
	}
	return m
}

// The sizes are those that Pillow 13 gives.
func TestContainIsThatOfImageOps(t *testing.T) {
	for _, tt := range []struct{ src, want, out size }{
		{size{400, 300}, size{256, 256}, size{256, 192}},
		{size{40, 30}, size{256, 256}, size{256, 192}},
		{size{300, 400}, size{256, 256}, size{192, 256}},
		{size{401, 267}, size{64, 64}, size{64, 43}},
		{size{5, 2}, size{5, 5}, size{5, 2}},
		{size{1000, 1}, size{10, 10}, size{10, 1}}, // Pillow: 0, an error
		{size{7, 7}, size{9, 9}, size{9, 9}},
		{size{4, 10}, size{5, 5}, size{2, 5}},
		{size{1000, 250}, size{10, 10}, size{10, 2}}, // 2.5 goes to the even
	} {
		if out, used := fit(fitContain, tt.src, tt.want); out != tt.out || used != (box{0, 0, float64(tt.src.w), float64(tt.src.h)}) {
			t.Errorf("%v in %v: %v of %v, want %v", tt.src, tt.want, out, used, tt.out)
		}
	}
}

func TestFocalPointMovesWhatIsCut(t *testing.T) {
	for _, tt := range []struct {
		src   size
		focal [2]float64
		want  box
	}{
		{size{400, 300}, [2]float64{0.5, 0.5}, box{50, 0, 300, 300}},
		{size{400, 300}, [2]float64{0, 1}, box{0, 0, 300, 300}},
		{size{400, 300}, [2]float64{1, 0}, box{100, 0, 300, 300}},
		{size{300, 400}, [2]float64{0.1, 0.25}, box{0, 25, 300, 300}},
	} {
		f := framing{size: size{50, 50}, how: fitCover, focal: tt.focal}
		if _, used, _ := f.fit(tt.src); used != tt.want {
			t.Errorf("%v of %v: %v, want %v", tt.focal, tt.src, used, tt.want)
		}
	}
}

func TestCropComesBeforeTheFit(t *testing.T) {
	f := framing{size: size{50, 50}, how: fitCover, focal: [2]float64{1, 0}, crop: &[4]int{100, 20, 300, 120}}
	out, used, err := f.fit(size{400, 300})
	if want := (box{200, 20, 100, 100}); err != nil || out != f.size || used != want {
		t.Errorf("%v of %v, %v, want %v", out, used, err, want)
	}
	f.how = fitInside
	if out, used, err = f.fit(size{400, 300}); err != nil || (out != size{50, 25}) || used != (box{100, 20, 200, 100}) {
		t.Errorf("%v of %v, %v", out, used, err)
	}
	_, _, err = f.fit(size{400, 119})
	if raised(t, err, "ValueError").Args[0] != "crop (100, 20, 300, 120) leaves the picture, which is 400 x 119 pixels" {
		t.Error(err)
	}
}

// Where a box lies in the picture as stored is where turning the stored picture takes it from.
func TestBoxAsStored(t *testing.T) {
	stored := size{5, 3}
	for o := 1; o <= 8; o++ {
		s := &scaled{size: stored, model: modelGray, pix: [][]uint8{make([]uint8, 15)}, sizes: []size{stored}}
		for i := range s.pix[0] {
			s.pix[0][i] = uint8(i)
		}
		s.orient(o)
		for y := range s.h {
			for x := range s.w {
				at := box{float64(x), float64(y), 1, 1}.stored(stored, o)
				if got := int(at.y)*stored.w + int(at.x); got != int(s.pix[0][y*s.w+x]) {
					t.Errorf("orientation %d: %d,%d is %d of the stored picture, not %d", o, x, y, s.pix[0][y*s.w+x], got)
				}
			}
		}
	}
}

// Of a narrow picture, what its last blocks hold beyond the edge does not weigh.
func TestNarrowJPEGsKeepTheirMeans(t *testing.T) {
	m := image.NewYCbCr(image.Rect(0, 0, 2000, 20), image.YCbCrSubsampleRatio420)
	for y := range 20 {
		for x := range 2000 {
			m.Y[y*m.YStride+x] = uint8(12 * y)
			m.Cb[y/2*m.CStride+x/2], m.Cr[y/2*m.CStride+x/2] = uint8(20*(y/2)), uint8(220-20*(y/2))
		}
	}
	data := jpegOf(t, m)
	i, err := probe("x", data, DefaultMaxPixels)
	if err != nil {
		t.Fatal(err)
	}
	p, err := decode(t.Context(), "x", data, i, size{80, 1})
	if err != nil {
		t.Fatal(err)
	}
	s, err := reduce(t.Context(), p, i, size{80, 1}, box{0, 0, 2000, 20}, true)
	if err != nil {
		t.Fatal(err)
	}
	for plane, want := range []float64{114, 90, 130} {
		for _, v := range s.pix[plane] {
			if d := float64(v) - want; d < -2 || d > 2 {
				t.Fatalf("plane %d: %d, the mean is %.0f", plane, v, want)
			}
		}
	}
}
