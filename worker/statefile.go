package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// stateFile keeps the revoked ids and the clock over a restart (--statedb). It is a file of our own, JSON with
// wall-clock stamps, not Python's shelve, whose stamps mean nothing after a reboot. Its room writes it anew, whole
// and at once (a temporary file, fsync, rename), soon after an id is revoked and at the end.
type stateFile struct {
	path    string
	node    string
	revoked *idSet
	clock   *clock
	log     *slog.Logger
	aside   string // what became of a damaged file; logged when the room starts
}

const (
	stateVersion = 1
	stateMax     = 64 << 20               // bytes read
	stateIDMax   = 1024                   // bytes of an id kept
	stateClock   = 1 << 53                // a clock beyond is damage: it would poison every other node's
	statePause   = 500 * time.Millisecond // between two writes, at least
	stateRetry   = 30 * time.Second       // after a write that failed
)

type stateDocument struct {
	Version int       `json:"stalk_state"`
	Node    string    `json:"node"`
	Saved   time.Time `json:"saved"`
	Clock   int64     `json:"clock"`
	Revoked []stateID `json:"revoked"` // oldest first
}

type stateID struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// openState reads the file at path into revoked and clock. A file that is not there is an empty one; one that is
// damaged is renamed and told of. An error means that the file is not ours to write: Python's, a device, a
// newer version's, or unreadable.
func openState(path, node string, revoked *idSet, c *clock, log *slog.Logger) (*stateFile, error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	s := &stateFile{path: path, node: node, revoked: revoked, clock: c, log: log}
	text, err := readState(path)
	switch {
	case isShelve(text) || hasShelve(path):
		return nil, fmt.Errorf("worker: state file %q is the state db of a Python worker, which cannot be shared: give this worker a file of its own", path)
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("worker: state file %q: %w", path, err)
		}
		return s, nil
	case err != nil:
		return nil, fmt.Errorf("worker: state file %q: %w", path, err)
	case len(bytes.TrimSpace(text)) == 0:
		return s, nil
	case !looksLikeState(text):
		return nil, fmt.Errorf("worker: %q is no state file: it holds something else, which is left alone; give this worker a file of its own", path)
	}
	var doc stateDocument
	err = json.Unmarshal(text, &doc)
	if err == nil && doc.Version > stateVersion {
		return nil, fmt.Errorf("worker: state file %q is of version %d, and this program knows %d", path, doc.Version, stateVersion)
	}
	if err == nil && doc.Version != stateVersion {
		err = errors.New("no state of Stalk's")
	}
	if err != nil {
		s.aside = fmt.Sprintf("state file %s is damaged (%v); ", path, err)
		if renameErr := os.Rename(path, path+".damaged"); renameErr != nil {
			return nil, fmt.Errorf("worker: state file %q is damaged (%w) and cannot be renamed: %w", path, err, renameErr)
		}
		s.aside += "it is now " + path + ".damaged, and the worker starts without revoked tasks"
		return s, nil
	}
	s.take(doc, time.Now())
	return s, nil
}

// looksLikeState reports whether a file may be put aside when it cannot be read: it begins as one of ours does, or holds
// the zeros that a lost machine leaves. Anything else is somebody's.
func looksLikeState(text []byte) bool {
	const begin = `{"stalk_state":`
	return len(bytes.Trim(text, "\x00")) == 0 || bytes.HasPrefix(text, []byte(begin)) || bytes.HasPrefix([]byte(begin), text)
}

func readState(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, stateMax+1))
	if err == nil && len(text) > stateMax {
		err = fmt.Errorf("more than %d bytes", stateMax)
	}
	return text, err
}

// take fills set and clock. A stamp that lies ahead, because the clock was set back, counts as now.
func (s *stateFile) take(doc stateDocument, now time.Time) {
	if doc.Clock > 0 && doc.Clock < stateClock {
		s.clock.adjust(doc.Clock)
	}
	slices.SortStableFunc(doc.Revoked, func(a, b stateID) int { return a.At.Compare(b.At) })
	for _, r := range doc.Revoked {
		if r.ID == "" || len(r.ID) > stateIDMax {
			continue
		}
		if r.At.After(now) {
			r.At = now
		}
		s.revoked.add(r.ID, r.At)
	}
	s.revoked.all(now) // forgets the old ones
}

// run writes the file at the start, which shows whether it can be written, after each change, and last when ctx is
// done. A change soon after another waits a little, longer the longer a write takes.
func (s *stateFile) run(ctx context.Context) {
	if s.aside != "" {
		s.log.Error(s.aside)
	}
	failing := false
	for {
		select {
		case <-s.revoked.changed: // what is written from here on has it
		default:
		}
		began := time.Now()
		err := s.write(began)
		pause := max(statePause, 20*time.Since(began))
		switch {
		case err != nil:
			if !failing {
				s.log.Error("the state file cannot be written; trying again", "file", s.path, "err", err)
			}
			pause = stateRetry
		case failing:
			s.log.Info("the state file is written again", "file", s.path)
		}
		failing = err != nil
		if !sleep(ctx, pause) {
			break
		}
		if failing {
			continue
		}
		select {
		case <-s.revoked.changed:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := s.write(time.Now()); err != nil {
		s.log.Error("the state file is not written at the end", "file", s.path, "err", err)
	}
}

// write replaces the file.
func (s *stateFile) write(now time.Time) error {
	doc := stateDocument{Version: stateVersion, Node: s.node, Saved: now.UTC(), Clock: s.clock.now(), Revoked: []stateID{}}
	for _, d := range s.revoked.all(now) {
		doc.Revoked = append(doc.Revoked, stateID{d.id, d.at.UTC()})
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	temporary := s.path + ".tmp" // the same each time: a crash leaves one
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, s.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// hasShelve reports whether Python has a state db under that name in files of other names: what dbm.ndbm and dbm.dumb
// append their endings to.
func hasShelve(path string) bool {
	if text, err := readState(path + ".db"); err == nil && isShelve(text) {
		return true
	}
	_, dir := os.Stat(path + ".dir")
	_, dat := os.Stat(path + ".dat")
	return dir == nil && dat == nil
}

// isShelve recognizes the files that Python's dbm makes: gdbm, Berkeley DB (ndbm) and SQLite.
func isShelve(text []byte) bool {
	word := func(at int, magics ...uint32) bool {
		if len(text) < at+4 {
			return false
		}
		return slices.Contains(magics, binary.LittleEndian.Uint32(text[at:])) || slices.Contains(magics, binary.BigEndian.Uint32(text[at:]))
	}
	return bytes.HasPrefix(text, []byte("SQLite format 3\x00")) ||
		word(0, 0x13579acd, 0x13579ace, 0x13579acf, 0x13579ad0, 0x13579ad1, 0x13579ad2, 0x13579ad3) ||
		word(0, 0x00061561, 0x00053162) || word(12, 0x00061561, 0x00053162)
}
