package vp8frame

// limits are those of the loop filter for a macroblock (section 15.4).
type limits struct {
	edge, inner, variance int32
	inside                bool // the edges within are filtered too
}

// smooth filters the whole frame (section 15). Predictions are made from what is not filtered, so it comes last.
func (f *frame) smooth() {
	for my := range f.high {
		for mx := range f.wide {
			l := f.limits[my*f.wide+mx]
			if l.edge == 0 {
				continue
			}
			for i := range 3 {
				p := &f.planes[i]
				n := 16
				if i > 0 {
					n = 8
				}
				if f.simple && i > 0 {
					break
				}
				at := p.at(mx*n, my*n)
				if mx > 0 {
					f.edge(p, at, 1, p.Stride, n, l, l.edge+4, false)
				}
				if l.inside {
					for x := 4; x < n; x += 4 {
						f.edge(p, at+x, 1, p.Stride, n, l, l.edge, true)
					}
				}
				if my > 0 {
					f.edge(p, at, p.Stride, 1, n, l, l.edge+4, false)
				}
				if l.inside {
					for y := 4; y < n; y += 4 {
						f.edge(p, at+y*p.Stride, p.Stride, 1, n, l, l.edge, true)
					}
				}
			}
		}
	}
}

// edge filters along an edge of n samples that begins at pix[at]: across is the way over it, along the way on.
func (f *frame) edge(p *Plane, at, across, along, n int, l limits, level int32, within bool) {
	pix := p.pix
	for range n {
		q := pix[at-4*across : at+3*across+1]
		at += along
		p1, p0, q0, q1 := int32(q[2*across]), int32(q[3*across]), int32(q[4*across]), int32(q[5*across])
		if p0 == q0 && p1 == q1 || abs(p0-q0)*2+abs(p1-q1)>>1 > level {
			continue // there is nothing to smooth, or it is too high an edge
		}
		if f.simple {
			a := 3*(q0-p0) + min(max(p1-q1, -128), 127)
			q[3*across] = clip(p0 + min(max((a+3)>>3, -16), 15))
			q[4*across] = clip(q0 - min(max((a+4)>>3, -16), 15))
			continue
		}
		p3, p2, q2, q3 := int32(q[0]), int32(q[across]), int32(q[6*across]), int32(q[7*across])
		dp, dq := abs(p1-p0), abs(q1-q0)
		if dp > l.inner || dq > l.inner || abs(p3-p2) > l.inner || abs(p2-p1) > l.inner || abs(q2-q1) > l.inner || abs(q3-q2) > l.inner {
			continue
		}
		switch {
		case dp > l.variance || dq > l.variance:
			a := 3*(q0-p0) + min(max(p1-q1, -128), 127)
			q[3*across] = clip(p0 + min(max((a+3)>>3, -16), 15))
			q[4*across] = clip(q0 - min(max((a+4)>>3, -16), 15))
		case within:
			a := 3 * (q0 - p0)
			a1 := min(max((a+4)>>3, -16), 15)
			a2 := min(max((a+3)>>3, -16), 15)
			a3 := (a1 + 1) >> 1
			q[2*across] = clip(p1 + a3)
			q[3*across] = clip(p0 + a2)
			q[4*across] = clip(q0 - a1)
			q[5*across] = clip(q1 - a3)
		default:
			a := min(max(3*(q0-p0)+min(max(p1-q1, -128), 127), -128), 127)
			a1, a2, a3 := (27*a+63)>>7, (18*a+63)>>7, (9*a+63)>>7
			q[across] = clip(p2 + a3)
			q[2*across] = clip(p1 + a2)
			q[3*across] = clip(p0 + a1)
			q[4*across] = clip(q0 - a1)
			q[5*across] = clip(q1 - a2)
			q[6*across] = clip(q2 - a3)
		}
	}
}

func abs(v int32) int32 {
	m := v >> 31
	return v ^ m - m
}
