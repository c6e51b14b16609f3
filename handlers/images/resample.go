package images

import "github.com/stalkworker/stalk/handlers/images/jpegscale"

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

// A resampler makes one reduced (or enlarged) plane of rows that are pushed into it, top to bottom.
//
// Rows are narrowed two at a time: sample x of both stands in one 64-bit word, 32 bits each, so that one multiplication by a weight
// serves both.
type resampler struct {
	channels int
	kx, ky   kernel
	w, h     int
	out      []uint8

	y             int // the row that comes next
	last          int // of the rows, the first that is not wanted
	half          bool
	shift         uint   // from a horizontal sum to middleBits
	bias          uint64 // what a horizontal sum begins with
	words         []uint64
	first, second []int32

	free, active [][]int32 // active[i] gathers output row done+i, when rows are reduced
	ring         [][]int32 // the last narrowed rows, when they are enlarged
	done         int
}

// newResampler makes one for rows of so many samples and channels, that come as bytes (deep: as stage has them).
func newResampler(samples, channels int, deep bool, kx, ky kernel, to size) *resampler {
	width := to.w * channels
	r := &resampler{
		channels: channels, kx: kx, ky: ky, w: to.w, h: to.h,
		out:   make([]uint8, to.w*to.h*channels),
		last:  int(ky.first[to.h-1] + ky.count[to.h-1]),
		shift: weightBits - middleBits,
		words: make([]uint64, samples*channels),
		first: make([]int32, width), second: make([]int32, width),
	}
	if deep {
		r.shift += deepBits
	}
	if !ky.widened {
		r.ring = make([][]int32, ky.stride+1)
		for i := range r.ring {
			r.ring[i] = make([]int32, width)
		}
	}
	return r
}

// fromFine tells that rows are made of those of a JPEG that was decoded reduced, which have fewer bits below the point than
// those of stages, and are all of FineZero too large.
func (r *resampler) fromFine() {
	const zero = uint64(jpegscale.FineZero) << (jpegscale.FineBits + weightBits)
	r.shift = weightBits + jpegscale.FineBits - middleBits
	r.bias -= zero<<32 + zero
}

// wants tells whether the next row is needed: to be pushed then, else to be skipped.
func (r *resampler) wants() bool { return r.y >= int(r.ky.first[0]) && r.y < r.last }

func (r *resampler) skip() { r.y++ }

func push[T uint8 | uint16](r *resampler, row []T) {
	words := r.words
	row = row[:len(words)]
	if !r.half {
		for x, v := range row {
			words[x] = uint64(v)
		}
		r.half = true
		if r.y++; r.y == r.last {
			r.flush()
		}
		return
	}
	for x, v := range row {
		words[x] |= uint64(v) << 32
	}
	r.y++
	r.flush()
}

// flush narrows the one or two rows that wait, and adds them to the output.
func (r *resampler) flush() {
	switch r.channels {
	case 1:
		narrow1(&r.kx, r.words, r.first, r.second, r.shift, r.bias)
	case 3:
		narrow3(&r.kx, r.words, r.first, r.second, r.shift)
	default:
		narrow4(&r.kx, r.words, r.first, r.second, r.shift)
	}
	r.half = false
	// With an odd row left over the upper half of the words is zero, and so is the second row, which has no weight anywhere.
	n := 2 - (r.y-int(r.ky.first[0]))%2
	if r.ring != nil {
		for i, row := range [][]int32{r.first, r.second}[:n] {
			r.enlarge(r.y-n+i, row)
		}
		return
	}
	r.reduce(r.y - n)
}

// weight is that of source row y in output row o.
func (r *resampler) weight(o, y int) int32 {
	if tap := y - int(r.ky.first[o]); tap >= 0 && tap < int(r.ky.count[o]) {
		return r.ky.weight[o*r.ky.stride+tap]
	}
	return 0
}

// reduce adds rows y and y+1 to the few output rows they belong to.
func (r *resampler) reduce(y int) {
	for o := r.done + len(r.active); o < r.h && int(r.ky.first[o]) <= y+1; o++ {
		if len(r.free) == 0 {
			r.free = append(r.free, make([]int32, len(r.first)))
		}
		acc := r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
		clear(acc)
		r.active = append(r.active, acc)
	}
	first, second := r.first, r.second[:len(r.first)]
	for i, acc := range r.active {
		v, w := r.weight(r.done+i, y), r.weight(r.done+i, y+1)
		acc = acc[:len(first)]
		for x, a := range first {
			acc[x] += a*v + second[x]*w
		}
	}
	for len(r.active) > 0 && y+2 >= int(r.ky.first[r.done]+r.ky.count[r.done]) {
		r.finish(r.done, r.active[0])
		r.free = append(r.free, r.active[0])
		r.active = append(r.active[:0], r.active[1:]...)
		r.done++
	}
}

