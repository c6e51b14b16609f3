package protocol

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unicode/utf8"
)

// Python's celery.utils.saferepr with its defaults: a repr that differs from Python's own in that
//
//	text is in single quotes, with only ' escaped; bytes too, as hex when they are not UTF-8
//	the fourth level of nesting is [...], {...} or (...)
//	1024 characters are printed, then ", ..." and the brackets still open; a text is cut at its last
//	space and ends in "..."; what the cut text was the last of is closed without ", ..."
const (
	reprLength = 1024
	reprLevels = 3
)

// Repr is Celery's saferepr(v, 1024) of 5.7: what Python prints in argsrepr, events and logs. Lone
// surrogates, which could not be sent as a header, are escaped.
func Repr(v Value) string {
	w := reprWriter{left: reprLength}
	w.value(v, 0)
	return w.String()
}

// ReprArgs is Repr of args as a tuple: "(2, 3)", "(2,)", "()".
func ReprArgs(args []Value) string {
	w := reprWriter{left: reprLength}
	closer := ")"
	if len(args) == 1 {
		closer = ",)"
	}
	w.list("(", closer, args, 0)
	return w.String()
}

// A reprWriter prints until its budget is spent. Its methods return false when it is.
type reprWriter struct {
	b    []byte
	left int      // characters
	open []string // closers of the containers being printed
}

func (w *reprWriter) String() string {
	s := string(w.b)
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := decodeWTF8(s[i:])
		switch {
		case n == 0:
			fmt.Fprintf(&b, `\x%02x`, s[i])
			n = 1
		case r >= 0xd800 && r < 0xe000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// put prints one piece, whole.
func (w *reprWriter) put(s string) bool {
	if w.left <= 0 {
		w.b = append(w.b, ", ..."...)
		for i := len(w.open) - 1; i >= 0; i-- {
			w.b = append(w.b, w.open[i]...)
		}
		return false
	}
	w.b = append(w.b, s...)
	w.left -= textLen(s)
	return true
}

// cut prints a piece that may be shortened.
func (w *reprWriter) cut(s string) bool { return w.put(truncateText(s, w.left)) }

// begin opens a container; end closes it, even when the budget is spent: nothing of it is left out.
func (w *reprWriter) begin(opener, closer string) bool {
	if !w.put(opener) {
		return false
	}
	w.open = append(w.open, closer)
	return true
}

func (w *reprWriter) end() bool {
	closer := w.open[len(w.open)-1]
	w.open = w.open[:len(w.open)-1]
	if w.left > 0 {
		return w.put(closer)
	}
	w.b = append(w.b, closer...)
	return true
}

func (w *reprWriter) value(v Value, level int) bool {
	switch v := v.(type) {
	case nil:
		return w.cut("None")
	case string:
		return w.quoted(v)
	case []byte:
		return w.bytes(v)
	case []Value:
		return w.list("[", "]", v, level)
	case Set:
		if len(v) == 0 {
			return w.cut("set()")
		}
		return w.list("{", "}", v, level)
	case *Object:
		return w.object(v, level)
	}
	return w.cut(scalarRepr(v))
}

func (w *reprWriter) list(opener, closer string, list []Value, level int) bool {
	if level >= reprLevels {
		return w.put(opener + "..." + closer)
	}
	if !w.begin(opener, closer) {
		return false
	}
	for i, v := range list {
		if i > 0 && !w.put(", ") || !w.value(v, level+1) {
			return false
		}
	}
	return w.end()
}

func (w *reprWriter) object(o *Object, level int) bool {
	if level >= reprLevels {
		return w.put("{...}")
	}
	if !w.begin("{", "}") {
		return false
	}
	for i, m := range o.Members() {
		if i > 0 && !w.put(", ") || !w.quoted(m.Key) || !w.put(": ") || !w.value(m.Value, level+1) {
			return false
		}
	}
	return w.end()
}

func (w *reprWriter) quoted(s string) bool {
	if w.left <= 0 {
		return w.put("")
	}
	return w.put("'" + strings.ReplaceAll(truncateText(s, w.left), "'", `\'`) + "'")
}

func (w *reprWriter) bytes(v []byte) bool {
	if w.left <= 0 {
		return w.put("")
	}
	ellipsis := ""
	if len(v) > w.left {
		v, ellipsis = v[:w.left], "..."
	}
	text := string(v)
	if !utf8.Valid(v) {
		text = hex.EncodeToString(v)
	}
	return w.put("b'" + text + ellipsis + "'")
}

// textLen is len() of a Python str.
func textLen(s string) int {
	n := 0
	for i := 0; i < len(s); n++ {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		_, size := decodeWTF8(s[i:])
		i += max(size, 1)
	}
	return n
}

// truncateText is celery.utils.text.truncate: s of limit characters or more is cut at its last space.
func truncateText(s string, limit int) string {
	if limit <= 0 || len(s) < limit {
		return s
	}
	n := 0
	for i := 0; i < len(s); n++ {
		if n == limit {
			s = s[:i]
			break
		}
		_, size := decodeWTF8(s[i:])
		i += max(size, 1)
	}
	if n < limit {
		return s
	}
	if space := strings.LastIndexByte(s, ' '); space >= 0 {
		s = s[:space]
	}
	return s + "..."
}

// scalarRepr is Python's repr of what is neither text nor a container.
func scalarRepr(v Value) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int64:
		return fmt.Sprint(v)
	case *big.Int:
		if v != nil && tooManyDigits(v) {
			return fmt.Sprintf("<int of %d bits>", v.BitLen())
		}
		return v.String()
	case float64:
		return floatRepr(v)
	case DateTime:
		return dateTimeRepr(v)
	case Date:
		return fmt.Sprintf("datetime.date(%d, %d, %d)", v.Year, int(v.Month), v.Day)
	case TimeOfDay:
		return timeRepr(v)
	case Decimal:
		return "Decimal('" + string(v) + "')"
	case UUID:
		return "UUID('" + v.String() + "')"
	}
	return fmt.Sprintf("<%T>", v)
}

// floatRepr is float.__repr__.
func floatRepr(f float64) string {
	switch {
	case f != f:
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	return string(appendFloat(nil, f))
}

func dateTimeRepr(d DateTime) string {
	t := d.Time
	s := fmt.Sprintf("datetime.datetime(%d, %d, %d, %d, %d", t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute())
	micro := t.Nanosecond() / int(time.Microsecond)
	if t.Second() != 0 || micro != 0 {
		s += fmt.Sprintf(", %d", t.Second())
	}
	if micro != 0 {
		s += fmt.Sprintf(", %d", micro)
	}
	if !d.Naive {
		_, offset := t.Zone()
		s += ", tzinfo=" + zoneRepr(offset)
	}
	return s + ")"
}

func timeRepr(t TimeOfDay) string {
	s := fmt.Sprintf("datetime.time(%d, %d", t.Hour, t.Minute)
	if t.Second != 0 || t.Microsecond != 0 {
		s += fmt.Sprintf(", %d", t.Second)
	}
	if t.Microsecond != 0 {
		s += fmt.Sprintf(", %d", t.Microsecond)
	}
	if t.Offset != nil {
		s += ", tzinfo=" + zoneRepr(*t.Offset)
	}
	return s + ")"
}

func zoneRepr(offset int) string {
	switch {
	case offset == 0:
		return "datetime.timezone.utc"
	case offset < 0: // a timedelta's seconds are never negative
		return fmt.Sprintf("datetime.timezone(datetime.timedelta(days=-1, seconds=%d))", offset+86400)
	}
	return fmt.Sprintf("datetime.timezone(datetime.timedelta(seconds=%d))", offset)
}
