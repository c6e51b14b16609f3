// Package sampleimage draws pictures that compress and reduce like photographs, for the demo, the benchmarks
// and the tests: a sky, hills, soft light, leaves of all sizes, hard edges and sensor noise. The same
// arguments give the same picture.
package sampleimage

import (
	"image"
	"math"
)

// New draws a picture of w times h pixels as a camera's JPEG holds it, in 4:2:0. It panics if a side is not positive.
func New(w, h int, seed int64) *image.YCbCr {
	if w <= 0 || h <= 0 {
		panic("sampleimage: no size")
	}
	m := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	s := scene{seed: uint64(seed), unit: 1 / float64(max(w, h)), w: w, h: h}
	for y := range h {
		for x := range w {
			m.Y[y*m.YStride+x] = s.luma(x, y)
		}
	}
	cw, ch := (w+1)/2, (h+1)/2
	for y := range ch {
		for x := range cw {
			m.Cb[y*m.CStride+x], m.Cr[y*m.CStride+x] = s.chroma(2*x, 2*y)
		}
	}
	return m
}

type scene struct {
	seed uint64
	unit float64
	w, h int
}

// hills is the height of the horizon at u, from 0 (top) to 1.
func (s *scene) hills(u float64) float64 {
	phase := float64(s.seed%97) / 7
	return 0.42*float64(s.h)*s.unit + 0.06*math.Sin(7*u+phase) + 0.02*math.Sin(23*u+2*phase)
}

func (s *scene) luma(x, y int) uint8 {
	u, v := float64(x)*s.unit, float64(y)*s.unit
	horizon := s.hills(u)
	var l float64
	if v < horizon {
		l = 150 + 80*v/horizon + 22*s.noise(u*6, v*14, 1) + 8*s.noise(u*20, v*40, 2)
	} else {
		l = 70 + 45*s.noise(u*9, v*9, 3) + 30*s.noise(u*47, v*47, 4) + 24*s.noise(u*220, v*220, 5) + 16*s.noise(u*900, v*900, 6)
		if s.post(u, v, horizon) {
			l = 225
		}
	}
	l += 5 * (float64(s.hash(x, y, 7)&0xff)/128 - 1) // the sensor
	return uint8(min(max(l, 0), 255))
}

// post is a fence: straight, hard edges.
func (s *scene) post(u, v, horizon float64) bool {
	return v < horizon+0.12 && math.Mod(u*24, 1) < 0.15 || math.Abs(v-horizon-0.05) < 0.004
}

func (s *scene) chroma(x, y int) (cb, cr uint8) {
	u, v := float64(x)*s.unit, float64(y)*s.unit
	horizon := s.hills(u)
	b, r := 155-20*v, 108.0
	switch {
	case v >= horizon && s.post(u, v, horizon):
		b, r = 124, 132
	case v >= horizon:
		b = 104 + 12*s.noise(u*30, v*30, 8)
		r = 120 + 18*s.noise(u*60, v*60, 9)
	}
	return uint8(min(max(b, 0), 255)), uint8(min(max(r, 0), 255))
}

// noise is smooth value noise between -1 and 1.
func (s *scene) noise(x, y float64, layer uint64) float64 {
	fx, fy := math.Floor(x), math.Floor(y)
	ix, iy := int(fx), int(fy)
	tx, ty := x-fx, y-fy
	tx, ty = tx*tx*(3-2*tx), ty*ty*(3-2*ty)
	at := func(x, y int) float64 { return float64(s.hash(x, y, layer)&0xffff)/32768 - 1 }
	top := at(ix, iy)*(1-tx) + at(ix+1, iy)*tx
	bottom := at(ix, iy+1)*(1-tx) + at(ix+1, iy+1)*tx
	return top*(1-ty) + bottom*ty
}

func (s *scene) hash(x, y int, layer uint64) uint64 {
	h := s.seed*0x9e3779b97f4a7c15 ^ uint64(uint32(x))*0xbf58476d1ce4e5b9 ^ uint64(uint32(y))*0x94d049bb133111eb ^ layer<<56
	h ^= h >> 31
	h *= 0xd6e8feb86659fd93
	h ^= h >> 29
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}