// enlarge keeps the few source rows an output row needs: when rows grow in number, many outputs want the same one.
func (r *resampler) enlarge(y int, row []int32) {
	copy(r.ring[y%len(r.ring)], row)
	for ; r.done < r.h && int(r.ky.first[r.done]+r.ky.count[r.done]) <= y+1; r.done++ {
		if len(r.free) == 0 {
			r.free = append(r.free, make([]int32, len(row)))
		}
		acc := r.free[0]
		clear(acc)
		first := int(r.ky.first[r.done])
		for tap := range int(r.ky.count[r.done]) {
			weight := r.ky.weight[r.done*r.ky.stride+tap]
			for x, v := range r.ring[(first+tap)%len(r.ring)][:len(acc)] {
				acc[x] += v * weight
			}
		}
		r.finish(r.done, acc)
	}
}

func (r *resampler) finish(o int, acc []int32) {
	const shift = weightBits + middleBits
	out := r.out[o*len(acc):][:len(acc)]
	for x, v := range acc {
		out[x] = uint8(min(max((v+1<<(shift-1))>>shift, 0), 255))
	}
}

// halves takes a sum of words apart: what a negative lower sum borrowed from the upper is given back. A sum has at most 31 bits.
// They are rounded, and clamped as Pillow does: what overshoots here must not overshoot twice.
func halves(sum uint64, shift uint) (lower, upper int32) {
	l := int32(uint32(sum))
	u := int32(uint32((sum - uint64(int64(l))) >> 32))
	round := int32(1) << (shift - 1&31)
	return min(max((l+round)>>(shift&31), 0), middleMax), min(max((u+round)>>(shift&31), 0), middleMax)
}

func narrow1(k *kernel, words []uint64, first, second []int32, shift uint, bias uint64) {
	second = second[:len(first)]
	for i := range first {
		px := words[k.first[i]:][:k.count[i]]
		weight := k.weight[i*k.stride:][:len(px)]
		a := bias
		var b, c, d uint64
		for len(px) >= 4 && len(weight) >= 4 {
			a += px[0] * uint64(int64(weight[0]))
			b += px[1] * uint64(int64(weight[1]))
			c += px[2] * uint64(int64(weight[2]))
			d += px[3] * uint64(int64(weight[3]))
			px, weight = px[4:], weight[4:]
		}
		for j, w := range weight {
			a += px[j] * uint64(int64(w))
		}
		first[i], second[i] = halves(a+b+c+d, shift)
	}
}

func narrow3(k *kernel, words []uint64, first, second []int32, shift uint) {
	for i := range len(first) / 3 {
		px := words[3*k.first[i]:][:3*k.count[i]]
		weight := k.weight[i*k.stride:][:k.count[i]]
		var a, b, c uint64
		for len(px) >= 6 && len(weight) >= 2 {
			v, w := uint64(int64(weight[0])), uint64(int64(weight[1]))
			a += px[0]*v + px[3]*w
			b += px[1]*v + px[4]*w
			c += px[2]*v + px[5]*w
			px, weight = px[6:], weight[2:]
		}
		if len(px) >= 3 && len(weight) >= 1 {
			v := uint64(int64(weight[0]))
			a += px[0] * v
			b += px[1] * v
			c += px[2] * v
		}
		f, s := first[3*i:][:3], second[3*i:][:3]
		f[0], s[0] = halves(a, shift)
		f[1], s[1] = halves(b, shift)
		f[2], s[2] = halves(c, shift)
	}
}

func narrow4(k *kernel, words []uint64, first, second []int32, shift uint) {
	for i := range len(first) / 4 {
		px := words[4*k.first[i]:][:4*k.count[i]]
		weight := k.weight[i*k.stride:][:k.count[i]]
		var a, b, c, d uint64
		for len(px) >= 4 && len(weight) >= 1 {
			w := uint64(int64(weight[0]))
			a += px[0] * w
			b += px[1] * w
			c += px[2] * w
			d += px[3] * w
			px, weight = px[4:], weight[1:]
		}
		f, s := first[4*i:][:4], second[4*i:][:4]
		f[0], s[0] = halves(a, shift)
		f[1], s[1] = halves(b, shift)
		f[2], s[2] = halves(c, shift)
		f[3], s[3] = halves(d, shift)
	}
}
