package protocol

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// What is read is what Python's json.loads reads, no more and no less:
//
//	NaN, Infinity, -Infinity, 1e400 (= inf), integers of any size up to maxIntDigits
//	lone surrogates "\ud800", kept as WTF-8; of a key given twice the last value
//	refused: a BOM, invalid UTF-8, raw control characters in strings, anything after the value
//
// on top of which Kombu replaces typed objects, see jsontypes.go.

// maxIntDigits is Python's sys.int_info.default_max_str_digits: longer integers are refused by every
// Python, and reading them would take quadratic time.
const maxIntDigits = 4300

// ParseJSON reads Kombu's JSON: Python's json.loads plus typed objects ({"__type__", "__value__"}).
// Errors are *DecodeError and name the byte; too deep nesting wraps ErrTooLarge. The strings of the
// result share one copy of data.
func ParseJSON(data []byte, l Limits) (Value, error) {
	p := jsonParser{s: string(data), left: l.depth(), budget: l.values()}
	v, err := p.document()
	if err != nil {
		return nil, &DecodeError{Part: "json", Err: fmt.Errorf("byte %d: %w", p.i, err)}
	}
	return v, nil
}

func (l Limits) depth() int {
	if l.Depth <= 0 {
		return DefaultDepth
	}
	return l.Depth
}

func (l Limits) values() int {
	if l.Values <= 0 {
		return DefaultValues
	}
	return l.Values
}

// containerCost is what a list or an object costs besides the one of every value.
const containerCost = 3

func (l Limits) inflated() int {
	if l.Inflated <= 0 {
		return DefaultInflated
	}
	return l.Inflated
}

// errDepth is what every decoder says of too deep nesting, errValues of too many values.
var (
	errDepth  = fmt.Errorf("nested too deeply: %w", ErrTooLarge)
	errValues = fmt.Errorf("too many values: %w", ErrTooLarge)
)

var (
	errJSONValue   = errors.New("expecting a value")
	errJSONString  = errors.New("unterminated string")
	errJSONControl = errors.New("invalid control character in a string")
	errJSONEscape  = errors.New("invalid \\ escape in a string")
	errJSONKey     = errors.New("expecting a key in double quotes")
	errJSONColon   = errors.New("expecting ':'")
	errJSONComma   = errors.New("expecting ',' or a closing bracket")
	errJSONExtra   = errors.New("extra data after the value")
	errJSONUTF8    = errors.New("invalid UTF-8")
	errJSONBOM     = errors.New("unexpected byte order mark")
	errIntDigits   = fmt.Errorf("integer of more than %d digits", maxIntDigits)
)

// A jsonParser reads one document. After an error, i is where.
type jsonParser struct {
	s      string
	i      int
	left   int     // levels of nesting still allowed
	budget int     // values still allowed
	stack  []Value // elements of the lists being read
}

func (p *jsonParser) document() (Value, error) {
	if len(p.s) >= 3 && p.s[:3] == "\ufeff" {
		return nil, errJSONBOM
	}
	// Checked once for all: from here on, whatever a string holds is valid.
	if !utf8.ValidString(p.s) {
		for i, r := range p.s {
			if r == utf8.RuneError {
				if _, n := utf8.DecodeRuneInString(p.s[i:]); n == 1 {
					p.i = i
					break
				}
			}
		}
		return nil, errJSONUTF8
	}
	p.space()
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	if p.space(); p.i < len(p.s) {
		return nil, errJSONExtra
	}
	return v, nil
}

func (p *jsonParser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\n', '\t', '\r':
			p.i++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end (which no caller takes for anything).
func (p *jsonParser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *jsonParser) value() (Value, error) {
	if p.budget--; p.budget < 0 {
		return nil, errValues
	}
	switch c := p.peek(); c {
	case '"':
		return p.str()
	case '{':
		return p.object(4)
	case '[':
		return p.list()
	case 't':
		return true, p.literal("true")
	case 'f':
		return false, p.literal("false")
	case 'n':
		return nil, p.literal("null")
	case 'N':
		return math.NaN(), p.literal("NaN")
	case 'I':
		return math.Inf(1), p.literal("Infinity")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return p.number()
		}
		return nil, errJSONValue
	}
}

func (p *jsonParser) literal(word string) error {
	if len(p.s)-p.i < len(word) || p.s[p.i:p.i+len(word)] != word {
		return errJSONValue
	}
	p.i += len(word)
	return nil
}

// enter goes into the list or object that begins here.
func (p *jsonParser) enter() error {
	if p.left == 0 {
		return errDepth
	}
	p.left--
	p.budget -= containerCost
	p.i++
	p.space()
	return nil
}

// leave goes past the closing bracket.
func (p *jsonParser) leave() {
	p.i++
	p.left++
}

// list reads a list; it is never nil without an error.
func (p *jsonParser) list() ([]Value, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	if p.peek() == ']' {
		p.leave()
		return []Value{}, nil
	}
	// The first elements wait here and the others on the stack, so that the list is made once, in its size.
	var first [4]Value
	base := len(p.stack)
	for n := 0; ; n++ {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		if n < len(first) {
			first[n] = v
		} else {
			p.stack = append(p.stack, v)
		}
		p.space()
		switch p.peek() {
		case ',':
			p.i++
			p.space()
		case ']':
			p.leave()
			list := make([]Value, n+1)
			copy(list[copy(list, first[:]):], p.stack[base:])
			p.stack = p.stack[:base]
			return list, nil
		default:
			return nil, errJSONComma
		}
	}
}

