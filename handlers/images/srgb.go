package images

import (
	"encoding/binary"
	"math"
	"sync"
)

// A gamut is an RGB colour space that a profile describes by curves and a matrix, on its way to sRGB.
type gamut struct {
	linear [3][256]float32 // of each channel
	matrix [3][3]float32   // to linear sRGB
}

// gamutOf reads such a profile: those of cameras, phones and monitors (Display P3, Adobe RGB, ProPhoto). Profiles that have
// only tables, and those of other colours, are nil: interpolating between the points of a table is a colour
// management system's work, and a picture with its profile looks right without.
//
//	header(128: colours at 16, connection space at 20)  count(4)  { name(4) offset(4) length(4) } ...
func gamutOf(icc []byte) *gamut {
	if len(icc) < 132 || string(icc[16:24]) != "RGB XYZ " {
		return nil
	}
	tags := map[string][]byte{}
	entries := icc[132:]
	for range min(binary.BigEndian.Uint32(icc[128:]), 100) {
		if len(entries) < 12 {
			return nil
		}
		offset, length := uint64(binary.BigEndian.Uint32(entries[4:])), uint64(binary.BigEndian.Uint32(entries[8:]))
		if offset+length > uint64(len(icc)) {
			return nil
		}
		tags[string(entries[:4])] = icc[offset : offset+length]
		entries = entries[12:]
	}
	var g gamut
	var toXYZ [3][3]float64
	for i, c := range []string{"r", "g", "b"} {
		xyz, curve := tags[c+"XYZ"], tags[c+"TRC"]
		if len(xyz) < 20 || string(xyz[:4]) != "XYZ " || !readCurve(&g.linear[i], curve) {
			return nil
		}
		for row := range 3 {
			toXYZ[row][i] = fixed(xyz[8+4*row:])
		}
	}
	for row := range 3 {
		for col := range 3 {
			sum := 0.0
			for k := range 3 {
				sum += xyzToSRGB[row][k] * toXYZ[k][col]
			}
			g.matrix[row][col] = float32(sum)
		}
	}
	return &g
}

// xyzToSRGB makes linear sRGB of XYZ under D50, which is what profiles are written for.
var xyzToSRGB = [3][3]float64{
	{3.1341359, -1.6173863, -0.4906619},
	{-0.9787955, 1.9162544, 0.0334427},
	{0.0719554, -0.2289769, 1.4053861},
}

// fixed is a number of the type s15Fixed16.
func fixed(b []byte) float64 { return float64(int32(binary.BigEndian.Uint32(b))) / 65536 }

// readCurve fills the curve of a channel from a tag:
//
//	"curv" 0(4) count(4) value(2)...        none: straight, one: a gamma in 256ths, else a table
//	"para" 0(4) kind(2) 0(2) parameter(4)...
func readCurve(out *[256]float32, tag []byte) bool {
	if len(tag) < 12 {
		return false
	}
	var at func(x float64) float64
	switch string(tag[:4]) {
	case "curv":
		n := uint64(binary.BigEndian.Uint32(tag[8:]))
		table := tag[12:]
		if n*2 > uint64(len(table)) {
			return false
		}
		switch n {
		case 0:
			at = func(x float64) float64 { return x }
		case 1:
			gamma := float64(binary.BigEndian.Uint16(table)) / 256
			at = func(x float64) float64 { return math.Pow(x, gamma) }
		default:
			at = func(x float64) float64 {
				place := x * float64(n-1)
				i := min(int(place), int(n)-2)
				a, b := float64(binary.BigEndian.Uint16(table[2*i:])), float64(binary.BigEndian.Uint16(table[2*i+2:]))
				return (a + (b-a)*(place-float64(i))) / 65535
			}
		}
	case "para":
		kind := int(binary.BigEndian.Uint16(tag[8:]))
		if kind > 4 || len(tag) < 12+4*[]int{1, 3, 4, 5, 7}[kind] {
			return false
		}
		var p [7]float64 // g a b c d e f
		for i := range []int{1, 3, 4, 5, 7}[kind] {
			p[i] = fixed(tag[12+4*i:])
		}
		at = func(x float64) float64 { return parametric(kind, p, x) }
	default:
		return false
	}
	for i := range out {
		v := at(float64(i) / 255)
		if math.IsNaN(v) {
			return false
		}
		out[i] = float32(min(max(v, 0), 1))
	}
	return true
}

func parametric(kind int, p [7]float64, x float64) float64 {
	g, a, b, c, d, e, f := p[0], p[1], p[2], p[3], p[4], p[5], p[6]
	if kind == 0 {
		return math.Pow(x, g)
	}
	if kind < 3 { // the straight part is flat, and begins where the power would be of less than nothing
		e, f, d = c, c, -b/a
		if kind == 1 {
			e, f = 0, 0
		}
		c = 0
	}
	if x >= d {
		return math.Pow(a*x+b, g) + e
	}
	return c*x + f
}

// srgbSteps are those of the table from linear to sRGB: less than half a level of the latter each.
const srgbSteps = 8192

var srgbOf = sync.OnceValue(func() *[srgbSteps + 1]uint8 {
	var t [srgbSteps + 1]uint8
	for i := range t {
		v := float64(i) / srgbSteps
		if v <= 0.0031308 {
			v *= 12.92
		} else {
			v = 1.055*math.Pow(v, 1/2.4) - 0.055
		}
		t[i] = uint8(v*255 + 0.5)
	}
	return &t
})

// isSRGB reports whether converting would change no colour by more than a level or two.
func (g *gamut) isSRGB() bool {
	for row := range 3 {
		for col := range 3 {
			want := float32(0)
			if row == col {
				want = 1
			}
			if d := g.matrix[row][col] - want; d > 0.006 || d < -0.006 {
				return false
			}
		}
	}
	table := srgbOf()
	for i := range 256 {
		for c := range 3 {
			if d := int(table[int(g.linear[c][i]*srgbSteps+0.5)]) - i; d > 1 || d < -1 {
				return false
			}
		}
	}
	return true
}

// convert makes three channels sRGB; what sRGB cannot show becomes the nearest it can, channel by channel.
func (g *gamut) convert(px []uint8) {
	table := srgbOf()
	_ = px[2]
	r, gr, b := g.linear[0][px[0]], g.linear[1][px[1]], g.linear[2][px[2]]
	for c := range 3 {
		v := g.matrix[c][0]*r + g.matrix[c][1]*gr + g.matrix[c][2]*b
		px[c] = table[int(min(max(v, 0), 1)*srgbSteps+0.5)]
	}
}

// toSRGB converts the picture, which becomes RGB where it was YCbCr in full size.
func (s *scaled) toSRGB(g *gamut) {
	if s.model == modelYCbCr {
		s.pix, s.sizes, s.model = [][]uint8{s.rgb()}, s.sizes[:1], modelRGB
	}
	pix := s.pix[0]
	if s.model == modelRGB {
		for i := 0; i+3 <= len(pix); i += 3 {
			g.convert(pix[i:])
		}
		return
	}
	for i := 0; i+4 <= len(pix); i += 4 {
		px, a := pix[i:i+4], pix[i+3]
		for c := range 3 {
			px[c] = divided(px[c], a)
		}
		g.convert(px)
		premultiply(px, px[0], px[1], px[2], a)
	}
}
