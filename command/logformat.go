package command

import (
	"fmt"
	"log/slog"
	"os"
	"path"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// Celery's own formats (celery/app/defaults.py).
const (
	lineLayout = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
	taskLayout = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"
)

// A lineFormat is a format of Python's logging module in its % style, such as worker_log_format.
type lineFormat struct {
	pieces []func(*logLine) string
	date   *dateFormat // nil: Python's own, with milliseconds
}

// A logLine is what a format may print.
type logLine struct {
	slog.Record
	message        string
	logger         string
	task, taskName string // "": none
}

// directive is one of %(name)s, with Python's flags, width, precision and conversion; or %%.
var directive = regexp.MustCompile(`%(?:%|\((\w+)\)([-+ #0]*)(\d*)(?:\.(\d+))?([a-zA-Z]))`)

// newLineFormat reads a format. One that Python would refuse, now or at each line, is an error.
func newLineFormat(format, date string) (*lineFormat, error) {
	f := &lineFormat{}
	literal := func(text string) error {
		if strings.Contains(text, "%") {
			return fmt.Errorf("%q has a %% that begins no %%(field)s; write %%%% for a percent sign", format)
		}
		if text != "" {
			f.pieces = append(f.pieces, func(*logLine) string { return text })
		}
		return nil
	}
	end, fields := 0, 0
	for _, m := range directive.FindAllStringSubmatchIndex(format, -1) {
		if err := literal(format[end:m[0]]); err != nil {
			return nil, err
		}
		end = m[1]
		if m[2] < 0 {
			f.pieces = append(f.pieces, func(*logLine) string { return "%" })
			continue
		}
		part := func(i int) string {
			if m[2*i] < 0 {
				return ""
			}
			return format[m[2*i]:m[2*i+1]]
		}
		piece, err := f.field(part(1), part(2), part(3), part(4), part(5))
		if err != nil {
			return nil, err
		}
		f.pieces = append(f.pieces, piece)
		fields++
	}
	if err := literal(format[end:]); err != nil {
		return nil, err
	}
	if fields == 0 {
		return nil, fmt.Errorf("%q prints nothing of a line: want fields such as %%(asctime)s, %%(levelname)s and %%(message)s", format)
	}
	if date != "" {
		var err error
		if f.date, err = newDateFormat(date); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// logFields are the fields of Python's LogRecord that mean something here, and Celery's two.
var logFields = map[string]func(*lineFormat, *logLine) any{
	"asctime":         func(f *lineFormat, l *logLine) any { return f.asctime(l.Time) },
	"levelname":       func(_ *lineFormat, l *logLine) any { return levelName(l.Level) },
	"levelno":         func(_ *lineFormat, l *logLine) any { return levelNumber(l.Level) },
	"message":         func(_ *lineFormat, l *logLine) any { return l.message },
	"name":            func(_ *lineFormat, l *logLine) any { return l.logger },
	"task_name":       func(_ *lineFormat, l *logLine) any { return orUnknown(l.taskName) },
	"task_id":         func(_ *lineFormat, l *logLine) any { return orUnknown(l.task) },
	"process":         func(*lineFormat, *logLine) any { return os.Getpid() },
	"processName":     func(*lineFormat, *logLine) any { return "MainProcess" },
	"thread":          func(*lineFormat, *logLine) any { return 0 }, // goroutines have no number
	"threadName":      func(*lineFormat, *logLine) any { return "MainThread" },
	"created":         func(_ *lineFormat, l *logLine) any { return float64(l.Time.UnixMicro()) / 1e6 },
	"msecs":           func(_ *lineFormat, l *logLine) any { return float64(l.Time.Nanosecond() / 1e6) },
	"relativeCreated": func(_ *lineFormat, l *logLine) any { return float64(l.Time.Sub(processBegan).Microseconds()) / 1e3 },
	"pathname":        func(_ *lineFormat, l *logLine) any { return l.source().File },
	"filename":        func(_ *lineFormat, l *logLine) any { return path.Base(l.source().File) },
	"module":          func(_ *lineFormat, l *logLine) any { return strings.TrimSuffix(path.Base(l.source().File), ".go") },
	"lineno":          func(_ *lineFormat, l *logLine) any { return l.source().Line },
	"funcName":        func(_ *lineFormat, l *logLine) any { return path.Base(l.source().Function) },
}

var processBegan = time.Now()

func orUnknown(text string) string {
	if text == "" {
		return "???" // Celery's, outside a task
	}
	return text
}

// source is where the line was written.
func (l *logLine) source() runtime.Frame {
	frame, _ := runtime.CallersFrames([]uintptr{l.PC}).Next()
	return frame
}

// field is the piece that prints one field.
func (f *lineFormat) field(name, flags, width, precision, conversion string) (func(*logLine) string, error) {
	get, ok := logFields[name]
	if !ok {
		return nil, fmt.Errorf("there is no field %%(%s)s; there are %s", name, strings.Join(sortedKeys(logFields), ", "))
	}
	if w, _ := strconv.Atoi(width); w > 1000 {
		return nil, fmt.Errorf("%%(%s)%s%s is %d wide, want 1000 at most", name, width, conversion, w)
	}
	verb := "%" + flags + width
	if precision != "" {
		verb += "." + precision
	}
	_, isText := get(f, &logLine{}).(string)
	switch conversion {
	case "s":
		verb += "s"
		return func(l *logLine) string { return fmt.Sprintf(verb, pythonText(get(f, l))) }, nil
	case "r", "a":
		verb += "s"
		return func(l *logLine) string { return fmt.Sprintf(verb, pythonRepr(get(f, l))) }, nil
	case "d", "i", "x", "o":
		if isText {
			break
		}
		if conversion == "i" {
			conversion = "d"
		}
		verb += conversion
		return func(l *logLine) string {
			if v, ok := get(f, l).(float64); ok {
				return fmt.Sprintf(verb, int64(v))
			}
			return fmt.Sprintf(verb, get(f, l))
		}, nil
	case "f", "F", "e", "g":
		if isText {
			break
		}
		verb += conversion
		return func(l *logLine) string {
			if v, ok := get(f, l).(int); ok {
				return fmt.Sprintf(verb, float64(v))
			}
			return fmt.Sprintf(verb, get(f, l))
		}, nil
	}
	return nil, fmt.Errorf("%%(%s)%s cannot be printed so: write %%(%s)s", name, conversion, name)
}

func pythonText(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	return pythonRepr(v)
}

func pythonRepr(v any) string {
	if n, ok := v.(int); ok {
		return strconv.Itoa(n)
	}
	return protocol.Repr(v)
}

func (f *lineFormat) asctime(t time.Time) string {
	if f.date != nil {
		return f.date.text(t)
	}
	return strings.Replace(t.Format("2006-01-02 15:04:05.000"), ".", ",", 1)
}

// text is the line without its end.
func (f *lineFormat) text(l *logLine) string {
	var b strings.Builder
	for _, p := range f.pieces {
		b.WriteString(p(l))
	}
	return b.String()
}
