package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"time"
	"unicode/utf8"
)

// MessagePack as msgpack-python reads and writes it with use_bin_type=True, raw=False:
//
//	ints to 64 bits, signed or unsigned; floats of 32 and 64 bits, written as 64
//	str is UTF-8, bin is bytes; a map's keys are str
//	extension -1, a timestamp, is read (as a datetime in UTC) and never written; no other is known
//
// Written forms are the shortest, as Python's. What Python cannot write fails here too: dates,
// decimals, UUIDs, sets, ints beyond 64 bits, lone surrogates.

func appendMsgpack(dst []byte, v Value) ([]byte, error) {
	out, err := packValue(dst, v, DefaultDepth)
	if err != nil {
		return dst, err
	}
	return out, nil
}

func packValue(b []byte, v Value, left int) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, 0xc0), nil
	case bool:
		if v {
			return append(b, 0xc3), nil
		}
		return append(b, 0xc2), nil
	case int64:
		return packInt(b, v), nil
	case *big.Int:
		switch {
		case v == nil:
		case v.IsInt64():
			return packInt(b, v.Int64()), nil
		case v.IsUint64():
			return binary.BigEndian.AppendUint64(append(b, 0xcf), v.Uint64()), nil
		}
		return nil, &EncodeError{Err: errors.New("Integer value out of range")} //nolint:staticcheck // Python's text
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v)), nil
	case string:
		return packString(b, v)
	case []byte:
		if len(v) > math.MaxUint32 {
			return nil, &EncodeError{Err: errors.New("bytes object is too large")}
		}
		return append(packLength(b, len(v), 0, 0, 0xc4), v...), nil
	case []Value:
		if left == 0 {
			return nil, &EncodeError{Err: errDeepValue}
		}
		b = packLength(b, len(v), 0x90, 16, 0xdc-1)
		var err error
		for i, e := range v {
			if b, err = packValue(b, e, left-1); err != nil {
				return nil, within(fmt.Sprintf("[%d]", i), err)
			}
		}
		return b, nil
	case *Object:
		if left == 0 {
			return nil, &EncodeError{Err: errDeepValue}
		}
		b = packLength(b, v.Len(), 0x80, 16, 0xde-1)
		var err error
		for _, m := range v.Members() {
			if b, err = packString(b, m.Key); err != nil {
				return nil, err
			}
			if b, err = packValue(b, m.Value, left-1); err != nil {
				return nil, within("."+clip(m.Key), err)
			}
		}
		return b, nil
	}
	return nil, &EncodeError{Err: fmt.Errorf("can not serialize '%s' object", pyType(v))}
}

func packInt(b []byte, n int64) []byte {
	switch {
	case n >= 0 && n < 0x80, n < 0 && n >= -0x20:
		return append(b, byte(n))
	case n >= 0 && n <= math.MaxUint8:
		return append(b, 0xcc, byte(n))
	case n >= 0 && n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(n))
	case n >= 0 && n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(n))
	case n >= 0:
		return binary.BigEndian.AppendUint64(append(b, 0xcf), uint64(n))
	case n >= math.MinInt8:
		return append(b, 0xd0, byte(n))
	case n >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

func packString(b []byte, s string) ([]byte, error) {
	switch {
	case !utf8.ValidString(s):
		return nil, &EncodeError{Err: errNotText}
	case len(s) > math.MaxUint32:
		return nil, &EncodeError{Err: errors.New("unicode string is too large")}
	}
	return append(packLength(b, len(s), 0xa0, 32, 0xd9), s...), nil
}

// packLength writes a length: in the tag itself when below fixed, else after long (8 bits), long+1
// (16) or long+2 (32). Lists and maps have no 8-bit form: theirs starts one lower and is skipped.
func packLength(b []byte, n int, fix byte, fixed int, long byte) []byte {
	switch {
	case n < fixed:
		return append(b, fix|byte(n))
	case n <= math.MaxUint8 && fixed != 16:
		return append(b, long, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, long+1), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, long+2), uint32(n))
}

func parseMsgpack(data []byte, l Limits) (Value, error) {
	u := unpacker{data: data, left: l.depth(), budget: l.values()}
	v, err := u.value()
	if err == nil && u.i < len(data) {
		err = errJSONExtra
	}
	if err != nil {
		return nil, &DecodeError{Part: "msgpack", Err: fmt.Errorf("byte %d: %w", u.i, err)}
	}
	return v, nil
}

// An unpacker reads one value. No length it reads sizes anything before that many bytes are there.
type unpacker struct {
	data []byte
	i    int
	left int // levels of nesting still allowed

	budget int // values still allowed
}

// take returns the next n bytes.
func (u *unpacker) take(n uint64) ([]byte, error) {
	if n > uint64(len(u.data)-u.i) {
		return nil, io.ErrUnexpectedEOF
	}
	b := u.data[u.i : u.i+int(n)]
	u.i += int(n)
	return b, nil
}

