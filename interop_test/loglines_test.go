package interop_test

import (
	"bytes"
	"log/slog"
	"sync"
)

// logLines keeps what a worker in this process logs.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func newLogLines() *logLines { return &logLines{} }

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logLines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail is its end, for a failed test.
func (l *logLines) tail() string {
	text := l.text()
	return text[max(0, len(text)-6000):]
}
