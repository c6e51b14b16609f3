package images

import (
	"context"
)

// Lanczos-3 reduction in two passes, as Pillow's Image.resize(LANCZOS) does it: the kernel is widened by
// the reduction factor, taps outside the picture are dropped and the rest weighted to one. Weights are
// 16-bit fixed point; between the passes a sample keeps 6 bits below the point.
const (
	lobes      = 3
	weightBits = 16
	middleBits = 6
	middleMax  = 255 << middleBits
	checkRows  = 64 // rows between two looks at the context
)

// A plane is samples in rows: one channel, or several interleaved. A row is produced when it is asked for, so
// that what must be converted (a palette, 16 bits, alpha) never exists twice as a whole.
//
// Sample x covers the pixels [x*perX, (x+1)*perX) of the source, which need not be whole, and the last one may stick
// out beyond the picture's edge. Where a decoder reduced by taking means, boxX and boxY say of how many samples of the plane as it
// would be at full size each is the mean (the last of what is left); the kernel makes up for that. 0 is 1.
type plane struct {
	w, h, channels int
	perX, perY     float64
	boxX, boxY     int
	dct            bool                                 // the boxes are those of a JPEG's blocks, which are no means: see dctSpline
	row            func(y int, scratch []uint8) []uint8 // w*channels samples; may return scratch or the picture's own memory
}

// resample reduces (or enlarges) the plane to w times h by the two kernels. It returns the cause when ctx ends.
func resample(ctx context.Context, p plane, kx, ky kernel, w, h int) ([]uint8, error) {
	r := resampler{
		p: p, kx: kx, ky: ky, w: w, h: h,
		scratch: make([]uint8, p.w*p.channels),
		out:     make([]uint8, w*h*p.channels),
	}
	if ky.widened {
		return r.out, r.reduce(ctx)
	}
	return r.out, r.enlarge(ctx)
}

type resampler struct {
	p       plane
	kx, ky  kernel
	w, h    int
	scratch []uint8
	out     []uint8
}

// reduce adds each source row, once narrowed, to the few output rows it belongs to.
func (r *resampler) reduce(ctx context.Context) error {
	width := r.w * r.p.channels
	pair := newPair(r, width)
	var free, active [][]int32 // active[i] gathers output row done+i
	done := 0
	last := int(r.ky.first[r.h-1] + r.ky.count[r.h-1])
	for y := int(r.ky.first[0]); y < last; y++ {
		if y%checkRows == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for done+len(active) < r.h && int(r.ky.first[done+len(active)]) <= y {
			if len(free) == 0 {
				free = append(free, make([]int32, width))
			}
			acc := free[len(free)-1]
			free = free[:len(free)-1]
			clear(acc)
			active = append(active, acc)
		}
		if len(active) == 0 {
			continue
		}
		middle := pair.row(y, last)
		for i, acc := range active {
			o := done + i
			tap := y - int(r.ky.first[o])
			if tap >= int(r.ky.count[o]) {
				continue
			}
			weight := r.ky.weight[o*r.ky.stride+tap]
			acc = acc[:len(middle)]
			for x, v := range middle {
				acc[x] += v * weight
			}
		}
		for len(active) > 0 && y+1 >= int(r.ky.first[done]+r.ky.count[done]) {
			r.finish(done, active[0])
			free = append(free, active[0])
			active = append(active[:0], active[1:]...)
			done++
		}
	}
	return nil
}

// enlarge keeps the few source rows an output row needs: when rows grow in number, many outputs want the same one.
func (r *resampler) enlarge(ctx context.Context) error {
	width := r.w * r.p.channels
	acc := make([]int32, width)
	ring := make([][]int32, r.ky.stride)
	for i := range ring {
		ring[i] = make([]int32, width)
	}
	next := int(r.ky.first[0]) // the first source row not yet narrowed
	for o := range r.h {
		if o%checkRows == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		first, count := int(r.ky.first[o]), int(r.ky.count[o])
		for next = max(next, first); next < first+count; next++ {
			r.narrow(next, ring[next%len(ring)])
		}
		clear(acc)
		for tap := range count {
			weight := r.ky.weight[o*r.ky.stride+tap]
			row := ring[(first+tap)%len(ring)][:len(acc)]
			for x := range acc {
				acc[x] += row[x] * weight
			}
		}
		r.finish(o, acc)
	}
	return nil
}

func (r *resampler) finish(o int, acc []int32) {
	const shift = weightBits + middleBits
	out := r.out[o*len(acc):][:len(acc)]
	for x, v := range acc {
		out[x] = uint8(min(max((v+1<<(shift-1))>>shift, 0), 255))
	}
}

// narrow is the horizontal pass over source row y.
func (r *resampler) narrow(y int, dst []int32) {
	row := r.p.row(y, r.scratch)
	switch r.p.channels {
	case 1:
		narrow1(&r.kx, row, dst)
	case 3:
		narrow3(&r.kx, row, dst)
	default:
		narrow4(&r.kx, row, dst)
	}
}

// middle rounds a horizontal sum. It clamps as Pillow does: what overshoots here must not overshoot twice.
func middle(acc int32) int32 {
	const shift = weightBits - middleBits
	return min(max((acc+1<<(shift-1))>>shift, 0), middleMax)
}

func narrow1(k *kernel, row []uint8, dst []int32) {
	for i := range dst {
		px := row[k.first[i]:][:k.count[i]]
		weight := k.weight[i*k.stride:][:len(px)]
		var a, b, c, d int32
		for len(px) >= 4 && len(weight) >= 4 {
			a += int32(px[0]) * weight[0]
			b += int32(px[1]) * weight[1]
			c += int32(px[2]) * weight[2]
			d += int32(px[3]) * weight[3]
			px, weight = px[4:], weight[4:]
		}
		for j, w := range weight {
			a += int32(px[j]) * w
		}
		dst[i] = middle(a + b + c + d)
	}
}

func narrow3(k *kernel, row []uint8, dst []int32) {
	for i := range len(dst) / 3 {
		px := row[3*k.first[i]:][:3*k.count[i]]
		weight := k.weight[i*k.stride:][:k.count[i]]
		var a, b, c int32
		for _, w := range weight {
			if len(px) < 3 {
				break
			}
			a += int32(px[0]) * w
			b += int32(px[1]) * w
			c += int32(px[2]) * w
			px = px[3:]
		}
		out := dst[3*i:][:3]
		out[0], out[1], out[2] = middle(a), middle(b), middle(c)
	}
}

func narrow4(k *kernel, row []uint8, dst []int32) {
	for i := range len(dst) / 4 {
		px := row[4*k.first[i]:][:4*k.count[i]]
		weight := k.weight[i*k.stride:][:k.count[i]]
		var a, b, c, d int32
		for _, w := range weight {
			if len(px) < 4 {
				break
			}
			a += int32(px[0]) * w
			b += int32(px[1]) * w
			c += int32(px[2]) * w
			d += int32(px[3]) * w
			px = px[4:]
		}
		out := dst[4*i:][:4]
		out[0], out[1], out[2], out[3] = middle(a), middle(b), middle(c), middle(d)
	}
}
