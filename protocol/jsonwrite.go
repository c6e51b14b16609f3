package protocol

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// What is written is, byte for byte, what kombu.utils.json.dumps writes: ", " and ": ", ASCII only,
// floats as repr prints them, NaN and the infinities as words, typed objects for what JSON lacks.

// AppendJSON appends v as Python's json.dumps (through Kombu) would write it. An *EncodeError names
// what cannot be written; dst then comes back as it was.
func AppendJSON(dst []byte, v Value) ([]byte, error) {
	out, err := appendJSON(dst, v, DefaultDepth)
	if err != nil {
		return dst, err
	}
	return out, nil
}

var (
	errDeepValue = fmt.Errorf("maximum recursion depth exceeded: %w", ErrTooLarge)
	errNotText   = errors.New("text is not valid UTF-8")
	errReserved  = errors.New(`a dict of just "__type__" and "__value__" is reserved: no reader would take it`)
	//lint:ignore ST1005 Python's text
	errIntTooLong = fmt.Errorf("Exceeds the limit (%d digits) for integer string conversion", maxIntDigits)
)

func appendJSON(b []byte, v Value, left int) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case string:
		return appendJSONString(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case *Object:
		return appendJSONObject(b, v, left)
	case []Value:
		return appendList(b, v, left, appendJSON)
	case float64:
		switch {
		case v != v:
			return append(b, "NaN"...), nil
		case math.IsInf(v, 1):
			return append(b, "Infinity"...), nil
		case math.IsInf(v, -1):
			return append(b, "-Infinity"...), nil
		}
		return appendFloat(b, v), nil
	case *big.Int:
		if v == nil {
			return nil, &EncodeError{Err: errors.New("nil *big.Int")}
		}
		if tooManyDigits(v) {
			return nil, &EncodeError{Err: errIntTooLong}
		}
		return v.Append(b, 10), nil
	}
	return appendJSONTyped(b, v, left)
}

func tooManyDigits(i *big.Int) bool {
	const bits = 14285 // of 10^4300; only at just that length must the digits be counted
	return i.BitLen() > bits || i.BitLen() == bits && len(i.Text(10)) > maxIntDigits+(1-i.Sign())/2
}

// appendList writes a list, which JSON and YAML spell alike, by the writer of its values.
func appendList(b []byte, list []Value, left int, write func([]byte, Value, int) ([]byte, error)) ([]byte, error) {
	if left == 0 {
		return nil, &EncodeError{Err: errDeepValue}
	}
	b = append(b, '[')
	var err error
	for i, v := range list {
		if i > 0 {
			b = append(b, ", "...)
		}
		if b, err = write(b, v, left-1); err != nil {
			return nil, within("["+strconv.Itoa(i)+"]", err)
		}
	}
	return append(b, ']'), nil
}

func appendJSONObject(b []byte, o *Object, left int) ([]byte, error) {
	if left == 0 {
		return nil, &EncodeError{Err: errDeepValue}
	}
	if isTyped(o) {
		return nil, &EncodeError{Err: errReserved}
	}
	b = append(b, '{')
	var err error
	for i, m := range o.Members() {
		if i > 0 {
			b = append(b, ", "...)
		}
		if b, err = appendJSONString(b, m.Key); err != nil {
			return nil, err
		}
		b = append(b, ": "...)
		if b, err = appendJSON(b, m.Value, left-1); err != nil {
			return nil, within("."+clip(m.Key), err)
		}
	}
	return append(b, '}'), nil
}

// within puts a step before the place an EncodeError names.
func within(step string, err error) error {
	if e, ok := errors.AsType[*EncodeError](err); ok {
		return &EncodeError{Part: step + e.Part, Err: e.Err}
	}
	return &EncodeError{Part: step, Err: err}
}

