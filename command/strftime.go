package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A dateFormat is a format of Python's time.strftime in the C locale, such as worker_log_datefmt.
type dateFormat struct{ pieces []func(time.Time) string }

// dateFields are the directives, as Go's layouts where there is one.
var dateFields = map[byte]string{
	'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'y': "06", 'b': "Jan", 'h': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday",
	'p': "PM", 'I': "03", 'j': "002", 'z': "-0700", 'Z': "MST", 'e': "_2", 'F': "2006-01-02", 'T': "15:04:05", 'D': "01/02/06", 'R': "15:04", 'r': "03:04:05 PM",
	'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05",
}

func newDateFormat(format string) (*dateFormat, error) {
	f := &dateFormat{}
	literal := func(text string) { f.pieces = append(f.pieces, func(time.Time) string { return text }) }
	for rest := format; rest != ""; {
		before, after, found := strings.Cut(rest, "%")
		literal(before)
		if !found {
			break
		}
		if after == "" {
			return nil, fmt.Errorf("date format %q ends in %%", format)
		}
		c := after[0]
		rest = after[1:]
		switch layout, known := dateFields[c]; {
		case known:
			f.pieces = append(f.pieces, func(t time.Time) string { return t.Format(layout) })
		case c == '%':
			literal("%")
		case c == 'n':
			literal("\n")
		case c == 't':
			literal("\t")
		case c == 's':
			f.pieces = append(f.pieces, func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) })
		case c == 'u':
			f.pieces = append(f.pieces, func(t time.Time) string { return strconv.Itoa((int(t.Weekday())+6)%7 + 1) })
		case c == 'w':
			f.pieces = append(f.pieces, func(t time.Time) string { return strconv.Itoa(int(t.Weekday())) })
		case c == 'V':
			f.pieces = append(f.pieces, func(t time.Time) string { _, week := t.ISOWeek(); return fmt.Sprintf("%02d", week) })
		case c == 'G':
			f.pieces = append(f.pieces, func(t time.Time) string { year, _ := t.ISOWeek(); return strconv.Itoa(year) })
		case c == 'U' || c == 'W': // weeks begin on Sunday, or on Monday
			first := 0
			if c == 'W' {
				first = 1
			}
			f.pieces = append(f.pieces, func(t time.Time) string {
				return fmt.Sprintf("%02d", (t.YearDay()-1+7-(int(t.Weekday())-first+7)%7)/7)
			})
		default:
			return nil, fmt.Errorf("date format %q: %%%c is not known; Python's %%Y %%m %%d %%H %%M %%S and so on are", format, c)
		}
	}
	return f, nil
}

func (f *dateFormat) text(t time.Time) string {
	var b strings.Builder
	for _, p := range f.pieces {
		b.WriteString(p(t))
	}
	return b.String()
}
