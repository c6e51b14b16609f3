package images

// A pair narrows two rows of one channel at once: sample x of both stands in one 64-bit word, 32 bits each, so that
// one multiplication by a weight serves both. The sums are exactly those of narrow1, in half the multiplications.
type pair struct {
	r             *resampler
	first, second []int32
	words         []uint64
	scratch       []uint8
	ahead         int // the row that second holds; -1: none
}

func newPair(r *resampler, width int) *pair {
	p := &pair{r: r, first: make([]int32, width), ahead: -1}
	if r.p.channels == 1 {
		p.second = make([]int32, width)
		p.words = make([]uint64, r.p.w)
		p.scratch = make([]uint8, r.p.w)
	}
	return p
}

// row is row y narrowed, valid until the next call. Rows come in order and end before last.
func (p *pair) row(y, last int) []int32 {
	if p.ahead == y {
		return p.second
	}
	if p.words == nil || y+1 >= last {
		p.r.narrow(y, p.first)
		return p.first
	}
	upper, lower := p.r.p.row(y+1, p.scratch), p.r.p.row(y, p.r.scratch)
	words := p.words
	upper, lower = upper[:len(words)], lower[:len(words)]
	for x := range words {
		words[x] = uint64(upper[x])<<32 | uint64(lower[x])
	}
	narrowPair(&p.r.kx, words, p.first, p.second)
	p.ahead = y + 1
	return p.first
}

// narrowPair sums words: a word times a weight is both products, and what a negative lower sum borrowed from
// the upper is given back at the end. A sum has at most 26 bits.
func narrowPair(k *kernel, words []uint64, first, second []int32) {
	second = second[:len(first)]
	for i := range first {
		px := words[k.first[i]:][:k.count[i]]
		weight := k.weight[i*k.stride:][:len(px)]
		var a, b, c, d uint64
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
		sum := a + b + c + d
		lower := int32(uint32(sum))
		first[i] = middle(lower)
		second[i] = middle(int32(uint32((sum - uint64(int64(lower))) >> 32)))
	}
}