// number reads an unsigned integer of n bytes.
func (u *unpacker) number(n uint64) (uint64, error) {
	b, err := u.take(n)
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v, err
}

func (u *unpacker) value() (Value, error) {
	if u.budget--; u.budget < 0 {
		return nil, errValues
	}
	tag, err := u.number(1)
	if err != nil {
		return nil, err
	}
	switch {
	case tag < 0x80:
		return int64(tag), nil
	case tag < 0x90:
		return u.dict(tag & 15)
	case tag < 0xa0:
		return u.list(tag & 15)
	case tag < 0xc0:
		return u.text(tag & 31)
	case tag >= 0xe0:
		return int64(int8(tag)), nil
	}
	switch tag {
	case 0xc0:
		return nil, nil
	case 0xc2, 0xc3:
		return tag == 0xc3, nil
	case 0xca:
		n, err := u.number(4)
		return float64(math.Float32frombits(uint32(n))), err
	case 0xcb:
		n, err := u.number(8)
		return math.Float64frombits(n), err
	case 0xcc, 0xcd, 0xce, 0xcf:
		n, err := u.number(1 << (tag - 0xcc))
		if n > math.MaxInt64 {
			return new(big.Int).SetUint64(n), err
		}
		return int64(n), err
	case 0xd0, 0xd1, 0xd2, 0xd3:
		size := uint64(1) << (tag - 0xd0)
		n, err := u.number(size)
		shift := 64 - 8*size
		return int64(n<<shift) >> shift, err
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		return u.extension(1 << (tag - 0xd4))
	}
	// Everything else starts with a length of 1, 2 or 4 bytes.
	size := uint64(4)
	switch tag {
	case 0xc1:
		u.i--
		return nil, errors.New("byte 0xc1 is never used")
	case 0xc4, 0xc7, 0xd9:
		size = 1
	case 0xc5, 0xc8, 0xda, 0xdc, 0xde:
		size = 2
	}
	n, err := u.number(size)
	if err != nil {
		return nil, err
	}
	switch tag {
	case 0xc4, 0xc5, 0xc6:
		b, err := u.take(n)
		return append(make([]byte, 0, len(b)), b...), err
	case 0xc7, 0xc8, 0xc9:
		return u.extension(n)
	case 0xd9, 0xda, 0xdb:
		return u.text(n)
	case 0xdc, 0xdd:
		return u.list(n)
	}
	return u.dict(n)
}

func (u *unpacker) text(n uint64) (Value, error) {
	b, err := u.take(n)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(b) {
		return nil, errJSONUTF8
	}
	return string(b), nil
}

// enter begins a container of n elements of at least size bytes each.
func (u *unpacker) enter(n, size uint64) error {
	if u.left == 0 {
		return errDepth
	}
	if n > uint64(len(u.data)-u.i)/size {
		return io.ErrUnexpectedEOF
	}
	if u.budget -= containerCost; n > uint64(max(u.budget, 0)) {
		return errValues
	}
	u.left--
	return nil
}

func (u *unpacker) list(n uint64) (Value, error) {
	if err := u.enter(n, 1); err != nil {
		return nil, err
	}
	list := make([]Value, 0, min(n, 64))
	for range n {
		v, err := u.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	u.left++
	return list, nil
}

func (u *unpacker) dict(n uint64) (Value, error) {
	if err := u.enter(n, 2); err != nil {
		return nil, err
	}
	o := &Object{members: make([]Member, 0, min(n, 16))}
	for range n {
		k, err := u.value()
		if err != nil {
			return nil, err
		}
		key, ok := k.(string)
		if !ok {
			return nil, fmt.Errorf("%s is not allowed for map key, only str", pyType(k))
		}
		v, err := u.value()
		if err != nil {
			return nil, err
		}
		o.Set(key, v)
	}
	u.left++
	return o, nil
}

func (u *unpacker) extension(n uint64) (Value, error) {
	kind, err := u.number(1)
	if err != nil {
		return nil, err
	}
	if int8(kind) != -1 {
		return nil, fmt.Errorf("unknown extension %d", int8(kind))
	}
	var seconds int64
	var nanos uint64
	switch n {
	case 4:
		s, e := u.number(4)
		seconds, err = int64(s), e
	case 8:
		x, e := u.number(8)
		nanos, seconds, err = x>>34, int64(x&(1<<34-1)), e
	case 12:
		if nanos, err = u.number(4); err == nil {
			var s uint64
			s, err = u.number(8)
			seconds = int64(s)
		}
	default:
		return nil, fmt.Errorf("timestamp of %d bytes", n)
	}
	// The years that Python's datetime holds, 1 to 9999.
	if err == nil && (nanos > 999999999 || seconds < -62135596800 || seconds > 253402300799) {
		err = errors.New("timestamp out of range")
	}
	return DateTime{Time: time.Unix(seconds, int64(nanos)).UTC().Truncate(time.Microsecond)}, err
}
