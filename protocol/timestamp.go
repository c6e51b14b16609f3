package protocol

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Dates come as whatever some Python wrote: the union of dateutil's isoparse (eta, expires) and
// datetime.fromisoformat (typed JSON, yaml) is read:
//
//	date    2024-01-02  20240102  2024-01  2024  2024-W01-2  2024W012  2024-W01  2024-002  2024002
//	time    one separator of any kind, then 03  03:04  0304  03:04:05  030405, and after the
//	        seconds . or , and any number of digits, cut to microseconds; 24:00 is the next midnight
//	zone    Z  z  +01  +0100  +01:00  +01:00:30; none: naive
//
// Written is only datetime.isoformat's form, which every Python reads.

// ParseTimestamp reads an eta, expires or date_done as Celery's workers do. Without an offset it is UTC.
func ParseTimestamp(s string) (time.Time, error) {
	d, err := parseDateTime(s)
	return d.Time, err
}

// FormatTimestamp writes t as Celery writes eta, expires and date_done: in zone (nil: UTC), with six
// fraction digits or none, and "+00:00" rather than "Z".
func FormatTimestamp(t time.Time, zone *time.Location) string {
	if zone == nil {
		zone = time.UTC
	}
	return string(appendISO(nil, DateTime{Time: t.In(zone)}, 'T'))
}

var errTimestamp = errors.New("not an ISO 8601 date")

// maxTimestamp bounds the text; the longest meaningful one has 35 characters.
const maxTimestamp = 256

func parseDateTime(s string) (DateTime, error) {
	fail := func() (DateTime, error) { return DateTime{}, fmt.Errorf("%w: %q", errTimestamp, clip(s)) }
	if len(s) > maxTimestamp {
		return fail()
	}
	day, rest, ok := cutDate(s)
	if !ok {
		return fail()
	}
	if rest == "" {
		return DateTime{Time: day, Naive: true}, nil
	}
	// The separator is one character, not a digit: T, a space, or what else str.isoformat was given.
	sep, size := utf8.DecodeRuneInString(rest)
	if sep == utf8.RuneError || sep >= '0' && sep <= '9' {
		return fail()
	}
	c, ok := parseClock(rest[size:])
	if !ok || c.hour == 24 && (c.minute|c.second|c.micro) != 0 {
		return fail()
	}
	zone := time.UTC
	if c.offset != nil && *c.offset != 0 {
		zone = time.FixedZone("", *c.offset)
	}
	y, m, d := day.Date()
	t := time.Date(y, m, d, c.hour, c.minute, c.second, c.micro*1000, zone)
	if t.Year() > 9999 {
		return fail()
	}
	return DateTime{Time: t, Naive: c.offset == nil}, nil
}

func parseDate(s string) (Date, error) {
	d, err := parseDateTime(s)
	y, m, day := d.Time.Date()
	return Date{y, m, day}, err
}

func parseTimeOfDay(s string) (TimeOfDay, error) {
	c, ok := parseClock(strings.TrimPrefix(s, "T"))
	if !ok || len(s) > maxTimestamp || c.hour == 24 {
		return TimeOfDay{}, fmt.Errorf("not an ISO 8601 time: %q", clip(s))
	}
	return TimeOfDay{c.hour, c.minute, c.second, c.micro, c.offset}, nil
}

// cutDate reads the date that s starts with.
func cutDate(s string) (day time.Time, rest string, ok bool) {
	year, s, ok := cutNumber(s, 4)
	if !ok || year == 0 {
		return day, s, false
	}
	s, dash := strings.CutPrefix(s, "-")
	if s, week := strings.CutPrefix(s, "W"); week {
		n, s, ok := cutNumber(s, 2)
		if !ok || n < 1 || n > 53 {
			return day, s, false
		}
		weekday := 1
		if t, has := strings.CutPrefix(s, "-"); has == dash && t != "" && t[0] >= '1' && t[0] <= '7' {
			weekday, s = int(t[0]-'0'), t[1:]
		}
		// The fourth of January is always in week one.
		fourth := time.Date(year, 1, 4, 0, 0, 0, 0, time.UTC)
		monday := fourth.AddDate(0, 0, -(int(fourth.Weekday())+6)%7)
		day = monday.AddDate(0, 0, (n-1)*7+weekday-1)
		if _, w := day.ISOWeek(); w != n && n != 53 || day.Year() < 1 || day.Year() > 9999 { // dateutil lets any year have 53
			return day, s, false
		}
		return day, s, true
	}
	switch n := digits(s, 0); {
	case n == 3 || n > 3 && dash && n != 4: // an ordinal day
		o, s, _ := cutNumber(s, 3)
		day = time.Date(year, 1, o, 0, 0, 0, 0, time.UTC)
		return day, s, o > 0 && day.Year() == year
	case n == 0 && !dash:
		return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC), s, true
	}
	month, s, ok := cutNumber(s, 2)
	if !ok {
		return day, s, false
	}
	d := 1
	t, dashed := strings.CutPrefix(s, "-")
	switch {
	case dash && dashed, !dash && s != "" && digits(s, 0) >= 2:
		if d, s, ok = cutNumber(t, 2); !ok {
			return day, s, false
		}
	case !dash: // YYYYMM could be YYMMDD
		return day, s, false
	}
	day = time.Date(year, time.Month(month), d, 0, 0, 0, 0, time.UTC)
	return day, s, day.Month() == time.Month(month) && day.Day() == d
}

