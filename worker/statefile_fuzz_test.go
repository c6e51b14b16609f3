package worker

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzState: whatever stands in a state file, the worker starts or refuses, bounded, and what is not ours is still there.
func FuzzState(f *testing.F) {
	for _, text := range []string{
		"", `{"stalk_state":1,"node":"w","saved":"2026-11-21T00:00:00Z","clock":7,"revoked":[{"id":"a","at":"2026-11-21T00:00:00Z"}]}`,
		`{"stalk_state":2}`, `{"stalk_state":`, "\x00\x00", "SQLite format 3\x00", "\xce\x9a\x57\x13", "import os", `{"stalk_state":1,"clock":1e300,"revoked":[{}]}`,
	} {
		f.Add([]byte(text))
	}
	path := filepath.Join(f.TempDir(), "state")
	f.Fuzz(func(t *testing.T, text []byte) {
		os.Remove(path + ".damaged") //nolint:errcheck // it need not be there
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		set, clock := newIDSet(10, time.Hour), newClock()
		s, err := openState(path, "w", set, clock, slog.New(slog.DiscardHandler))
		at := path
		if err == nil && s.aside != "" {
			at += ".damaged"
		}
		if kept, readErr := os.ReadFile(at); readErr != nil || string(kept) != string(text) {
			t.Fatalf("what stood in the file is gone (%v)", readErr)
		}
		if n := len(set.all(time.Now())); n > 10 {
			t.Errorf("%d ids, at most 10 are kept", n)
		}
		if now := clock.now(); now < 0 || now > stateClock+1 {
			t.Errorf("the clock is %d", now)
		}
	})
}
