package rabbitmq

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
)

// Header tables and Values, both ways. py-amqp is the other reader, so what we write is what it writes:
//
//	nil V   bool t   float64 d   string, []byte S   []Value A   *Object F   DateTime T (seconds, in UTC)
//	Decimal D where it fits, else its text in S
//	int64   I within 32 bits, l beyond, L when also negative (mendOutbound)
//	*big.Int beyond 64 bits: its digits in S, as no field type holds it
//
// Anything else is an *protocol.EncodeError. The driver keeps tables in Go maps: the order of keys is
// lost, and what we return is sorted.

const (
	maxShort = 255 // an AMQP short string
	maxDepth = protocol.DefaultDepth
)

var errDeep = errors.New("nested too deep")

// tableOf encodes o.
func tableOf(o *protocol.Object) (amqp.Table, error) { return tableAt("", o, 0) }

func tableAt(part string, o *protocol.Object, depth int) (amqp.Table, error) {
	if depth > maxDepth {
		return nil, &protocol.EncodeError{Part: part, Err: errDeep}
	}
	t := make(amqp.Table, o.Len())
	for _, m := range o.Members() {
		at := part + "." + m.Key
		if len(m.Key) > maxShort {
			return nil, &protocol.EncodeError{Part: part, Err: fmt.Errorf("a key of %d bytes, AMQP has room for %d", len(m.Key), maxShort)}
		}
		v, err := fieldOf(at, m.Value, depth)
		if err != nil {
			return nil, err
		}
		t[m.Key] = v
	}
	return t, nil
}

func fieldOf(part string, v protocol.Value, depth int) (any, error) {
	switch v := v.(type) {
	case nil, bool, float64, string:
		return v, nil
	case int64:
		if v > math.MinInt32 && v <= math.MaxInt32 {
			return int32(v), nil
		}
		return v, nil
	case *big.Int:
		if v == nil {
			return nil, nil
		}
		if v.IsInt64() {
			return fieldOf(part, v.Int64(), depth)
		}
		return v.String(), nil
	case []byte:
		return string(v), nil
	case *protocol.Object:
		return tableAt(part, v, depth+1)
	case []protocol.Value:
		if depth >= maxDepth {
			return nil, &protocol.EncodeError{Part: part, Err: errDeep}
		}
		list := make([]any, len(v))
		for i, e := range v {
			f, err := fieldOf(part+"["+strconv.Itoa(i)+"]", e, depth+1)
			if err != nil {
				return nil, err
			}
			list[i] = f
		}
		return list, nil
	case protocol.DateTime:
		return v.Time, nil
	case protocol.Decimal:
		if d, ok := decimalOf(string(v)); ok {
			return d, nil
		}
		return string(v), nil
	}
	return nil, &protocol.EncodeError{Part: part, Err: fmt.Errorf("AMQP headers hold no %T", v)}
}

// decimalOf is the AMQP form of plain digits with a point, of 32 bits and up to 255 decimals.
func decimalOf(s string) (amqp.Decimal, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole+fraction, 10, 32)
	if err != nil || len(fraction) > 255 || whole == "" || whole == "-" || strings.HasPrefix(s, "+") {
		return amqp.Decimal{}, false
	}
	if n == 0 && s[0] == '-' {
		return amqp.Decimal{}, false // the sign would be lost
	}
	return amqp.Decimal{Scale: uint8(len(fraction)), Value: int32(n)}, true
}

// tableSize is how many bytes t takes on the wire, its length included.
func tableSize(t amqp.Table) int {
	n := 4
	for k, v := range t {
		n += 1 + len(k) + fieldLength(v)
	}
	return n
}

func fieldLength(v any) int {
	switch v := v.(type) {
	case nil:
		return 1
	case bool, int8, byte:
		return 2
	case int16, uint16:
		return 3
	case int32, uint32, float32:
		return 5
	case amqp.Decimal:
		return 6
	case string:
		return 5 + len(v)
	case []byte:
		return 5 + len(v)
	case amqp.Table:
		return 1 + tableSize(v)
	case []any:
		n := 5
		for _, e := range v {
			n += fieldLength(e)
		}
		return n
	}
	return 9
}

// objectOf decodes what the driver read. Any int becomes an int64, text that is not UTF-8 (nor Python's
// form of lone surrogates) bytes.
func objectOf(t amqp.Table) *protocol.Object {
	o := &protocol.Object{}
	for _, k := range slices.Sorted(maps.Keys(t)) {
		o.Set(k, valueOf(t[k]))
	}
	return o
}

func valueOf(f any) protocol.Value {
	switch f := f.(type) {
	case int8:
		return int64(f)
	case byte:
		return int64(f)
	case int16:
		return int64(f)
	case uint16:
		return int64(f)
	case int32:
		return int64(f)
	case uint32:
		return int64(f)
	case int:
		return int64(f)
	case float32:
		return float64(f)
	case string:
		if !isText(f) {
			return []byte(f)
		}
		return f
	case time.Time:
		return timeOf(f)
	case amqp.Decimal:
		return decimalText(f)
	case amqp.Table:
		return objectOf(f)
	case []any:
		list := make([]protocol.Value, len(f))
		for i, e := range f {
			list[i] = valueOf(e)
		}
		return list
	}
	return f // nil, bool, int64, float64, []byte
}

// timeOf is Python's reading of a timestamp: a naive datetime in UTC. One outside of Python's calendar stays a number.
func timeOf(t time.Time) protocol.Value {
	t = t.UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		return t.Unix()
	}
	return protocol.DateTime{Time: t, Naive: true}
}

func decimalText(d amqp.Decimal) protocol.Decimal {
	digits := strconv.FormatInt(int64(d.Value), 10)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	if d.Scale == 0 {
		return protocol.Decimal(sign + digits)
	}
	scale := int(d.Scale)
	if missing := scale + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	return protocol.Decimal(sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:])
}

// isText reports whether s is UTF-8, allowing the three-byte surrogates (ED A0..BF xx) of Python's surrogatepass.
func isText(s string) bool {
	if utf8.ValidString(s) {
		return true
	}
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			if len(s) < 3 || s[0] != 0xED || s[1]&0xE0 != 0xA0 || s[2]&0xC0 != 0x80 {
				return false
			}
			n = 3
		}
		s = s[n:]
	}
	return true
}
