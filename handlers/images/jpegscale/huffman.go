package jpegscale

// The tables of one Huffman code. Beside the code itself there are tables which answer with more than one symbol's
// length; each is made when a scan first needs it.
const (
	lookBits  = 9  // of look: nearly all codes are as short
	valueBits = 11 // of value: code and value of small coefficients
	skipBits  = 12 // of skip: two symbols and more
)

// An entry of skip is  advance<<5 | length : so many coefficients and bits further. Of advance:
const (
	skipEnd  = 128  // added: the block has ended
	skipMiss = 1024 // the code is longer than the index
)

// An entry of value is  coefficient<<16 | run<<8 | length . Of run:
const valueEnd = 64 // the block has ended

type huffman struct {
	counts  [16]uint8
	symbols [256]uint8

	ready    bool                  // first is built
	look     [1 << lookBits]uint16 // length<<8 | symbol; 0: a longer code, or none
	longer   [17]uint32            // by length: the first code that is longer, shifted to 16 bits
	offset   [17]int32             // by length: what, added to a code, is the index of its symbol
	hasValue bool
	value    [1 << valueBits]int32 // 0: to be read by look
	hasSkip  bool
	skip     [1 << skipBits]uint16
}

// build makes the code. It returns false for counts that no code has.
func (h *huffman) build() bool {
	if h.ready {
		return true
	}
	clear(h.look[:])
	code, at := uint32(0), 0
	for length := 1; length <= 16; length++ {
		n := int(h.counts[length-1])
		if at+n > 256 || int(code)+n > 1<<length {
			return false
		}
		h.offset[length] = int32(at) - int32(code)
		if length <= lookBits {
			for i := range n {
				entry := uint16(length)<<8 | uint16(h.symbols[at+i])
				first := (int(code) + i) << (lookBits - length)
				for j := range 1 << (lookBits - length) {
					h.look[first+j] = entry
				}
			}
		}
		code += uint32(n)
		at += n
		h.longer[length] = code << (16 - length)
		code <<= 1
	}
	h.ready = true
	return true
}

// symbol reads one code; b holds 16 bits or more. length 0: there is no such code.
func (h *huffman) symbol(b bits) (symbol uint8, length uint) {
	if e := h.look[b.acc>>(64-lookBits)]; e != 0 {
		return uint8(e), uint(e >> 8)
	}
	top := uint32(b.acc >> 48)
	for length := uint(lookBits + 1); length <= 16; length++ {
		if top < h.longer[length] {
			return h.symbols[uint8(int32(top>>(16-length))+h.offset[length])], length
		}
	}
	return 0, 0
}

// receive reads a value of size bits (0 to 15) as JPEG writes them; b holds as many.
func receive(b bits, size uint) int32 {
	if size == 0 {
		return 0
	}
	v := int32(b.acc >> (64 - size&63))
	if b.acc>>63 == 0 {
		v += -1<<size + 1
	}
	return v
}

// buildValue fills the table value, for the codes of DC differences or those of AC coefficients.
func (h *huffman) buildValue(dc bool) {
	if h.hasValue {
		return
	}
	h.hasValue = true
	for i := range h.value {
		b := bits{acc: uint64(i) << (64 - valueBits)}
		symbol, length := h.symbol(b)
		h.value[i] = 0
		run, size := uint(symbol>>4), uint(symbol&15)
		switch {
		case length == 0 || length > valueBits:
			continue
		case dc:
			run, size = 0, uint(symbol)
			if size > 15 {
				continue
			}
		case symbol == 0:
			run = valueEnd
		case size == 0 && run < 15: // the end of several blocks
			continue
		}
		if length+size > valueBits {
			continue
		}
		v := receive(b.drop(length), size)
		h.value[i] = v<<16 | int32(run)<<8 | int32(length+size)
	}
}

// buildSkip fills the table skip: as many whole symbols as the index has room for. A symbol whose value sticks out is
// taken when it is the first.
func (h *huffman) buildSkip() {
	if h.hasSkip {
		return
	}
	h.hasSkip = true
	// One symbol for each index: advance<<8 | length with value, and whether the code is within.
	var single [1 << skipBits]uint16
	for i := range single {
		symbol, length := h.symbol(bits{acc: uint64(i) << (64 - skipBits)})
		if length == 0 || length > skipBits {
			continue
		}
		run, size := uint16(symbol>>4), uint16(symbol&15)
		if size == 0 && run < 15 {
			run = skipEnd - 1
		}
		single[i] = (run+1)<<8 | uint16(length) + size
	}
	for i := range h.skip {
		advance, length := uint16(0), uint16(0)
		for length < skipBits {
			e := single[i<<length&(1<<skipBits-1)]
			n := e & 0xff
			// The bits behind the index are not known: a symbol must end within, unless it is the first.
			if e == 0 || length > 0 && length+n > skipBits || advance+e>>8 > 63 && e>>8 < skipEnd {
				break
			}
			advance += e >> 8
			length += n
			if advance >= skipEnd {
				break
			}
		}
		if length == 0 {
			h.skip[i] = skipMiss << 5
		} else {
			h.skip[i] = advance<<5 | length
		}
	}
}

// The tables of annex K of the standard, which files without tables (frames of MJPEG) mean.
var standardDC, standardAC = [2][]byte{
	append([]byte{0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
	append([]byte{0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
}, [2][]byte{
	{
		0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d,
		0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
		0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0,
		0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28,
		0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
		0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
		0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
		0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
		0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5,
		0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
		0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
		0xf9, 0xfa,
	},
	{
		0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77,
		0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
		0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0,
		0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26,
		0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
		0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
		0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
		0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
		0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
		0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
		0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
		0xf9, 0xfa,
	},
}

// set takes a table as DHT holds it: sixteen counts and the symbols.
func (h *huffman) set(data []byte) {
	copy(h.counts[:], data[:16])
	clear(h.symbols[:])
	copy(h.symbols[:], data[16:])
	h.ready, h.hasValue, h.hasSkip = false, false, false
}
