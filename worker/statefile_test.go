package worker

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

func readDocument(t *testing.T, path string) (doc stateDocument, ids []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, r := range doc.Revoked {
		ids = append(ids, r.ID)
	}
	return doc, ids
}

// What is revoked is in the file soon after, and another worker knows it from there.
func TestRevokedTasksSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.State = path }, handlers.Func("double", double))
		synctest.Wait()
		r.send(protocol.Task{ID: "late", Name: "double", Args: args(int64(1)), Expires: time.Now().Add(-time.Second)})
		r.w.revoked.add("a", time.Now())
		pass(statePause + 100*time.Millisecond)
		r.w.revoked.add("b", time.Now())
		r.w.revoked.add("c", time.Now())
		pass(statePause + 100*time.Millisecond) // no end of the worker is needed: kill -9
		_, ids := readDocument(t, path)
		if len(ids) != 4 || ids[2] != "b" || ids[3] != "c" {
			t.Errorf("the file has %q", ids)
		}
		r.w.control.clock.adjust(500)
		r.stop()
		if doc, _ := readDocument(t, path); doc.Clock < 501 || doc.Node != "w1@test" {
			t.Errorf("clock %d of %s at the end", doc.Clock, doc.Node)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}

		time.Sleep(2 * time.Hour)
		again := startRig(t, func(c *Config) { c.State = path }, handlers.Func("double", double))
		if now := again.w.control.clock.now(); now < 501 {
			t.Errorf("the clock goes on at %d", now)
		}
		again.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		again.send(protocol.Task{ID: "d", Name: "double", Args: args(int64(1))})
		synctest.Wait()
		again.wantState("a", protocol.Revoked)
		again.wantState("d", protocol.Success)
		again.stop()
		time.Sleep(2 * time.Hour) // the ids are four hours old: three is how long they count; a was seen again
		third := startRig(t, func(c *Config) { c.State = path }, handlers.Func("double", double))
		if got := third.w.revoked.list(time.Now()); len(got) != 1 || got[0] != "a" {
			t.Errorf("four hours later %q are revoked", got)
		}
	})
}

// Many revocations at once are few writes.
func TestStateFileIsNotWrittenForEachRevocation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.State = path; c.RevokesMax = 50 }, handlers.Func("double", double))
		writes, last := 0, time.Time{}
		for i := range 1000 {
			r.w.revoked.add(fmt.Sprint(i), time.Now())
			pass(time.Millisecond)
			if doc, _ := readDocument(t, path); !doc.Saved.Equal(last) {
				writes, last = writes+1, doc.Saved
			}
		}
		if writes < 2 || writes > 4 {
			t.Errorf("%d writes in a second", writes)
		}
		pass(statePause)
		if _, ids := readDocument(t, path); len(ids) != 50 || ids[49] != "999" {
			t.Errorf("the file has %d ids, the last %s", len(ids), ids[len(ids)-1])
		}
	})
}

func TestStateFileThatCannotBeUsed(t *testing.T) {
	gdbm := "\xcf\x9a\x57\x13" + strings.Repeat("\x00", 60)
	ndbm := strings.Repeat("\x00", 12) + "\x61\x15\x06\x00" + strings.Repeat("\x00", 60)
	for _, tt := range []struct{ name, text, want string }{
		{"gdbm", gdbm, "Python worker"},
		{"Berkeley DB", ndbm, "Python worker"},
		{"SQLite", "SQLite format 3\x00...", "Python worker"},
		{"somebody's JSON", `{"a": 1}`, "no state file"},
		{"a text", "root:x:0:0:root:/root:/bin/bash", "no state file"},
		{"dbm.dumb", "'zrevoked', (0, 20)", "no state file"},
		{"of a newer version", `{"stalk_state": 9}`, "version 9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := openState(path, "n", newIDSet(10, time.Hour), newClock(), slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if text, _ := os.ReadFile(path); string(text) != tt.text {
				t.Error("the file was changed")
			}
		})
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing", "state"), os.DevNull} {
		if _, err := openState(path, "n", newIDSet(10, time.Hour), newClock(), slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s is taken for a state file", path)
		}
	}
}

// A damaged file is put aside, told of, and stops nobody.
func TestDamagedStateFile(t *testing.T) {
	for name, text := range map[string]string{
		"cut":          `{"stalk_state": 1, "revoked": [{"id": "a", "at"`,
		"cut early":    `{"sta`,
		"zeros":        "\x00\x00\x00\x00",
		"no version":   `{"stalk_state": null}`,
		"a wrong type": `{"stalk_state": 1, "revoked": {"a": 1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				r := startRig(t, func(c *Config) { c.State = path }, handlers.Func("double", double))
				synctest.Wait()
				r.wantLog("is damaged")
				if kept, _ := os.ReadFile(path + ".damaged"); string(kept) != text {
					t.Errorf("put aside: %q", kept)
				}
				r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
				synctest.Wait()
				r.wantState("a", protocol.Success)
			})
			if _, ids := readDocument(t, path); len(ids) != 0 {
				t.Errorf("the new file has %q", ids)
			}
		})
	}
}

// Strange entries of a file that can be read harm nobody.
func TestStateFileEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	now := time.Now()
	text := fmt.Sprintf(`{"stalk_state": 1, "clock": 9007199254740993, "revoked": [{"id": "ahead", "at": %q}, {"id": "", "at": %q},
		{"id": %q, "at": %q}, {"id": "old", "at": %q}, {"id": "young", "at": %q}, {"id": "older", "at": %q}]}`,
		now.Add(100*time.Hour).Format(time.RFC3339Nano), now.Format(time.RFC3339Nano), strings.Repeat("x", 2000), now.Format(time.RFC3339Nano),
		now.Add(-4*time.Hour).Format(time.RFC3339Nano), now.Add(-time.Minute).Format(time.RFC3339Nano), now.Add(-2*time.Minute).Format(time.RFC3339Nano))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, c := newIDSet(10, 3*time.Hour), newClock()
	if _, err := openState(path, "n", set, c, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"older", "young", "ahead"}, set.list(time.Now())); d != "" {
		t.Error(d)
	}
	if c.now() != 0 {
		t.Errorf("clock %d", c.now())
	}
	if got := set.list(now.Add(4 * time.Hour)); len(got) != 0 {
		t.Errorf("%q never expire", got)
	}
}

// A folder that cannot be written is told of once, and written to when it can be again.
func TestStateFileThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state")
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.State = path }, handlers.Func("double", double))
		synctest.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		r.w.revoked.add("a", time.Now())
		pass(5 * time.Minute)
		if n := strings.Count(r.log.String(), "the state file cannot be written"); n != 1 {
			t.Errorf("%d complaints:\n%s", n, r.log)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		pass(stateRetry + time.Second)
		r.wantLog("the state file is written again")
		if _, ids := readDocument(t, path); len(ids) != 1 {
			t.Errorf("the file has %q", ids)
		}
	})
}
