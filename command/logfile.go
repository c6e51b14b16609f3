package command

import (
	"errors"
	"io/fs"
	"os"
	"sync"
)

// A logfile is appended to, and opened again when it was moved away (logrotate) or removed: each write looks first,
// as Python's WatchedFileHandler does.
type logfile struct {
	path string

	mu   sync.Mutex
	file *os.File
	info fs.FileInfo // of file
}

func openLogfile(path string) (*logfile, error) {
	l := &logfile{path: path}
	return l, l.open()
}

func (l *logfile) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.info = f, info
	return nil
}

// Write appends p. When a new file cannot be opened the old one is written to as before.
func (l *logfile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now, err := os.Stat(l.path); err != nil || !os.SameFile(now, l.info) {
		if old := l.file; l.open() == nil {
			old.Close() //nolint:errcheck // every write to it was answered
		}
	}
	return l.file.Write(p)
}

func (l *logfile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
