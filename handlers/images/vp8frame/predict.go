package vp8frame

import "encoding/binary"

// The ways a block is predicted from what lies above and left of it (section 12), in the order of modeProbs.
const (
	predictDC = iota
	predictTM
	predictVE
	predictHE
	predictRD
	predictVR
	predictLD
	predictVL
	predictHD
	predictHU
)

// square predicts a block of n x n, 16 or 8, at pix[at]. top and left tell whether there is something, which the mean goes by; the
// others take what the frame's margins hold.
func square(mode uint8, pix []uint8, at, stride, n int, top, left bool) {
	above := pix[at-stride:][:n]
	switch mode {
	case predictVE:
		for y := range n {
			copy(pix[at+y*stride:][:n], above)
		}
	case predictHE:
		for y := range n {
			fill(pix[at+y*stride:][:n], pix[at+y*stride-1])
		}
	case predictTM:
		corner := int32(pix[at-stride-1])
		for y := range n {
			d := int32(pix[at+y*stride-1]) - corner
			row := pix[at+y*stride:][:n]
			for x, v := range above {
				row[x] = clip(int32(v) + d)
			}
		}
	default:
		sum, count := 0, 0
		if top {
			for _, v := range above {
				sum += int(v)
			}
			count += n
		}
		if left {
			for y := range n {
				sum += int(pix[at+y*stride-1])
			}
			count += n
		}
		mean := uint8(128)
		if count > 0 {
			mean = uint8((sum + count/2) / count)
		}
		for y := range n {
			fill(pix[at+y*stride:][:n], mean)
		}
	}
}

func fill(row []uint8, v uint8) {
	w := uint64(v) * 0x0101010101010101
	for len(row) >= 8 {
		binary.LittleEndian.PutUint64(row, w)
		row = row[8:]
	}
}

// small predicts a block of 4 x 4 at pix[at]. right are the four samples above it to the right.
func small(mode uint8, pix []uint8, at, stride int, right uint32) {
	above := pix[at-stride-1:][:5]
	p, a0, a1, a2, a3 := uint32(above[0]), uint32(above[1]), uint32(above[2]), uint32(above[3]), uint32(above[4])
	a4, a5, a6, a7 := right&255, right>>8&255, right>>16&255, right>>24
	l0, l1, l2, l3 := uint32(pix[at-1]), uint32(pix[at+stride-1]), uint32(pix[at+2*stride-1]), uint32(pix[at+3*stride-1])
	// r is a row, its first sample lowest.
	put := func(y int, r uint32) { binary.LittleEndian.PutUint32(pix[at+y*stride:], r) }
	row := func(a, b, c, d uint32) uint32 { return a | b<<8 | c<<16 | d<<24 }
	switch mode {
	case predictDC:
		v := (a0 + a1 + a2 + a3 + l0 + l1 + l2 + l3 + 4) >> 3 * 0x01010101
		put(0, v)
		put(1, v)
		put(2, v)
		put(3, v)
	case predictTM:
		for y, l := range [4]uint32{l0, l1, l2, l3} {
			d := int32(l) - int32(p)
			put(y, row(uint32(clip(int32(a0)+d)), uint32(clip(int32(a1)+d)), uint32(clip(int32(a2)+d)), uint32(clip(int32(a3)+d))))
		}
	case predictVE:
		v := row(mean3(p, a0, a1), mean3(a0, a1, a2), mean3(a1, a2, a3), mean3(a2, a3, a4))
		put(0, v)
		put(1, v)
		put(2, v)
		put(3, v)
	case predictHE:
		put(0, mean3(p, l0, l1)*0x01010101)
		put(1, mean3(l0, l1, l2)*0x01010101)
		put(2, mean3(l1, l2, l3)*0x01010101)
		put(3, mean3(l2, l3, l3)*0x01010101)
	case predictLD:
		b, c, d := mean3(a1, a2, a3), mean3(a2, a3, a4), mean3(a3, a4, a5)
		e, f := mean3(a4, a5, a6), mean3(a5, a6, a7)
		put(0, row(mean3(a0, a1, a2), b, c, d))
		put(1, row(b, c, d, e))
		put(2, row(c, d, e, f))
		put(3, row(d, e, f, mean3(a6, a7, a7)))
	case predictRD:
		b, c, d := mean3(l2, l1, l0), mean3(l1, l0, p), mean3(l0, p, a0)
		e, f := mean3(p, a0, a1), mean3(a0, a1, a2)
		put(0, row(d, e, f, mean3(a1, a2, a3)))
		put(1, row(c, d, e, f))
		put(2, row(b, c, d, e))
		put(3, row(mean3(l3, l2, l1), b, c, d))
	case predictVR:
		b, c, d := mean2(p, a0), mean2(a0, a1), mean2(a1, a2)
		e, f, g := mean3(l0, p, a0), mean3(p, a0, a1), mean3(a0, a1, a2)
		put(0, row(b, c, d, mean2(a2, a3)))
		put(1, row(e, f, g, mean3(a1, a2, a3)))
		put(2, row(mean3(l1, l0, p), b, c, d))
		put(3, row(mean3(l2, l1, l0), e, f, g))
	case predictVL:
		b, c, d := mean2(a1, a2), mean2(a2, a3), mean2(a3, a4)
		e, f, g := mean3(a1, a2, a3), mean3(a2, a3, a4), mean3(a3, a4, a5)
		put(0, row(mean2(a0, a1), b, c, d))
		put(1, row(mean3(a0, a1, a2), e, f, g))
		put(2, row(b, c, d, mean3(a4, a5, a6)))
		put(3, row(e, f, g, mean3(a5, a6, a7)))
	case predictHD:
		b, c := mean2(l0, p), mean3(l0, p, a0)
		d, e := mean2(l1, l0), mean3(l1, l0, p)
		f, g := mean2(l2, l1), mean3(l2, l1, l0)
		put(0, row(b, c, mean3(p, a0, a1), mean3(a0, a1, a2)))
		put(1, row(d, e, b, c))
		put(2, row(f, g, d, e))
		put(3, row(mean2(l3, l2), mean3(l3, l2, l1), f, g))
	default:
		b, c := mean2(l1, l2), mean3(l1, l2, l3)
		d, e := mean2(l2, l3), mean3(l2, l3, l3)
		put(0, row(mean2(l0, l1), mean3(l0, l1, l2), b, c))
		put(1, row(b, c, d, e))
		put(2, row(d, e, l3, l3))
		put(3, l3*0x01010101)
	}
}

func mean2(a, b uint32) uint32    { return (a + b + 1) >> 1 }
func mean3(a, b, c uint32) uint32 { return (a + 2*b + c + 2) >> 2 }
