package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestThePidfileOfALivingProcessIsRespected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w1.pid")
	held := strconv.Itoa(os.Getppid()) + "\n"
	if err := os.WriteFile(path, []byte(held), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), Program{}, []string{"stalk", "worker", "--demo", "-b", "redis://127.0.0.1:1", "--pidfile", path}, process{stdout: &stdout, stderr: &stderr})
	want := fmt.Sprintf("ERROR: Pidfile (%s) already exists.\nSeems we're already running? (pid: %d)\n", path, os.Getppid())
	if code != 73 || stderr.String() != want || stdout.Len() != 0 {
		t.Errorf("code %d, stderr %q, stdout %q; want 73, %q and nothing", code, stderr.String(), stdout.String(), want)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != held {
		t.Errorf("the file is now %q, %v", got, err)
	}
}

func TestWhatNobodyHoldsIsReplacedWithAMessage(t *testing.T) {
	dead := "2147483646\n" // above any pid_max
	for _, tt := range []struct{ name, content, said string }{
		{"no file", "", ""},
		{"a dead process's", dead, "Stale pidfile exists - Removing it.\n"},
		{"without its newline", "99", "Broken pidfile found - Removing it.\n"},
		{"no number", "abc\n", "Broken pidfile found - Removing it.\n"},
		{"our own, of a container's process 1 before", strconv.Itoa(os.Getpid()) + "\n", ""},
		{"process 0", "0\n", ""},
		{"a group of processes", "-1\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "w1.pid")
			if tt.content != "" {
				if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var stderr bytes.Buffer
			p, err := claimPidfile(path, &stderr)
			if err != nil {
				t.Fatal(err)
			}
			if stderr.String() != tt.said {
				t.Errorf("said %q, want %q", stderr.String(), tt.said)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil || string(got) != fmt.Sprintf("%d\n", os.Getpid()) || info.Mode() != 0o644 {
				t.Errorf("the file holds %q with mode %v, %v", got, info.Mode(), err)
			}
			if err := p.release(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the file is still there: %v", err)
			}
		})
	}
}

func TestAPidfileThatIsNotOursAnyMoreStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w1.pid")
	p, err := claimPidfile(path, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil { // keeps the inode in use
		t.Fatal(err)
	}
	if err := p.release(); err != nil {
		t.Errorf("releasing a file that is gone: %v", err)
	}
	if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("another worker's file was removed: %v", err)
	}
}

func TestAPidfileThatCannotBeMadeIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "w1.pid")
	if _, err := claimPidfile(path, &bytes.Buffer{}); err == nil {
		t.Error("a folder that is missing is no error")
	}
	if p, err := claimPidfile("", &bytes.Buffer{}); p != nil || err != nil || p.release() != nil {
		t.Errorf("no pidfile = %v, %v", p, err)
	}
}

// Whoever starts at the same moment sees no pidfile, or a whole one.
func TestAPidfileIsNeverSeenHalfWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w1.pid")
	over := make(chan struct{})
	seen := make(chan string, 1)
	go func() {
		defer close(seen)
		for {
			select {
			case <-over:
				return
			default:
			}
			if text, err := os.ReadFile(path); err == nil && !bytes.HasSuffix(text, []byte("\n")) {
				seen <- string(text)
				return
			}
		}
	}()
	for range 300 {
		p, err := claimPidfile(path, &bytes.Buffer{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.release(); err != nil {
			t.Fatal(err)
		}
	}
	close(over)
	if text, half := <-seen; half {
		t.Errorf("somebody saw %q", text)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
