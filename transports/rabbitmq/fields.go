package rabbitmq

import "encoding/binary"

// The driver's own bounds: past them it drops the connection.
const (
	maxNesting  = 32
	maxElements = 8192
)

// A direction says what a walk over a table changes.
type direction int

const (
	inbound direction = iota
	outbound
)

// fieldSize is the length of a field's value; 0 for one that has a length of its own, nothing, or is unknown.
var fieldSize = [256]int{
	't': 1, 'b': 1, 'B': 1, 's': 2, 'u': 2, 'U': 2, 'I': 4, 'i': 4, 'f': 4, 'l': 8, 'L': 8, 'd': 8, 'T': 8, 'D': 5,
}

// walkTable goes through the entries of a table and mends them in place. depth is 1 for the headers themselves.
func walkTable(p []byte, depth int, d direction) error {
	for n := 0; len(p) > 0; n++ {
		key := 1 + int(p[0])
		if n == maxElements && d == inbound || key >= len(p) {
			return errMalformed
		}
		size, err := walkField(p[key:], depth, d)
		if err != nil {
			return err
		}
		p = p[key+size:]
	}
	return nil
}

func walkArray(p []byte, depth int, d direction) error {
	for n := 0; len(p) > 0; n++ {
		if n == maxElements && d == inbound {
			return errMalformed
		}
		size, err := walkField(p, depth, d)
		if err != nil {
			return err
		}
		p = p[size:]
	}
	return nil
}

// walkField mends the field that p, not empty, begins with, and returns its length.
func walkField(p []byte, depth int, d direction) (int, error) {
	typ := p[0]
	switch typ {
	case 'V':
		return 1, nil
	case 'S', 'x', 'A', 'F':
		if len(p) < 5 {
			return 0, errMalformed
		}
		n := binary.BigEndian.Uint32(p[1:])
		if uint64(n) > uint64(len(p)-5) {
			return 0, errMalformed
		}
		walkNested(p[:5+int(n)], depth+1, d)
		return 5 + int(n), nil
	}
	size := fieldSize[typ]
	if size == 0 || len(p) < 1+size {
		return 0, errMalformed
	}
	switch {
	case d == inbound && typ == 'L':
		p[0] = 'l'
	case d == inbound && typ == 'U':
		p[0] = 's'
	case d == outbound && typ == 'l' && p[1]&0x80 != 0:
		p[0] = 'L'
	}
	return 1 + size, nil
}

// walkNested mends a table or array inside a table. One that cannot be mended keeps its bytes as a byte
// array: the length in front of them is the same.
func walkNested(field []byte, depth int, d direction) {
	walk := walkTable
	switch field[0] {
	case 'F':
	case 'A':
		walk = walkArray
	default:
		return
	}
	if d == inbound && depth > maxNesting+1 || walk(field[5:], depth, d) != nil {
		if d == inbound {
			field[0] = 'x'
		}
	}
}
