package command

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// celeryLog is a slog.Handler that prints lines as Celery's default worker_log_format does:
//
//	[2026-11-21 15:51:30,500: INFO/MainProcess] Task demo.add[...] received
//
// Attributes whose value already stands in the message are not said twice; the rest follow as key=value.
type celeryLog struct {
	mu    *sync.Mutex
	out   io.Writer
	level slog.Level
	attrs []slog.Attr
}

func newLog(out io.Writer, level slog.Level) *slog.Logger {
	return slog.New(&celeryLog{mu: &sync.Mutex{}, out: out, level: level})
}

func (l *celeryLog) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

func (l *celeryLog) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s: %s/MainProcess] %s", strings.Replace(r.Time.Format("2006-01-02 15:04:05.000"), ".", ",", 1), levelName(r.Level), r.Message)
	add := func(a slog.Attr) bool {
		v := a.Value.Resolve().String()
		switch {
		case a.Key == "took" || a.Key == "state" || strings.Contains(r.Message, v):
		default:
			fmt.Fprintf(&b, " %s=%s", a.Key, quoted(v))
		}
		return true
	}
	for _, a := range l.attrs {
		add(a)
	}
	r.Attrs(add)
	b.WriteByte('\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := io.WriteString(l.out, b.String())
	return err
}

func (l *celeryLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	c.attrs = append(c.attrs[:len(c.attrs):len(c.attrs)], attrs...)
	return &c
}

// WithGroup ignores groups: nothing here makes one.
func (l *celeryLog) WithGroup(string) slog.Handler { return l }

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

// parseLevel reads Celery's level names in any case. FATAL is CRITICAL.
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