// object reads an object, or what a typed one stands for. room is how many members are likely.
func (p *jsonParser) object(room int) (Value, error) {
	start := p.i
	if err := p.enter(); err != nil {
		return nil, err
	}
	o := &Object{}
	for first := true; ; first = false {
		key, more, err := p.member(first)
		switch {
		case err != nil:
			return nil, err
		case !more && !isTyped(o):
			return o, nil
		case !more:
			v, err := decodeTyped(o)
			if err != nil {
				p.i = start
			}
			return v, err
		}
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		if first {
			o.members = make([]Member, 0, room)
		}
		o.Set(key, v)
	}
}

// member goes to the value of the next member of the object that was entered, and tells its key. There is none
// when more is false: the object has been left.
func (p *jsonParser) member(first bool) (key string, more bool, err error) {
	p.space()
	switch c := p.peek(); {
	case c == '}':
		p.leave()
		return "", false, nil
	case first:
	case c == ',':
		p.i++
		p.space()
	default:
		return "", false, errJSONComma
	}
	if p.peek() != '"' {
		return "", false, errJSONKey
	}
	if key, err = p.str(); err != nil {
		return "", false, err
	}
	if p.space(); p.peek() != ':' {
		return "", false, errJSONColon
	}
	p.i++
	p.space()
	return key, true, nil
}

// str reads a string. Most have no escape and are a piece of the document.
func (p *jsonParser) str() (string, error) {
	s := p.s
	start := p.i + 1
	for i := start; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			p.i = i + 1
			return s[start:i], nil
		case c == '\\':
			p.i = i
			return p.escaped(append(make([]byte, 0, i-start+32), s[start:i]...))
		case c < ' ':
			p.i = i
			return "", errJSONControl
		}
	}
	p.i = start - 1
	return "", errJSONString
}

// escaped goes on with a string from its first backslash.
func (p *jsonParser) escaped(b []byte) (string, error) {
	s := p.s
	for p.i < len(s) {
		c := s[p.i]
		switch {
		case c == '"':
			p.i++
			return string(b), nil
		case c < ' ':
			return "", errJSONControl
		case c != '\\':
			from := p.i
			for p.i < len(s) && s[p.i] >= ' ' && s[p.i] != '"' && s[p.i] != '\\' {
				p.i++
			}
			b = append(b, s[from:p.i]...)
			continue
		}
		if p.i+1 >= len(s) {
			break
		}
		switch c := s[p.i+1]; c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, ok := hex4(s, p.i+2)
			if !ok {
				return "", errJSONEscape
			}
			p.i += 6
			if r >= 0xd800 && r < 0xdc00 && p.i+1 < len(s) && s[p.i] == '\\' && s[p.i+1] == 'u' {
				low, ok := hex4(s, p.i+2)
				if !ok {
					return "", errJSONEscape
				}
				if low >= 0xdc00 && low < 0xe000 {
					r = 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
					p.i += 6
				}
			}
			b = appendWTF8(b, r)
			continue
		default:
			return "", errJSONEscape
		}
		p.i += 2
	}
	return "", errJSONString
}

func hex4(s string, at int) (rune, bool) {
	if at+4 > len(s) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s[at : at+4]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// appendWTF8 is utf8.AppendRune that writes a surrogate as its three bytes.
func appendWTF8(b []byte, r rune) []byte {
	if r >= 0xd800 && r < 0xe000 {
		return append(b, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
	}
	return utf8.AppendRune(b, r)
}

// number reads -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?; what follows is for the caller to refuse.
func (p *jsonParser) number() (Value, error) {
	s, start := p.s, p.i
	i := start
	if s[i] == '-' {
		if i++; i < len(s) && s[i] == 'I' {
			p.i = i
			return math.Inf(-1), p.literal("Infinity")
		}
	}
	first := i
	i = digits(s, i)
	switch {
	case i == first:
		return nil, errJSONValue
	case s[first] == '0':
		i = first + 1
	}
	end, float := i, false
	if i < len(s) && s[i] == '.' {
		if j := digits(s, i+1); j > i+1 {
			i, end, float = j, j, true
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if k := digits(s, j); k > j {
			end, float = k, true
		}
	}
	if float {
		p.i = end
		f, _ := strconv.ParseFloat(s[start:end], 64) // out of range is ±inf or 0, as in Python
		return f, nil
	}
	v, err := parseInt(s[start:end])
	if err == nil {
		p.i = end
	}
	return v, err
}

func digits(s string, i int) int {
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return i
}

// parseInt reads -?[0-9]+ exactly.
func parseInt(s string) (Value, error) {
	if len(s) < 19 { // cannot overflow
		var n int64
		t := s
		if t[0] == '-' {
			t = t[1:]
		}
		for _, c := range []byte(t) {
			n = n*10 + int64(c-'0')
		}
		if s[0] == '-' {
			n = -n
		}
		return n, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	if len(s) > maxIntDigits+1 || len(s) > maxIntDigits && s[0] != '-' {
		return nil, errIntDigits
	}
	b, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return nil, fmt.Errorf("integer %.40q", s)
	}
	return IntValue(b), nil
}
