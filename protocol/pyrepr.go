package protocol

import (
	"fmt"
	"strings"
	"unicode"
)

// Python's own repr, which the texts of exceptions show. Repr is Celery's saferepr and differs from it:
// there line breaks stay raw, long texts are cut and deep lists left out.

// Str is Python's str(v): a text as it is, of anything else the repr that Python itself prints, whole.
func Str(v Value) string { return pyStr(v) }

// pyStr is str(v).
func pyStr(v Value) string {
	if s, ok := v.(string); ok {
		return s
	}
	return pyRepr(v)
}

// PythonRepr is repr(v), as f-strings of Celery's answers to remote control hold it. It is as long as v is.
func PythonRepr(v Value) string { return pyRepr(v) }

// pyRepr is repr(v). What is nested beyond maxRepr levels is "...".
func pyRepr(v Value) string {
	var b strings.Builder
	writeRepr(&b, v, maxRepr)
	return b.String()
}

// pyTuple is repr(tuple(args)).
func pyTuple(args []Value) string {
	var b strings.Builder
	closer := ")"
	if len(args) == 1 {
		closer = ",)"
	}
	writeReprs(&b, "(", args, closer, maxRepr)
	return b.String()
}

const maxRepr = DefaultDepth

func writeRepr(b *strings.Builder, v Value, left int) {
	if left == 0 {
		b.WriteString("...")
		return
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case string:
		writeQuoted(b, v)
	case []byte:
		b.WriteByte('b')
		writeQuotedBytes(b, v)
	case []Value:
		writeReprs(b, "[", v, "]", left-1)
	case Set:
		if len(v) == 0 {
			b.WriteString("set()")
			return
		}
		writeReprs(b, "{", v, "}", left-1)
	case *Object:
		b.WriteByte('{')
		for i, m := range v.Members() {
			if i > 0 {
				b.WriteString(", ")
			}
			writeQuoted(b, m.Key)
			b.WriteString(": ")
			writeRepr(b, m.Value, left-1)
		}
		b.WriteByte('}')
	default:
		b.WriteString(scalarRepr(v))
	}
}

func writeReprs(b *strings.Builder, opener string, list []Value, closer string, left int) {
	b.WriteString(opener)
	for i, v := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		writeRepr(b, v, left)
	}
	b.WriteString(closer)
}

// quoteFor is the quote Python takes: single, unless there are single ones and no double ones inside.
func quoteFor(s string) byte {
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		return '"'
	}
	return '\''
}

func writeQuoted(b *strings.Builder, s string) {
	quote := quoteFor(s)
	b.WriteByte(quote)
	for i := 0; i < len(s); {
		r, n := decodeWTF8(s[i:])
		switch {
		case n == 0: // no text at all
			n = 1
			fmt.Fprintf(b, `\x%02x`, s[i])
		case r < 0x80:
			writeQuotedByte(b, byte(r), quote)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			fmt.Fprintf(b, `\U%08x`, r)
		}
		i += n
	}
	b.WriteByte(quote)
}

func writeQuotedBytes(b *strings.Builder, s []byte) {
	quote := quoteFor(string(s))
	b.WriteByte(quote)
	for _, c := range s {
		writeQuotedByte(b, c, quote)
	}
	b.WriteByte(quote)
}

func writeQuotedByte(b *strings.Builder, c, quote byte) {
	switch {
	case c == quote || c == '\\':
		b.WriteByte('\\')
		b.WriteByte(c)
	case c == '\n':
		b.WriteString(`\n`)
	case c == '\r':
		b.WriteString(`\r`)
	case c == '\t':
		b.WriteString(`\t`)
	case c < ' ' || c >= 0x7f:
		fmt.Fprintf(b, `\x%02x`, c)
	default:
		b.WriteByte(c)
	}
}
