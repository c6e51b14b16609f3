package protocol

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// Written is flow style in one line, which safe_load reads back to the same values as Python's own
// dump of them: text always quoted and ASCII, floats with a point, timestamps and bytes tagged. What
// safe_dump refuses is refused here: time, Decimal, UUID.

// longKey is from where a key is written after "? ": a plain one may have 1024 characters at most.
const longKey = 1000

func appendYAML(dst []byte, v Value) ([]byte, error) {
	out, err := yamlValue(dst, v, DefaultDepth)
	if err != nil {
		return dst, err
	}
	return append(out, '\n'), nil
}

func yamlValue(b []byte, v Value, left int) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case *big.Int:
		return appendJSON(b, v, left)
	case float64:
		return yamlAppendFloat(b, v), nil
	case string:
		return yamlAppendString(b, v)
	case []byte:
		b = base64.StdEncoding.AppendEncode(append(b, `!!binary "`...), v)
		return append(b, '"'), nil
	case DateTime:
		err := v.check()
		if _, offset := v.Time.Zone(); err == nil && !v.Naive && offset%60 != 0 {
			err = fmt.Errorf("offset of %d seconds has no form in yaml", offset)
		}
		if err != nil {
			return nil, &EncodeError{Err: err}
		}
		return append(appendISO(append(b, `!!timestamp "`...), v, ' '), '"'), nil
	case Date:
		if err := v.check(); err != nil {
			return nil, &EncodeError{Err: err}
		}
		return append(appendISODate(append(b, `!!timestamp "`...), v), '"'), nil
	case []Value:
		return appendList(b, v, left, yamlValue)
	case Set:
		return yamlSet(b, v, left)
	case *Object:
		return yamlObject(b, v, left)
	}
	return nil, &EncodeError{Err: fmt.Errorf("('cannot represent an object', %s)", scalarRepr(v))}
}

func yamlSet(b []byte, set Set, left int) ([]byte, error) {
	if left == 0 {
		return nil, &EncodeError{Err: errDeepValue}
	}
	b = append(b, "!!set {"...)
	var err error
	for i, v := range set {
		if _, ok := hashable(v); !ok {
			return nil, within("["+strconv.Itoa(i)+"]", fmt.Errorf("unhashable type: '%s'", TypeName(v)))
		}
		if i > 0 {
			b = append(b, ", "...)
		}
		if b, err = yamlValue(append(b, "? "...), v, left-1); err != nil {
			return nil, within("["+strconv.Itoa(i)+"]", err)
		}
		b = append(b, " : null"...)
	}
	return append(b, '}'), nil
}

func yamlObject(b []byte, o *Object, left int) ([]byte, error) {
	if left == 0 {
		return nil, &EncodeError{Err: errDeepValue}
	}
	b = append(b, '{')
	for i, m := range o.Members() {
		if i > 0 {
			b = append(b, ", "...)
		}
		key, err := yamlAppendString(nil, m.Key)
		if err != nil {
			return nil, err
		}
		if len(key) > longKey {
			b = append(b, "? "...)
		}
		b = append(append(b, key...), ": "...)
		if b, err = yamlValue(b, m.Value, left-1); err != nil {
			return nil, within("."+clip(m.Key), err)
		}
	}
	return append(b, '}'), nil
}

// yamlAppendFloat writes a point always: to YAML 1.1 "1e+16" is text.
func yamlAppendFloat(b []byte, f float64) []byte {
	switch {
	case f != f:
		return append(b, ".nan"...)
	case math.IsInf(f, 1):
		return append(b, ".inf"...)
	case math.IsInf(f, -1):
		return append(b, "-.inf"...)
	}
	start := len(b)
	b = appendFloat(b, f)
	exp := -1
	for i, c := range b[start:] {
		switch c {
		case '.':
			return b
		case 'e':
			exp = start + i
		}
	}
	tail := string(b[exp:]) // without a point there is an exponent
	return append(append(b[:exp], ".0"...), tail...)
}

// yamlAppendString quotes s. Characters beyond 16 bits have an escape of their own: PyYAML would take
// a surrogate pair for two characters.
func yamlAppendString(b []byte, s string) ([]byte, error) {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case plainJSON[c]:
			b = append(b, c)
			i++
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c == '\n':
			b = append(b, `\n`...)
			i++
		case c < utf8.RuneSelf:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			i++
		default:
			r, n := decodeWTF8(s[i:])
			if n == 0 {
				return nil, &EncodeError{Err: errNotText}
			}
			i += n
			if r < 0x10000 {
				b = appendHex4(b, r)
			} else {
				b = fmt.Appendf(b, `\U%08x`, r)
			}
		}
	}
	return append(b, '"'), nil
}