// cutNumber reads exactly n digits.
func cutNumber(s string, n int) (v int, rest string, ok bool) {
	if len(s) < n || digits(s[:n], 0) != n {
		return 0, s, false
	}
	for _, c := range []byte(s[:n]) {
		v = v*10 + int(c-'0')
	}
	return v, s[n:], true
}

type clock struct {
	hour, minute, second, micro int
	offset                      *int
}

// parseClock reads a whole time with its zone.
func parseClock(s string) (c clock, ok bool) {
	if c.hour, s, ok = cutNumber(s, 2); !ok || c.hour > 24 {
		return c, false
	}
	colon := strings.HasPrefix(s, ":")
	for _, field := range []*int{&c.minute, &c.second} {
		t, has := strings.CutPrefix(s, ":")
		if has != colon || t == "" || t[0] < '0' || t[0] > '9' {
			if has {
				return c, false
			}
			break
		}
		if *field, s, ok = cutNumber(t, 2); !ok || *field > 59 {
			return c, false
		}
		if field == &c.second && s != "" && (s[0] == '.' || s[0] == ',') {
			n := digits(s, 1)
			if n == 1 {
				return c, false
			}
			frac := (s[1:n] + "00000")[:6]
			c.micro, _, _ = cutNumber(frac, 6)
			s = s[n:]
		}
	}
	switch {
	case s == "":
		return c, true
	case s == "Z" || s == "z":
		c.offset = new(int)
		return c, true
	case s[0] != '+' && s[0] != '-':
		return c, false
	}
	z, ok := parseClock(s[1:])
	if !ok || z.offset != nil || z.micro != 0 || z.hour > 23 {
		return c, false
	}
	offset := z.hour*3600 + z.minute*60 + z.second
	if s[0] == '-' {
		offset = -offset
	}
	c.offset = &offset
	return c, true
}

// appendISO is datetime.isoformat(sep).
func appendISO(b []byte, d DateTime, sep byte) []byte {
	y, m, day := d.Time.Date()
	b = appendISODate(b, Date{y, m, day})
	b = append(b, sep)
	t := TimeOfDay{Hour: d.Time.Hour(), Minute: d.Time.Minute(), Second: d.Time.Second(), Microsecond: d.Time.Nanosecond() / 1000}
	if !d.Naive {
		_, offset := d.Time.Zone()
		t.Offset = &offset
	}
	return appendISOTime(b, t)
}

func appendISODate(b []byte, d Date) []byte {
	b = appendPadded(b, d.Year, 4)
	b = appendPadded(append(b, '-'), int(d.Month), 2)
	return appendPadded(append(b, '-'), d.Day, 2)
}

func appendISOTime(b []byte, t TimeOfDay) []byte {
	b = appendPadded(b, t.Hour, 2)
	b = appendPadded(append(b, ':'), t.Minute, 2)
	b = appendPadded(append(b, ':'), t.Second, 2)
	if t.Microsecond != 0 {
		b = appendPadded(append(b, '.'), t.Microsecond, 6)
	}
	if t.Offset == nil {
		return b
	}
	offset, sign := *t.Offset, byte('+')
	if offset < 0 {
		offset, sign = -offset, '-'
	}
	b = appendPadded(append(b, sign), offset/3600, 2)
	b = appendPadded(append(b, ':'), offset/60%60, 2)
	if offset%60 != 0 {
		b = appendPadded(append(b, ':'), offset%60, 2)
	}
	return b
}

func appendPadded(b []byte, n, width int) []byte {
	for limit := 10; width > 1; width, limit = width-1, limit*10 {
		if n < limit {
			for ; width > 1; width-- {
				b = append(b, '0')
			}
			break
		}
	}
	return strconv.AppendInt(b, int64(n), 10)
}

// check says what Python could not hold. Every encoder asks before it writes.
func (d DateTime) check() error {
	if y := d.Time.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("year %d is out of range", y)
	}
	if _, offset := d.Time.Zone(); offset <= -86400 || offset >= 86400 {
		return fmt.Errorf("offset of %d seconds is out of range", offset)
	}
	return nil
}

func (d Date) check() error {
	t := time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC)
	if d.Year < 1 || d.Year > 9999 || t.Month() != d.Month || t.Day() != d.Day {
		return fmt.Errorf("date %d-%d-%d is out of range", d.Year, int(d.Month), d.Day)
	}
	return nil
}

func (t TimeOfDay) check() error {
	if t.Hour < 0 || t.Hour > 23 || t.Minute < 0 || t.Minute > 59 || t.Second < 0 || t.Second > 59 ||
		t.Microsecond < 0 || t.Microsecond > 999999 || t.Offset != nil && (*t.Offset <= -86400 || *t.Offset >= 86400) {
		return errors.New("time is out of range")
	}
	return nil
}
