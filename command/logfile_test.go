package command

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestALogfileThatWasRotatedAwayIsOpenedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w1.log")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openLogfile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	write := func(text string) {
		t.Helper()
		if _, err := l.Write([]byte(text + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("two")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write("three")
	for file, want := range map[string]string{path: "three\n", path + ".1": "before\none\n"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", filepath.Base(file), got, err, want)
		}
	}
}

// TestALogGoesOnWhereItsFileCannotBeOpenedAgain: into the file that was moved.
func TestALogGoesOnWhereItsFileCannotBeOpenedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := openLogfile(filepath.Join(dir, "w1.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("still\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir+".old", "w1.log")); err != nil || string(got) != "still\n" {
		t.Errorf("the moved file holds %q, %v", got, err)
	}
}

func TestNoLineIsLostInARotationUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w1.log")
	l, err := openLogfile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 500 {
				l.Write([]byte("line\n")) //nolint:errcheck // counted below
			}
		})
	}
	for i := range 20 {
		os.Rename(path, path+"."+string(rune('a'+i))) //nolint:errcheck // it may not be there again yet
	}
	writers.Wait()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(data), "line\n")
	}
	if lines != 2000 {
		t.Errorf("%d lines in %d files, want 2000", lines, len(files))
	}
}
