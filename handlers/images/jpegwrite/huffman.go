package jpegwrite

// A histogram counts symbols.
type histogram [257]int64

// A code is the Huffman code of each symbol that occurs: its bits, and how many.
type code struct {
	bits [256]uint16
	size [256]uint8

	counts [17]uint8 // codes of each length
	order  []uint8   // symbols by length, as a DHT segment lists them
}

// maxLength is the longest code of a JPEG.
const maxLength = 16

// optimal makes the code that is shortest for the histogram, of no more than 16 bits each and none of ones alone: the
// method of the standard's annex K.2. It uses up h.
func optimal(h *histogram) *code {
	var (
		length [257]int
		others [257]int // the next symbol of the same subtree, or -1
	)
	for i := range others {
		others[i] = -1
	}
	h[256] = 1 // takes the code of ones alone
	for {
		a, b := -1, -1 // the two rarest
		for i, n := range h {
			switch {
			case n == 0:
			case a < 0 || n <= h[a]:
				a, b = i, a
			case b < 0 || n <= h[b]:
				b = i
			}
		}
		if b < 0 {
			break
		}
		h[a] += h[b]
		h[b] = 0
		for length[a]++; others[a] >= 0; length[a]++ {
			a = others[a]
		}
		others[a] = b
		for length[b]++; others[b] >= 0; length[b]++ {
			b = others[b]
		}
	}
	var counts [258]int
	for _, n := range length {
		counts[n]++
	}
	counts[0] = 0
	for i := len(counts) - 1; i > maxLength; i-- {
		for counts[i] > 0 { // a pair moves up: one to where their common prefix ended, one beside another code that grows
			j := i - 2
			for counts[j] == 0 {
				j--
			}
			counts[i] -= 2
			counts[i-1]++
			counts[j+1] += 2
			counts[j]--
		}
	}
	last := maxLength
	for counts[last] == 0 {
		last--
	}
	counts[last]-- // the code of ones alone

	c := &code{}
	for n := 1; n < len(counts); n++ {
		for symbol := range 256 {
			if length[symbol] == n {
				c.order = append(c.order, uint8(symbol))
			}
		}
	}
	next, at := uint16(0), 0
	for n := 1; n <= maxLength; n++ {
		c.counts[n] = uint8(counts[n])
		for range counts[n] {
			symbol := c.order[at]
			c.bits[symbol], c.size[symbol] = next, uint8(n)
			next++
			at++
		}
		next <<= 1
	}
	return c
}

// write writes the code as a table for DC (class 0) or AC (1).
func (c *code) write(out *output, class, table int) {
	payload := append([]byte{byte(class<<4 | table)}, c.counts[1:]...)
	out.segment(0xc4, append(payload, c.order...)...)
}
