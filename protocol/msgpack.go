package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// MessagePack as msgpack-python reads and writes it with use_bin_type=True, raw=False:
//
//	ints to 64 bits, signed or unsigned; floats of 32 and 64 bits, written as 64
//	str is UTF-8, bin is bytes; a map's keys are str
//	extension -1, a timestamp, is read (as a datetime in UTC) and never written; no other is known
//
// Written forms are the shortest, as Python's. What Python cannot write fails here too: dates,
// decimals, UUIDs, sets, ints beyond 64 bits, lone surrogates.
//
// The library reads and writes the single elements. What they add up to is decided here, because its own
// Decode makes other Go types, takes keys of any type, and knows no limit of depth or of values.

func appendMsgpack(dst []byte, v Value) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	p := packer{msgpack.NewEncoder(buf)}
	if err := p.value(v, DefaultDepth); err != nil {
		return dst, err
	}
	return buf.Bytes(), nil
}

type packer struct{ *msgpack.Encoder }

// value writes v, which may nest left levels deep.
func (p packer) value(v Value, left int) error {
	switch v := v.(type) {
	case nil:
		return p.EncodeNil()
	case bool:
		return p.EncodeBool(v)
	case int64:
		return p.EncodeInt(v)
	case *big.Int:
		switch {
		case v == nil:
		case v.IsInt64():
			return p.EncodeInt(v.Int64())
		case v.IsUint64():
			return p.EncodeUint(v.Uint64())
		}
		//lint:ignore ST1005 Python's text
		return &EncodeError{Err: errors.New("Integer value out of range")}
	case float64:
		return p.EncodeFloat64(v)
	case string:
		return p.text(v)
	case []byte:
		if len(v) > math.MaxUint32 {
			return &EncodeError{Err: errors.New("bytes object is too large")}
		}
		if v == nil {
			v = []byte{} // the library writes None for a nil slice
		}
		return p.EncodeBytes(v)
	case []Value:
		if left == 0 {
			return &EncodeError{Err: errDeepValue}
		}
		if err := p.EncodeArrayLen(len(v)); err != nil {
			return err
		}
		for i, e := range v {
			if err := p.value(e, left-1); err != nil {
				return within(fmt.Sprintf("[%d]", i), err)
			}
		}
		return nil
	case *Object:
		if left == 0 {
			return &EncodeError{Err: errDeepValue}
		}
		if err := p.EncodeMapLen(v.Len()); err != nil {
			return err
		}
		for _, m := range v.Members() {
			if err := p.text(m.Key); err != nil {
				return err
			}
			if err := p.value(m.Value, left-1); err != nil {
				return within("."+clip(m.Key), err)
			}
		}
		return nil
	}
	return &EncodeError{Err: fmt.Errorf("can not serialize '%s' object", TypeName(v))}
}

func (p packer) text(s string) error {
	switch {
	case !utf8.ValidString(s):
		return &EncodeError{Err: errNotText}
	case len(s) > math.MaxUint32:
		return &EncodeError{Err: errors.New("unicode string is too large")}
	}
	return p.EncodeString(s)
}

func parseMsgpack(data []byte, l Limits) (Value, error) {
	r := bytes.NewReader(data)
	u := unpacker{Decoder: msgpack.NewDecoder(r), r: r, data: data, left: l.depth(), budget: l.values()}
	v, err := u.value()
	if err == nil && r.Len() > 0 {
		err = errJSONExtra
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, &DecodeError{Part: "msgpack", Err: fmt.Errorf("byte %d: %w", len(data)-r.Len(), err)}
	}
	return v, nil
}

// An unpacker reads one value. No length it reads sizes anything before that many bytes are there.
type unpacker struct {
	*msgpack.Decoder               // reads from r, unbuffered
	r                *bytes.Reader // over data
	data             []byte

	left   int // levels of nesting still allowed
	budget int // values still allowed
}