func appendJSONTyped(b []byte, v Value, left int) ([]byte, error) {
	if _, isUUID := v.(UUID); left == 0 || isUUID && left == 1 {
		return nil, &EncodeError{Err: errDeepValue}
	}
	typed := func(name string) []byte {
		return append(append(append(b, `{"__type__": "`...), name...), `", "__value__": "`...)
	}
	end := func(b []byte) ([]byte, error) { return append(b, `"}`...), nil }
	switch v := v.(type) {
	case DateTime:
		if err := v.check(); err != nil {
			return nil, &EncodeError{Err: err}
		}
		return end(appendISO(typed("datetime"), v, 'T'))
	case Date:
		if err := v.check(); err != nil {
			return nil, &EncodeError{Err: err}
		}
		return end(appendISODate(typed("date"), v))
	case TimeOfDay:
		if err := v.check(); err != nil {
			return nil, &EncodeError{Err: err}
		}
		return end(appendISOTime(typed("time"), v))
	case Decimal:
		d, err := ParseDecimal(string(v))
		if err != nil {
			return nil, &EncodeError{Err: err}
		}
		return end(append(typed("decimal"), d...))
	case UUID:
		b = append(b, `{"__type__": "uuid", "__value__": {"hex": "`...)
		return append(hex.AppendEncode(b, v[:]), `"}}`...), nil
	case []byte:
		if !utf8.Valid(v) {
			return end(base64.StdEncoding.AppendEncode(typed("base64"), v))
		}
		b = append(b, `{"__type__": "bytes", "__value__": `...)
		b, err := appendJSONString(b, string(v))
		return append(b, '}'), err
	}
	return nil, &EncodeError{Err: fmt.Errorf("Object of type %s is not JSON serializable", TypeName(v))}
}

// appendFloat is float.__repr__ of a finite number: shortest digits, an exponent outside 1e-4..1e16.
func appendFloat(b []byte, f float64) []byte {
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.AppendFloat(b, f, 'e', -1, 64)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'f', -1, 64)
	for _, c := range b[start:] {
		if c == '.' {
			return b
		}
	}
	return append(b, ".0"...)
}

const hexDigits = "0123456789abcdef"

// plainJSON are the bytes json.dumps writes as they are.
var plainJSON = func() (t [256]bool) {
	for c := ' '; c <= '~'; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func appendJSONString(b []byte, s string) ([]byte, error) {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plainJSON[c] {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		if c < utf8.RuneSelf {
			b = appendJSONEscape(b, c)
			i++
		} else {
			r, n := decodeWTF8(s[i:])
			if n == 0 {
				return nil, &EncodeError{Err: errNotText}
			}
			i += n
			if r >= 0x10000 {
				r -= 0x10000
				b = appendHex4(b, 0xd800+r>>10)
				r = 0xdc00 + r&0x3ff
			}
			b = appendHex4(b, r)
		}
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"'), nil
}

func appendJSONEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	case '\f':
		return append(b, `\f`...)
	case '\b':
		return append(b, `\b`...)
	}
	return appendHex4(b, rune(c))
}

func appendHex4(b []byte, r rune) []byte {
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// decodeWTF8 is utf8.DecodeRuneInString that knows surrogates; n is 0 when the bytes are not text.
func decodeWTF8(s string) (r rune, n int) {
	r, n = utf8.DecodeRuneInString(s)
	if r != utf8.RuneError || n > 1 {
		return r, n
	}
	if len(s) >= 3 && s[0] == 0xed && s[1] >= 0xa0 && s[1] <= 0xbf && s[2]&0xc0 == 0x80 {
		return 0xd000 | rune(s[1]&0x3f)<<6 | rune(s[2]&0x3f), 3
	}
	return r, 0
}

// TypeName is Python's type(v).__name__, or Go's type when v is no Value.
func TypeName(v Value) string {
	switch v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case []byte:
		return "bytes"
	case []Value:
		return "list"
	case *Object:
		return "dict"
	case DateTime:
		return "datetime"
	case Date:
		return "date"
	case TimeOfDay:
		return "time"
	case Decimal:
		return "Decimal"
	case UUID:
		return "UUID"
	case Set:
		return "set"
	}
	return fmt.Sprintf("%T", v)
}
