package protocol

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kombu's typed objects (kombu/utils/json.py), exactly these two keys:
//
//	{"__type__": "datetime", "__value__": "2024-01-02T03:04:05.000006+00:00"}
//	             "date"                   "2024-01-02" (a full timestamp is read too)
//	             "time"                   "03:04:05.000006"
//	             "decimal"                "1.10" (a number is read too)
//	             "uuid"                   {"hex": "12345678123456781234567812345678"}
//	             "bytes"                  the text, when it is valid UTF-8
//	             "base64"                 other bytes
//
// A third key makes it an ordinary object; an unknown type is an error for every reader.
const (
	typeKey  = "__type__"
	valueKey = "__value__"
)

func isTyped(o *Object) bool {
	if o.Len() != 2 {
		return false
	}
	a, b := o.members[0].Key, o.members[1].Key
	return a == typeKey && b == valueKey || a == valueKey && b == typeKey
}

func decodeTyped(o *Object) (Value, error) {
	t, _ := o.Get(typeKey)
	v, _ := o.Get(valueKey)
	name, ok := t.(string)
	if !ok {
		return nil, errors.New("typed object whose __type__ is not text")
	}
	var decoded Value
	var err error
	text, isText := v.(string)
	switch name {
	case "decimal":
		decoded, err = decodeDecimal(v)
	case "uuid":
		decoded, err = decodeUUID(v)
	case "datetime", "date", "time", "bytes", "base64":
		if !isText {
			return nil, fmt.Errorf("typed object %q holds no text", name)
		}
		switch name {
		case "datetime":
			decoded, err = parseDateTime(text)
		case "date":
			decoded, err = parseDate(text)
		case "time":
			decoded, err = parseTimeOfDay(text)
		case "bytes":
			if !utf8.ValidString(text) {
				err = errors.New("surrogates not allowed")
			}
			decoded = []byte(text)
		case "base64":
			decoded, err = pythonBase64(text)
		}
	default:
		return nil, fmt.Errorf("unsupported __type__ %q", clip(name))
	}
	if err != nil {
		return nil, fmt.Errorf("typed object %q: %w", name, err)
	}
	return decoded, nil
}

// pythonBase64 reads as Python's b64decode does: characters outside the alphabet are skipped.
func pythonBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err == nil {
		return b, nil
	}
	kept := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '+', r == '/', r == '=':
			return r
		}
		return -1
	}, s)
	return base64.StdEncoding.DecodeString(kept)
}

func decodeUUID(v Value) (Value, error) {
	o, ok := v.(*Object)
	if !ok || o.Len() != 1 {
		return nil, errors.New(`want {"hex": ...}`)
	}
	h, _ := o.Get("hex")
	text, ok := h.(string)
	if !ok {
		return nil, errors.New(`want {"hex": ...}`)
	}
	return ParseUUID(text)
}

// ParseUUID reads what Python's uuid.UUID reads: 32 hex digits, with or without dashes, braces, "urn:uuid:".
func ParseUUID(s string) (UUID, error) {
	var u UUID
	h := strings.ReplaceAll(strings.ReplaceAll(s, "urn:", ""), "uuid:", "")
	h = strings.ReplaceAll(strings.Trim(h, "{}"), "-", "")
	if len(h) != 32 {
		return u, fmt.Errorf("badly formed UUID %q", clip(s))
	}
	if _, err := hex.Decode(u[:], []byte(h)); err != nil {
		return u, fmt.Errorf("badly formed UUID %q", clip(s))
	}
	return u, nil
}

// String is Python's str(uuid): with dashes.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func decodeDecimal(v Value) (Value, error) {
	switch v := v.(type) {
	case string:
		return ParseDecimal(v)
	case Decimal:
		return v, nil
	case bool:
		if v {
			return Decimal("1"), nil
		}
		return Decimal("0"), nil
	case int64:
		return Decimal(strconv.FormatInt(v, 10)), nil
	case *big.Int:
		return Decimal(v.String()), nil
	case float64:
		return decimalOfFloat(v), nil
	}
	return nil, errors.New("want text or a number")
}

