package pngrows

import "encoding/binary"

const (
	low7  = 0x7f7f7f7f7f7f7f7f
	high1 = 0x8080808080808080
)

// add adds eight bytes to eight bytes, each without carrying into the next.
func add(a, b uint64) uint64 { return (a&low7 + b&low7) ^ (a^b)&high1 }

// unfilter undoes the filter of a row: of the filtered bytes raw and the row above, prior, it makes row. All have the same
// length, a multiple of pixel, how many bytes a pixel has (1 if that is less). It tells whether there is such a filter.
func unfilter(filter uint8, row, raw, prior []uint8, pixel int) bool {
	raw, prior = raw[:len(row)], prior[:len(row)]
	switch filter {
	case 0:
		copy(row, raw)
	case 1:
		sub(row, raw, pixel)
	case 2:
		up(row, raw, prior)
	case 3:
		average(row, raw, prior, pixel)
	case 4:
		switch pixel {
		case 3:
			paeth3(row, raw, prior)
		case 4:
			paeth4(row, raw, prior)
		default:
			paeth(row, raw, prior, pixel)
		}
	default:
		return false
	}
	return true
}

func up(row, raw, prior []uint8) {
	for len(row) >= 8 && len(raw) >= 8 && len(prior) >= 8 {
		binary.LittleEndian.PutUint64(row, add(binary.LittleEndian.Uint64(raw), binary.LittleEndian.Uint64(prior)))
		row, raw, prior = row[8:], raw[8:], prior[8:]
	}
	raw, prior = raw[:len(row)], prior[:len(row)]
	for i := range row {
		row[i] = raw[i] + prior[i]
	}
}

func sub(row, raw []uint8, pixel int) {
	switch pixel {
	case 1:
		var a uint8
		raw = raw[:len(row)]
		for i := range row {
			a += raw[i]
			row[i] = a
		}
	case 3:
		var a, b, c uint8
		for len(row) >= 3 && len(raw) >= 3 {
			a += raw[0]
			b += raw[1]
			c += raw[2]
			row[0], row[1], row[2] = a, b, c
			row, raw = row[3:], raw[3:]
		}
	case 4:
		var a uint32
		for len(row) >= 4 && len(raw) >= 4 {
			b := binary.LittleEndian.Uint32(raw)
			a = (a&0x7f7f7f7f + b&0x7f7f7f7f) ^ (a^b)&0x80808080
			binary.LittleEndian.PutUint32(row, a)
			row, raw = row[4:], raw[4:]
		}
	default:
		copy(row[:pixel], raw)
		for i := pixel; i < len(row); i++ {
			row[i] = raw[i] + row[i-pixel]
		}
	}
}

func average(row, raw, prior []uint8, pixel int) {
	switch pixel {
	case 3:
		var a, b, c uint32
		for len(row) >= 3 && len(raw) >= 3 && len(prior) >= 3 {
			a = uint32(raw[0]) + (a&255+uint32(prior[0]))>>1
			b = uint32(raw[1]) + (b&255+uint32(prior[1]))>>1
			c = uint32(raw[2]) + (c&255+uint32(prior[2]))>>1
			row[0], row[1], row[2] = uint8(a), uint8(b), uint8(c)
			row, raw, prior = row[3:], raw[3:], prior[3:]
		}
	case 4:
		var a, b, c, d uint32
		for len(row) >= 4 && len(raw) >= 4 && len(prior) >= 4 {
			a = uint32(raw[0]) + (a&255+uint32(prior[0]))>>1
			b = uint32(raw[1]) + (b&255+uint32(prior[1]))>>1
			c = uint32(raw[2]) + (c&255+uint32(prior[2]))>>1
			d = uint32(raw[3]) + (d&255+uint32(prior[3]))>>1
			row[0], row[1], row[2], row[3] = uint8(a), uint8(b), uint8(c), uint8(d)
			row, raw, prior = row[4:], raw[4:], prior[4:]
		}
	default:
		for i := range row {
			left := 0
			if i >= pixel {
				left = int(row[i-pixel])
			}
			row[i] = raw[i] + uint8((left+int(prior[i]))/2)
		}
	}
}

// predict is Paeth's choice of left, above and the one left above, in the form that needs no absolute values: of left and above the lesser,
// the greater, or the third, as the third lies with respect to both.
func predict(left, above, corner int) int {
	lo, hi := min(left, above), max(left, above)
	t := 3*corner - left - above
	p := corner
	if hi <= t {
		p = lo
	}
	if t <= lo {
		p = hi
	}
	return p
}

func paeth3(row, raw, prior []uint8) {
	var a0, a1, a2, c0, c1, c2 int
	for len(row) >= 3 && len(raw) >= 3 && len(prior) >= 3 {
		b0, b1, b2 := int(prior[0]), int(prior[1]), int(prior[2])
		a0 = (int(raw[0]) + predict(a0, b0, c0)) & 255
		a1 = (int(raw[1]) + predict(a1, b1, c1)) & 255
		a2 = (int(raw[2]) + predict(a2, b2, c2)) & 255
		row[0], row[1], row[2] = uint8(a0), uint8(a1), uint8(a2)
		c0, c1, c2 = b0, b1, b2
		row, raw, prior = row[3:], raw[3:], prior[3:]
	}
}

func paeth4(row, raw, prior []uint8) {
	var a0, a1, a2, a3, c0, c1, c2, c3 int
	for len(row) >= 4 && len(raw) >= 4 && len(prior) >= 4 {
		b0, b1, b2, b3 := int(prior[0]), int(prior[1]), int(prior[2]), int(prior[3])
		a0 = (int(raw[0]) + predict(a0, b0, c0)) & 255
		a1 = (int(raw[1]) + predict(a1, b1, c1)) & 255
		a2 = (int(raw[2]) + predict(a2, b2, c2)) & 255
		a3 = (int(raw[3]) + predict(a3, b3, c3)) & 255
		row[0], row[1], row[2], row[3] = uint8(a0), uint8(a1), uint8(a2), uint8(a3)
		c0, c1, c2, c3 = b0, b1, b2, b3
		row, raw, prior = row[4:], raw[4:], prior[4:]
	}
}

func paeth(row, raw, prior []uint8, pixel int) {
	for i := range row {
		left, corner := 0, 0
		if i >= pixel {
			left, corner = int(row[i-pixel]), int(prior[i-pixel])
		}
		row[i] = raw[i] + uint8(predict(left, int(prior[i]), corner))
	}
}
