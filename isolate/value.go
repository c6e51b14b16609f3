package isolate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// Both ends are the same program, so values cross in a form of their own that keeps each of protocol's types as it is:
// one byte for the type, then
//
//	n t f          None, True, False
//	i              int64, zigzag varint
//	I D            big integer, Decimal: text
//	d              float64, 8 bytes
//	s b            string, bytes: length, bytes
//	l S            list, set: length, values
//	o              object: length, then key and value of each member
//	T              datetime: naive, time.Time's own form as bytes
//	Y H U          date, time of day, UUID
const (
	tagNone, tagTrue, tagFalse          = 'n', 't', 'f'
	tagInt, tagBig, tagFloat            = 'i', 'I', 'd'
	tagString, tagBytes, tagDecimal     = 's', 'b', 'D'
	tagList, tagSet, tagObject          = 'l', 'S', 'o'
	tagDateTime, tagDate, tagTime, tagU = 'T', 'Y', 'H', 'U'
)

// depthMax bounds nesting; messages nest 400 deep at most.
const depthMax = 5000

var errDamaged = errors.New("isolate: a frame between worker and child is damaged")

// appendValue appends v. It fails only for what is no Value, or is nested without end.
func appendValue(b []byte, v protocol.Value, depth int) ([]byte, error) {
	if depth > depthMax {
		return nil, fmt.Errorf("isolate: a value is nested more than %d deep", depthMax)
	}
	switch v := v.(type) {
	case nil:
		return append(b, tagNone), nil
	case bool:
		if v {
			return append(b, tagTrue), nil
		}
		return append(b, tagFalse), nil
	case int64:
		return binary.AppendVarint(append(b, tagInt), v), nil
	case *big.Int:
		return appendText(append(b, tagBig), v.String()), nil
	case float64:
		return binary.BigEndian.AppendUint64(append(b, tagFloat), math.Float64bits(v)), nil
	case string:
		return appendText(append(b, tagString), v), nil
	case []byte:
		return appendText(append(b, tagBytes), v), nil
	case protocol.Decimal:
		return appendText(append(b, tagDecimal), string(v)), nil
	case []protocol.Value:
		return appendList(append(b, tagList), v, depth)
	case protocol.Set:
		return appendList(append(b, tagSet), v, depth)
	case *protocol.Object:
		b = binary.AppendUvarint(append(b, tagObject), uint64(v.Len()))
		var err error
		for _, m := range v.Members() {
			if b, err = appendValue(appendText(b, m.Key), m.Value, depth+1); err != nil {
				return nil, err
			}
		}
		return b, nil
	case protocol.DateTime:
		naive := byte(0)
		if v.Naive {
			naive = 1
		}
		t, err := v.Time.MarshalBinary()
		if err != nil {
			return nil, fmt.Errorf("isolate: %w", err)
		}
		return appendText(append(b, tagDateTime, naive), t), nil
	case protocol.Date:
		b = append(b, tagDate)
		for _, n := range []int{v.Year, int(v.Month), v.Day} {
			b = binary.AppendVarint(b, int64(n))
		}
		return b, nil
	case protocol.TimeOfDay:
		b = append(b, tagTime)
		for _, n := range []int{v.Hour, v.Minute, v.Second, v.Microsecond} {
			b = binary.AppendVarint(b, int64(n))
		}
		if v.Offset == nil {
			return append(b, tagFalse), nil
		}
		return binary.AppendVarint(append(b, tagTrue), int64(*v.Offset)), nil
	case protocol.UUID:
		return append(append(b, tagU), v[:]...), nil
	}
	return nil, fmt.Errorf("isolate: a %T is no value", v)
}

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendList(b []byte, list []protocol.Value, depth int) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(list)))
	var err error
	for _, v := range list {
		if b, err = appendValue(b, v, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// readValue reads the one value that b is.
func readValue(b []byte) (protocol.Value, error) {
	r := valueReader{b}
	v, err := r.value(0)
	if err == nil && len(r.b) > 0 {
		err = errDamaged
	}
	return v, err
}

// A valueReader is what is left to read. No length in it sizes anything before as many bytes are there.
type valueReader struct{ b []byte }

func (r *valueReader) value(depth int) (protocol.Value, error) {
	if len(r.b) == 0 || depth > depthMax {
		return nil, errDamaged
	}
	tag := r.b[0]
	r.b = r.b[1:]
	switch tag {
	case tagNone:
		return nil, nil
	case tagTrue:
		return true, nil
	case tagFalse:
		return false, nil
	case tagInt:
		return r.int()
	case tagBig:
		s, err := r.bytes()
		n, ok := new(big.Int).SetString(string(s), 10)
		if err != nil || !ok {
			return nil, errDamaged
		}
		return n, nil
	case tagFloat:
		if len(r.b) < 8 {
			return nil, errDamaged
		}
		f := math.Float64frombits(binary.BigEndian.Uint64(r.b))
		r.b = r.b[8:]
		return f, nil
	case tagString:
		s, err := r.bytes()
		return string(s), err
	case tagBytes:
		s, err := r.bytes()
		return append([]byte{}, s...), err
	case tagDecimal:
		s, err := r.bytes()
		return protocol.Decimal(s), err
	case tagList:
		return r.list(depth)
	case tagSet:
		list, err := r.list(depth)
		return protocol.Set(list), err
	case tagObject:
		return r.object(depth)
	case tagDateTime:
		return r.dateTime()
	case tagDate:
		n, err := r.ints(3)
		return protocol.Date{Year: n[0], Month: time.Month(n[1]), Day: n[2]}, err
	case tagTime:
		n, err := r.ints(4)
		if err != nil || len(r.b) == 0 {
			return nil, errDamaged
		}
		t := protocol.TimeOfDay{Hour: n[0], Minute: n[1], Second: n[2], Microsecond: n[3]}
		there := r.b[0] == tagTrue
		r.b = r.b[1:]
		if there {
			offset, err := r.ints(1)
			if err != nil {
				return nil, err
			}
			t.Offset = &offset[0]
		}
		return t, nil
	case tagU:
		var u protocol.UUID
		if copy(u[:], r.b) < len(u) {
			return nil, errDamaged
		}
		r.b = r.b[len(u):]
		return u, nil
	}
	return nil, errDamaged
}

func (r *valueReader) int() (int64, error) {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		return 0, errDamaged
	}
	r.b = r.b[size:]
	return n, nil
}

func (r *valueReader) ints(n int) ([]int, error) {
	out := make([]int, n)
	for i := range out {
		v, err := r.int()
		if err != nil {
			return out, err
		}
		out[i] = int(v)
	}
	return out, nil
}

// length reads the length of something whose every element takes a byte or more.
func (r *valueReader) length() (int, error) {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > uint64(len(r.b)-size) {
		return 0, errDamaged
	}
	r.b = r.b[size:]
	return int(n), nil
}

func (r *valueReader) bytes() ([]byte, error) {
	n, err := r.length()
	if err != nil {
		return nil, err
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s, nil
}

func (r *valueReader) list(depth int) ([]protocol.Value, error) {
	n, err := r.length()
	if err != nil {
		return nil, err
	}
	out := make([]protocol.Value, 0, min(n, 4096))
	for range n {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (r *valueReader) object(depth int) (protocol.Value, error) {
	n, err := r.length()
	if err != nil {
		return nil, err
	}
	o := &protocol.Object{}
	for range n {
		key, err := r.bytes()
		if err != nil {
			return nil, err
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o.Set(string(key), v)
	}
	return o, nil
}

func (r *valueReader) dateTime() (protocol.Value, error) {
	if len(r.b) == 0 {
		return nil, errDamaged
	}
	naive := r.b[0] == 1
	r.b = r.b[1:]
	s, err := r.bytes()
	if err != nil {
		return nil, err
	}
	var t time.Time
	if t.UnmarshalBinary(s) != nil {
		return nil, errDamaged
	}
	if t.Location() == time.Local { // the form tells UTC and offsets; ours may be the same offset as the local zone
		_, offset := t.Zone()
		t = t.In(time.FixedZone("", offset))
	}
	return protocol.DateTime{Time: t, Naive: naive}, nil
}