func (u *unpacker) value() (Value, error) {
	if u.budget--; u.budget < 0 {
		return nil, errValues
	}
	code, err := u.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case msgpcode.IsFixedNum(code):
		return u.DecodeInt64()
	case msgpcode.IsString(code):
		return u.text()
	case msgpcode.IsBin(code):
		b, err := u.raw()
		return append(make([]byte, 0, len(b)), b...), err
	case msgpcode.IsFixedArray(code):
		return u.list()
	case msgpcode.IsFixedMap(code):
		return u.dict()
	case msgpcode.IsExt(code):
		return u.extension()
	}
	switch code {
	case msgpcode.Nil:
		return nil, u.DecodeNil()
	case msgpcode.False, msgpcode.True:
		return u.DecodeBool()
	case msgpcode.Float, msgpcode.Double:
		return u.DecodeFloat64()
	case msgpcode.Uint64:
		n, err := u.DecodeUint64()
		if n > math.MaxInt64 {
			return new(big.Int).SetUint64(n), err
		}
		return int64(n), err
	case msgpcode.Uint8, msgpcode.Uint16, msgpcode.Uint32, msgpcode.Int8, msgpcode.Int16, msgpcode.Int32, msgpcode.Int64:
		return u.DecodeInt64()
	case msgpcode.Array16, msgpcode.Array32:
		return u.list()
	case msgpcode.Map16, msgpcode.Map32:
		return u.dict()
	}
	return nil, fmt.Errorf("byte %#x is never used", code)
}

// raw reads the bytes of a str or bin: a part of data, not a copy. (DecodeBytes would allocate what the
// length claims.)
func (u *unpacker) raw() ([]byte, error) {
	n, err := u.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > u.r.Len() { // below 0: an int of 32 bits cannot hold it
		return nil, io.ErrUnexpectedEOF
	}
	start := len(u.data) - u.r.Len()
	_, err = u.r.Seek(int64(n), io.SeekCurrent)
	return u.data[start : start+n], err
}

func (u *unpacker) text() (Value, error) {
	b, err := u.raw()
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(b) {
		return nil, errJSONUTF8
	}
	return string(b), nil
}

// enter begins a container of n elements of at least size bytes each.
func (u *unpacker) enter(n, size int) error {
	if u.left == 0 {
		return errDepth
	}
	if n < 0 || n > u.r.Len()/size {
		return io.ErrUnexpectedEOF
	}
	if u.budget -= containerCost; n > u.budget {
		return errValues
	}
	u.left--
	return nil
}

func (u *unpacker) list() (Value, error) {
	n, err := u.DecodeArrayLen()
	if err != nil {
		return nil, err
	}
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

func (u *unpacker) dict() (Value, error) {
	n, err := u.DecodeMapLen()
	if err != nil {
		return nil, err
	}
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
			return nil, fmt.Errorf("%s is not allowed for map key, only str", TypeName(k))
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

func (u *unpacker) extension() (Value, error) {
	kind, n, err := u.DecodeExtHeader()
	if err != nil {
		return nil, err
	}
	if kind != -1 {
		return nil, fmt.Errorf("unknown extension %d", kind)
	}
	if n != 4 && n != 8 && n != 12 {
		return nil, fmt.Errorf("timestamp of %d bytes", uint32(n))
	}
	var b [12]byte
	if err := u.ReadFull(b[:n]); err != nil {
		return nil, err
	}
	var seconds int64
	var nanos uint64
	switch n {
	case 4:
		seconds = int64(binary.BigEndian.Uint32(b[:]))
	case 8:
		x := binary.BigEndian.Uint64(b[:])
		nanos, seconds = x>>34, int64(x&(1<<34-1))
	case 12:
		nanos, seconds = uint64(binary.BigEndian.Uint32(b[:])), int64(binary.BigEndian.Uint64(b[4:]))
	}
	// The years that Python's datetime holds, 1 to 9999.
	if nanos > 999999999 || seconds < -62135596800 || seconds > 253402300799 {
		return nil, errors.New("timestamp out of range")
	}
	return DateTime{Time: time.Unix(seconds, int64(nanos)).UTC().Truncate(time.Microsecond)}, nil
}
