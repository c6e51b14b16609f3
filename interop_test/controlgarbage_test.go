package interop_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestControlGarbageDisturbsNothing: after each of several hundred malformed remote control messages and events the
// worker answers ping within seconds, and now and then runs a task; after a burst of 10,000 commands in the midst
// of tasks too. Its memory stays bounded and no goroutine is left behind.
func TestControlGarbageDisturbsNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("several of these messages end a Python worker")
		}
		control, event := unique("ctl"), unique("ev")
		s = s.with("control_exchange", control).with("event_exchange", event).with("accept_content", []string{"json", "msgpack", "yaml"})
		queue := unique("ctlgarbage")
		w := s.startProgram(t, plain(t), queue)
		w.waitReady()
		p := s.python(t, queue)
		p.run(`
			import sys
			if FIXTURES not in sys.path:
			    sys.path.insert(0, FIXTURES)
			import controlgarbage
			attack = controlgarbage.Attack(app, NODE, BROKER, CONTROL + ".pidbox", EVENT, Q, OTHER)
			attack.ping(20)
		`, map[string]any{
			"FIXTURES": filepath.Join(root, "pyfixtures"), "NODE": w.name + "@test", "BROKER": s.broker, "CONTROL": control, "EVENT": event, "OTHER": unique("other"),
		})
		defer p.run(`attack.close()`)
		goroutines := func() (n int) {
			t.Helper()
			if err := json.Unmarshal(p.run(`value = app.control.broadcast("goroutines", reply=True, destination=[attack.node], timeout=60)[0][attack.node]`), &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		p.run(`attack.task()`)
		before := goroutines()
		var sum struct {
			Thrown  int
			Refused []string
			Slowest float64
			Slow    int // answers that took more than five seconds
		}
		if err := json.Unmarshal(p.run(`value = attack.everything(SEEDS, 60)`, map[string]any{"SEEDS": []int{1, 2, 3}}), &sum); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d malformed messages, slowest answer %.3f s; the client refused to send %d: %.500q", sum.Thrown, sum.Slowest, len(sum.Refused), sum.Refused)
		if sum.Slow > 3 { // the machine may have been busy elsewhere
			t.Errorf("%d answers took more than five seconds", sum.Slow)
		}
		if sum.Thrown < 500 {
			t.Errorf("%d malformed messages were sent, want 500", sum.Thrown)
		}
		t.Logf("burst: %s", p.run(`value = attack.burst(10000)`))
		p.run(`attack.task()`)
		if peak := w.peakMemory(); peak > 600<<20 {
			t.Errorf("the worker took %d MiB", peak>>20)
		} else {
			t.Logf("the worker took %d MiB at most", peak>>20)
		}
		after := goroutines()
		for end := time.Now().Add(30 * time.Second); after > before+5 && time.Now().Before(end); after = goroutines() { // what runs just now is not left behind
			time.Sleep(100 * time.Millisecond)
		}
		if after > before+5 {
			t.Errorf("%d goroutines before, %d after", before, after)
			var dump string
			if err := json.Unmarshal(p.run(`value = app.control.broadcast("goroutine_dump", reply=True, destination=[attack.node], timeout=60)[0][attack.node]`), &dump); err != nil {
				t.Error(err)
			}
			t.Log(dump)
		}
		w.stop()
		if strings.Contains(string(w.output()), "panic:") {
			t.Error("something panicked; see the log")
		}
	})
}

// plain is shopworker without the race detector, where time and memory are looked at.
func plain(t *testing.T) string {
	t.Helper()
	path, err := buildPlain()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildPlain = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "shopworker-plain")
	cmd := exec.Command("go", "build", "-o", path, "./interop_test/shopworker")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// peakMemory is the most resident memory the worker ever had, in bytes.
func (w *worker) peakMemory() int {
	w.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	if err != nil {
		w.t.Skip("no /proc here")
	}
	for _, line := range strings.Split(string(status), "\n") {
		var kb int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	w.t.Fatal("no VmHWM")
	return 0
}