// maxDecimal bounds the text of a decimal, and maxDecimalExp is libmpdec's on 64 bits.
const (
	maxDecimal    = 1 << 20
	maxDecimalExp = 999999999999999999
)

// ParseDecimal reads what Python's Decimal(text) reads and returns what str() of that gives:
// " 1_0e5 " is "1.0E+6".
func ParseDecimal(s string) (Decimal, error) {
	bad := fmt.Errorf("badly formed decimal %q", clip(s))
	if len(s) > maxDecimal {
		return "", bad
	}
	t := strings.ReplaceAll(strings.TrimSpace(s), "_", "")
	sign := ""
	if t != "" && (t[0] == '+' || t[0] == '-') {
		if t[0] == '-' {
			sign = "-"
		}
		t = t[1:]
	}
	switch lower := strings.ToLower(t); {
	case lower == "inf" || lower == "infinity":
		return Decimal(sign + "Infinity"), nil
	case strings.HasPrefix(lower, "nan"), strings.HasPrefix(lower, "snan"):
		word, rest := "NaN", lower[3:]
		if lower[0] == 's' {
			word, rest = "sNaN", lower[4:]
		}
		if digits(rest, 0) != len(rest) {
			return "", bad
		}
		return Decimal(sign + word + strings.TrimLeft(rest, "0")), nil
	}
	n := digits(t, 0)
	whole, frac, rest := t[:n], "", t[n:]
	if strings.HasPrefix(rest, ".") {
		n := digits(rest, 1)
		frac, rest = rest[1:n], rest[n:]
	}
	if whole == "" && frac == "" {
		return "", bad
	}
	var exp int64
	if rest != "" {
		if rest[0] != 'e' && rest[0] != 'E' {
			return "", bad
		}
		e, err := strconv.ParseInt(rest[1:], 10, 64)
		if err != nil || e > maxDecimalExp || e < -maxDecimalExp {
			return "", bad
		}
		exp = e
	}
	return decimalText(sign, whole+frac, exp-int64(len(frac))), nil
}

// decimalText is Decimal.__str__: the General Decimal Arithmetic's to-scientific-string.
func decimalText(sign, coefficient string, exp int64) Decimal {
	if coefficient = strings.TrimLeft(coefficient, "0"); coefficient == "" {
		coefficient = "0"
	}
	left := exp + int64(len(coefficient)) // digits before the point
	point := int64(1)
	scientific := exp > 0 || left <= -6
	if !scientific {
		point = left
	}
	var b strings.Builder
	b.WriteString(sign)
	switch {
	case point <= 0:
		b.WriteString("0.")
		b.WriteString(strings.Repeat("0", int(-point)))
		b.WriteString(coefficient)
	case point >= int64(len(coefficient)):
		b.WriteString(coefficient)
	default:
		b.WriteString(coefficient[:point])
		b.WriteByte('.')
		b.WriteString(coefficient[point:])
	}
	if scientific && left != point {
		fmt.Fprintf(&b, "E%+d", left-point)
	}
	return Decimal(b.String())
}

// decimalOfFloat is Python's Decimal(f): every binary digit, exactly.
func decimalOfFloat(f float64) Decimal {
	sign := ""
	if math.Signbit(f) {
		sign, f = "-", -f
	}
	switch {
	case f != f:
		return Decimal(sign + "NaN")
	case math.IsInf(f, 0):
		return Decimal(sign + "Infinity")
	case f == 0:
		return Decimal(sign + "0")
	}
	// f = m / 2^k for odd m; m*5^k / 10^k has the same value.
	r := new(big.Rat).SetFloat64(f)
	k := r.Denom().BitLen() - 1
	five := new(big.Int).Exp(big.NewInt(5), big.NewInt(int64(k)), nil)
	return decimalText(sign, five.Mul(five, r.Num()).String(), int64(-k))
}

// clip shortens hostile text for an error.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
