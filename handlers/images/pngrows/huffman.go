package pngrows

import "math/bits"

// The tables of a block's two codes, and of the one that tells their lengths. An index is the next bits of the input.
const (
	litBits, distBits, preBits = 11, 8, 7
	litTotal, distTotal        = 12, 10 // the logarithm of the whole: no code has more entries, second tables included, than 2342 and 402
)

// An entry:
//
//	bits 0-5    how many bits the code has, or the codes together
//	bits 6-7    how many literals it stands for, which are in bits 8-15, 16-23 and 24-31; if none:
//	bits 8-11   how many extra bits follow; or how many bits index the second table
//	bits 12-14  flags
//	bits 16-31  the least length or distance, the symbol, or where the second table starts
const (
	literals   = 3 << 6
	longer     = 1 << 12
	endOfBlock = 1 << 13
	invalid    = 1 << 14
)

type tables struct {
	lit     [1 << litTotal]uint32
	dist    [1 << distTotal]uint32
	pre     [1 << preBits]uint32
	isFixed bool
}

var (
	lengthBase = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthMore = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}

	// What a symbol's entry says beside the length of its code.
	litEntry, distEntry, preEntry = func() (lit, dist, pre []uint32) {
		for i := range uint32(256) {
			lit = append(lit, 1<<6|i<<8)
		}
		lit = append(lit, endOfBlock)
		for i, base := range lengthBase {
			lit = append(lit, uint32(base)<<16|uint32(lengthMore[i])<<8)
		}
		lit = append(lit, invalid, invalid)
		for i := range uint32(30) {
			more := max(i/2, 1) - 1
			base := 1 + i
			if i >= 4 {
				base = 1 + (2+i&1)<<more
			}
			dist = append(dist, base<<16|more<<8)
		}
		dist = append(dist, invalid, invalid)
		for i := range uint32(19) {
			pre = append(pre, i<<16)
		}
		return lit, dist, pre
	}()
)

// build fills a table of the code whose symbols have the lengths given, and tells whether there is such a code: no lengths
// that together are more than there is room for, nor, unless it is one code of one bit or none at all, less.
func build(table []uint32, mainBits int, lengths []uint8, entries []uint32) bool {
	var count, next [17]int
	for _, l := range lengths {
		count[l]++
	}
	count[0] = 0
	longest, left := 0, 1
	for l := 1; l <= 15; l++ {
		left = left<<1 - count[l]
		if left < 0 {
			return false
		}
		if count[l] > 0 {
			longest = l
		}
		next[l+1] = next[l] + count[l]
	}
	if left > 0 && longest > 1 {
		return false
	}
	main := table[:1<<mainBits]
	if left > 0 {
		for i := range main {
			main[i] = invalid
		}
	}
	var sorted [288]uint16
	at := next
	for s, l := range lengths {
		if l != 0 {
			sorted[at[l]] = uint16(s)
			at[l]++
		}
	}
	// Codes in order of length: those of length l fill the first 2^l entries, which are doubled for the next length.
	code, n := 0, 0 // code is reversed
	filled := 1
	for l := 1; l <= min(longest, mainBits); l++ {
		if left == 0 && l > 1 && filled > 1 {
			copy(main[filled:2*filled], main[:filled])
		}
		filled = 1 << l
		for range count[l] {
			e := entries[sorted[n]] | uint32(l)
			n++
			if left > 0 { // incomplete: one code of one bit
				for i := code; i < len(main); i += 1 << l {
					main[i] = e
				}
			} else {
				main[code] = e
			}
			code = increment(code, l)
		}
	}
	if left == 0 {
		for ; filled < len(main) && longest <= mainBits; filled *= 2 {
			copy(main[filled:2*filled], main[:filled])
		}
	}
	// Longer codes: a second table for each beginning they share.
	used, start, prefix, width := len(main), 0, -1, 0
	for l := mainBits + 1; l <= longest; l++ {
		for remain := count[l]; remain > 0; remain-- {
			if code&(len(main)-1) != prefix {
				prefix = code & (len(main) - 1)
				// As wide as the codes left with this beginning need.
				width = l - mainBits
				room := 1<<width - remain
				for m := l + 1; room > 0 && m <= longest; m++ {
					width++
					room = room<<1 - count[m]
				}
				start = used
				used += 1 << width
				if used > len(table) {
					return false
				}
				main[prefix] = longer | uint32(start)<<16 | uint32(width)<<8
			}
			e := entries[sorted[n]] | uint32(l)
			n++
			for i := code >> mainBits; i < 1<<width; i += 1 << (l - mainBits) {
				table[start+i] = e
			}
			code = increment(code, l)
		}
	}
	return true
}

// increment adds one to the code of l bits that stands reversed, its highest bit lowest. Past the last code it is what the next length starts with.
func increment(code, l int) int {
	free := ^code & (1<<l - 1)
	if free == 0 {
		return code
	}
	top := 1 << (bits.Len(uint(free)) - 1)
	return code&(top-1) | top
}

// pairs lets an entry of a literal stand for the next one or two as well where their codes fit into the index.
func (t *tables) pairs() {
	for i := 1<<litBits - 1; i >= 0; i-- { // downwards: what is looked up below is still one literal
		e := t.lit[i]
		if e&literals == 0 {
			continue
		}
		n := e & 63
		second := t.lit[i>>n]
		m := second & 63
		if second&literals == 0 || n+m > litBits {
			continue
		}
		e = e&0xff00 | second<<8&0xff0000 | 2<<6 | (n + m)
		if third := t.lit[i>>(n+m)]; third&literals != 0 && n+m+third&63 <= litBits {
			e = e&0xffff00 | third<<16&0xff000000 | 3<<6 | (n + m + third&63)
		}
		t.lit[i] = e
	}
}

// fixed makes the tables of the code that needs no telling.
func (t *tables) fixed() {
	if t.isFixed {
		return
	}
	var l [288]uint8
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	build(t.lit[:], litBits, l[:], litEntry)
	var d [32]uint8
	for i := range d {
		d[i] = 5
	}
	build(t.dist[:], distBits, d[:], distEntry)
	t.pairs()
	t.isFixed = true
}
