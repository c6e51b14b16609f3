package command

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A spectator is `stalk events` in the background.
type spectator struct {
	stdout, stderr *output
	signals        chan os.Signal
	code           chan int
}

func watchEvents(t *testing.T, url string, args ...string) *spectator {
	t.Helper()
	s := &spectator{stdout: &output{}, stderr: &output{}, signals: make(chan os.Signal, 1), code: make(chan int, 1)}
	go func() {
		s.code <- run(t.Context(), Program{}, append([]string{"stalk", "-b", url, "events"}, args...),
			process{stdout: s.stdout, stderr: s.stderr, signals: s.signals})
	}()
	return s
}

func (s *spectator) end(t *testing.T) {
	t.Helper()
	s.signals <- syscall.SIGINT
	select {
	case code := <-s.code:
		if code != 0 {
			t.Errorf("code %d\n%s", code, s.stderr)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("stalk events does not end")
	}
}

func TestEventsFromTheCommandLine(t *testing.T) {
	s := startDemo(t)
	text := watchEvents(t, s.url, "-d")
	text.stdout.wait(t, `-> evdump`) // the library's help flag is one for all: command lines start one by one
	json := watchEvents(t, s.url, "--json")
	// The watchers woke the worker: nobody waits for the next heartbeat.
	text.stdout.wait(t, `-> evdump: starting capture\.\.\.\ndemo@localhost \[[-0-9: .+]+\] heartbeat: .*clock=\d+, .*sw_ident=`)
	json.stdout.wait(t, `(?m)^\{.*"type": "worker-heartbeat"\}$`)
	wantRun(t, s.url, "control enable_events -t 0.3", 0, "->  demo@localhost: OK\n        task events enabled\n", "")
	publish(t, s.url, "celery", protocol.Task{ID: "one", Name: "hello", Args: []protocol.Value{"Ada"}, Kwargs: &protocol.Object{}})
	text.stdout.wait(t, `(?m)^demo@localhost \[.*\] task received: hello\(one\) args=\('Ada',\) kwargs=\{\} clock=`)
	text.stdout.wait(t, `(?m)^demo@localhost \[.*\] task succeeded: hello\(one\) args=\('Ada',\) kwargs=\{\} clock=.* result='hello Ada', runtime=`)
	json.stdout.wait(t, `(?m)^\{.*"uuid": "one".*"type": "task-succeeded"\}$`)
	text.end(t)
	json.end(t)
	for line := range strings.Lines(json.stdout.String()) {
		if _, err := protocol.ParseJSON([]byte(strings.TrimSpace(line)), protocol.Limits{}); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}
