package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
)

// A logStyle says how log lines look. The zero logStyle is Celery's default.
type logStyle struct {
	json       bool
	node       string // shown in JSON
	line, task *lineFormat
}

// logStyleOf reads --log-json and the formats of the settings.
func logStyleOf(c *cli.Context, s *settings, node string) (logStyle, error) {
	style := logStyle{json: c.Bool("log-json"), node: node}
	var errs []error
	read := func(name, layout, date string) *lineFormat {
		f, err := newLineFormat(s.text(name, layout), s.text(date, ""))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", cmp.Or(s.source[name], s.source[date])+": "+name, err))
		}
		return f
	}
	style.line = read("worker_log_format", lineLayout, "worker_log_datefmt")
	style.task = read("worker_task_log_format", taskLayout, "worker_task_log_datefmt")
	return style, errors.Join(errs...)
}

// taskLogger is the name of the logger that handlers write to, as Celery's get_task_logger. Its lines have a format
// of their own.
const taskLogger = "celery.task"

// celeryLog is a slog.Handler that prints lines as Celery does:
//
//	[2026-11-21 15:51:30,500: INFO/MainProcess] Task demo.add[...] received
//
// Attributes whose value already stands in the line are not said twice; the rest follow the message as key=value, and
// a traceback follows the line.
type celeryLog struct {
	mu    *sync.Mutex
	out   io.Writer
	level slog.Level
	style logStyle
	attrs []slog.Attr
}

// newLog is a log of Celery's default style.
func newLog(out io.Writer, level slog.Level) *slog.Logger { return styledLog(out, level, logStyle{}) }

func styledLog(out io.Writer, level slog.Level, style logStyle) *slog.Logger {
	if style.json {
		return jsonLog(out, level, style.node)
	}
	if style.line == nil {
		style.line = mustFormat(lineLayout)
	}
	if style.task == nil {
		style.task = mustFormat(taskLayout)
	}
	return slog.New(&celeryLog{mu: &sync.Mutex{}, out: out, level: level, style: style})
}

func mustFormat(layout string) *lineFormat {
	f, err := newLineFormat(layout, "")
	if err != nil {
		panic(err) // ours
	}
	return f
}

func (l *celeryLog) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

func (l *celeryLog) Handle(_ context.Context, r slog.Record) error {
	line := &logLine{Record: r}
	traceback := ""
	var rest []slog.Attr
	look := func(a slog.Attr) bool {
		a.Value = a.Value.Resolve()
		switch a.Key {
		case "traceback":
			traceback = a.Value.String()
		case "logger":
			line.logger = a.Value.String()
		case "task":
			line.task = a.Value.String()
			rest = append(rest, a)
		case "name":
			line.taskName = a.Value.String()
			rest = append(rest, a)
		case "took", "state", "reason":
		default:
			if a.Key != "attempt" || !strings.HasPrefix(r.Message, "Task ") { // Celery's own lines have no more
				rest = append(rest, a)
			}
		}
		return true
	}
	for _, a := range l.attrs {
		look(a)
	}
	r.Attrs(look)
	format := l.style.line
	if line.logger == taskLogger {
		format = l.style.task
	}
	line.logger = cmp.Or(line.logger, loggerOf(line))
	var b strings.Builder
	b.WriteString(r.Message)
	for _, a := range rest {
		v := a.Value.String()
		if strings.Contains(r.Message, v) || a.Key == "name" && line.task != "" && (line.logger == taskLogger || strings.Contains(r.Message, line.task)) {
			continue // a task shown by its id is shown by its name, or by its shadow
		}
		if a.Key == "task" && line.logger == taskLogger {
			continue
		}
		fmt.Fprintf(&b, " %s=%s", a.Key, quoted(v))
	}
	line.message = b.String()
	text := format.text(line) + "\n"
	if traceback != "" {
		text += strings.TrimRight(traceback, "\n") + "\n"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := io.WriteString(l.out, text)
	return err
}

// loggerOf is the name of the logger that writes such a line in Celery.
func loggerOf(l *logLine) string {
	switch {
	case strings.HasPrefix(l.Message, "Task ") && strings.HasSuffix(l.Message, " received"):
		return "celery.worker.strategy"
	case l.task != "":
		return "celery.app.trace"
	}
	return "celery.worker"
}

func (l *celeryLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	c.attrs = append(c.attrs[:len(c.attrs):len(c.attrs)], attrs...)
	return &c
}

// WithGroup ignores groups: nothing here makes one.
func (l *celeryLog) WithGroup(string) slog.Handler { return l }

// jsonLog prints one object per line. Its keys are stable: ts, level, message, node; and where they apply task (the
// id), name (of the task), queue, state, took (seconds), attempt, err, traceback, logger and others.
func jsonLog(out io.Writer, level slog.Level, node string) *slog.Logger {
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) > 0:
		case a.Key == slog.TimeKey:
			a.Key = "ts"
		case a.Key == slog.MessageKey:
			a.Key = "message"
		case a.Key == slog.LevelKey:
			if l, ok := a.Value.Any().(slog.Level); ok {
				a.Value = slog.StringValue(levelName(l))
			}
		}
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.Float64Value(a.Value.Duration().Seconds())
		}
		return a
	}}))
	if node != "" {
		log = log.With("node", node)
	}
	return log
}

func quoted(v string) string {
	if strings.ContainsAny(v, " \t\n\"=") {
		return fmt.Sprintf("%q", v)
	}
	return v
}

// critical is Celery's CRITICAL, one above ERROR.
const critical = slog.LevelError + 4

func levelName(l slog.Level) string {
	switch {
	case l >= critical:
		return "CRITICAL"
	case l >= slog.LevelError:
		return "ERROR"
	case l >= slog.LevelWarn:
		return "WARNING"
	case l >= slog.LevelInfo:
		return "INFO"
	}
	return "DEBUG"
}

// levelNumber is Python's number of a level.
func levelNumber(l slog.Level) int {
	switch {
	case l >= critical:
		return 50
	case l >= slog.LevelError:
		return 40
	case l >= slog.LevelWarn:
		return 30
	case l >= slog.LevelInfo:
		return 20
	}
	return 10
}

// parseLevel reads Celery's level names in any case. FATAL is CRITICAL. Numbers are refused, as Celery does.
func parseLevel(name string) (slog.Level, error) {
	switch strings.ToUpper(name) {
	case "DEBUG":
		return slog.LevelDebug, nil
	case "INFO":
		return slog.LevelInfo, nil
	case "WARNING", "WARN":
		return slog.LevelWarn, nil
	case "ERROR":
		return slog.LevelError, nil
	case "CRITICAL", "FATAL":
		return critical, nil
	}
	return 0, fmt.Errorf("-l %q: want DEBUG, INFO, WARNING, ERROR or CRITICAL", name)
}
