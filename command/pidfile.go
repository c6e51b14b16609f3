package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// codeHeld is the exit code when the pidfile is another process's (EX_CANTCREAT).
const codeHeld = 73

// A pidfile says that a worker runs, and which process it is.
type pidfile struct {
	path string
	info fs.FileInfo // of the file we made
}

// claimPidfile makes the file, or refuses in Celery's words (an exitError) when the process it names lives. What a
// dead process left, or nobody can read, is removed with a line on stderr. An empty path is no pidfile.
func claimPidfile(path string, stderr io.Writer) (*pidfile, error) {
	if path == "" {
		return nil, nil
	}
	for range 3 { // another worker may take the place of a stale file at the same moment
		if err := clearStale(path, stderr); err != nil {
			return nil, err
		}
		p, err := makePidfile(path)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("--pidfile: %w", err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("--pidfile: %s comes back as often as it is removed", path)
}

// makePidfile makes the file in one step, whole: half written it would look broken to whoever starts beside us, and be
// removed. Only where there are no hard links is it written in place. The error is fs.ErrExist when there is one.
func makePidfile(path string) (_ *pidfile, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return nil, err
	}
	temporary := f.Name()
	defer func() { err = errors.Join(err, os.Remove(temporary)) }()
	p, err := writePid(f, path)
	if err != nil {
		return nil, err
	}
	if err = os.Link(temporary, path); err == nil || errors.Is(err, fs.ErrExist) {
		return p, err
	}
	if f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); err != nil {
		return nil, err
	}
	if p, err = writePid(f, path); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return p, nil
}

// writePid fills f and closes it.
func writePid(f *os.File, path string) (*pidfile, error) {
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	return &pidfile{path, info}, errors.Join(err, f.Close())
}

// clearStale removes the file unless it names a living process that is not this one. In a container every worker
// is process 1: the file of the one before is its own.
func clearStale(path string, stderr io.Writer) error {
	before, err := os.Stat(path)
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--pidfile: %w", err)
	}
	line, _, whole := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	switch {
	case !whole || err != nil:
		fmt.Fprintln(stderr, "Broken pidfile found - Removing it.")
	case pid == os.Getpid() || pid <= 0:
	case alive(pid):
		return exitError{codeHeld, fmt.Sprintf("ERROR: Pidfile (%s) already exists.\nSeems we're already running? (pid: %d)", path, pid)}
	default:
		fmt.Fprintln(stderr, "Stale pidfile exists - Removing it.")
	}
	if now, err := os.Stat(path); err == nil && !os.SameFile(before, now) {
		return nil // another worker was faster, and has made its own
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--pidfile: %w", err)
	}
	return nil
}

// release removes the file, unless it is not the one we made. A nil pidfile is none.
func (p *pidfile) release() error {
	if p == nil {
		return nil
	}
	now, err := os.Stat(p.path)
	if err != nil || !os.SameFile(now, p.info) {
		return nil // somebody else's, or gone
	}
	return os.Remove(p.path)
}
