package interop_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An answer is what one node said to one question of pyfixtures/controldiff.py.
type controlAnswer struct{ label, text string }

func (a *controlAnswer) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&a.label, &a.text})
}

// controlDifferential starts a worker of each kind with these flags, leads both through the situations of
// pyfixtures/controldiff.py, and compares what they said.
func (s setup) controlDifferential(t *testing.T, situations string, args ...string) {
	t.Helper()
	// So many that a Python worker gets all the tasks of "busy": on RabbitMQ 4 it does not ask for more when it holds
	// some for later.
	s = s.with("task_acks_late", true).with("worker_prefetch_multiplier", 8).with("task_track_started", true).
		with("result_extended", true).with("accept_content", []string{"json"}).
		apart(t) // what other tests revoke everywhere only one of the two may live to hear
	type side struct {
		prefix string
		queue  string
		w      *worker
		answer <-chan pyAnswer
	}
	pq, gq := unique("ctlpy"), unique("ctlgo")
	sides := []*side{
		{prefix: strings.ReplaceAll(unique("py"), "-", ""), queue: pq, w: s.controlPython(t, pq, args...)},
		{prefix: strings.ReplaceAll(unique("go"), "-", ""), queue: gq, w: s.startProgram(t, shopBin, gq, append([]string{"-c", "1", "--without-gossip", "--without-mingle"}, args...)...)},
	}
	for _, x := range sides {
		x.w.waitReady()
		x.answer = s.python(t, x.queue).start(`
			import sys
			if FIXTURES not in sys.path:
			    sys.path.insert(0, FIXTURES)
			import controldiff
			value = controldiff.Conversation(NODE, Q, PREFIX).play(SITUATIONS)
		`, map[string]any{
			"FIXTURES": filepath.Join(root, "pyfixtures"), "NODE": x.w.name + "@test", "PREFIX": x.prefix, "SITUATIONS": situations,
		})
	}
	said := make([][]controlAnswer, len(sides))
	for i, x := range sides {
		select {
		case a := <-x.answer:
			if a.Error != "" {
				t.Fatalf("%s: %s", x.w.name, a.Error)
			}
			if err := json.Unmarshal(a.Value, &said[i]); err != nil {
				t.Fatal(err)
			}
		case <-time.After(12 * time.Minute):
			t.Fatalf("%s: the conversation does not end", x.w.name)
		}
	}
	compareControl(t, said[0], said[1])
	if strings.HasSuffix(situations, "ending") {
		for _, x := range sides {
			if code := x.w.wait(90 * time.Second); code != 0 {
				t.Errorf("%s ended with %d after shutdown by remote, want 0", x.w.name, code)
			}
		}
	}
}

// controlPython starts the Python worker of pyfixtures/controldiff.py: prefork, one process; without gossip, because
// an election that only one node holds ends a Python worker (IndexError in kombu.clocks).
func (s setup) controlPython(t *testing.T, queue string, args ...string) *worker {
	name := unique("celery")
	cmd := exec.Command(python, append([]string{
		"-m", "celery", "-A", "controldiff", "worker", "-Q", queue, "-n", name + "@test", "-l", "INFO", "-c", "1", "-P", "prefork", "--without-gossip", "--without-mingle",
	}, args...)...)
	cmd.Dir = filepath.Join(root, "pyfixtures")
	cmd.Env = s.environment("C_FORCE_ROOT=1")
	return startWorker(t, cmd, name)
}

// TestControlAnswersAsAPythonWorkerDoes: a Python worker and Stalk, with the same tasks and settings and in the same
// situations, say the same to the same commands. What differs on purpose stands in controlDifferences.
func TestControlAnswersAsAPythonWorkerDoes(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		since(t, 7, "hello tells ids alone, registered hides what is private, revoke leaves the results of running tasks, query_task knows what waits for its eta")
		s.controlDifferential(t, "idle busy revoking queues pool odd ending")
	})
}

// TestAutoscaleCommandsAnswerAsAPythonWorkersDo: likewise where the pool has an autoscaler.
func TestAutoscaleCommandsAnswerAsAPythonWorkersDo(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		since(t, 6, "stats has a credential_provider")
		s.controlDifferential(t, "autoscaled ending", "--autoscale", "4,1")
	})
}

func compareControl(t *testing.T, python, stalk []controlAnswer) {
	t.Helper()
	said := map[string]string{}
	for _, a := range stalk {
		said[a.label] = a.text
	}
	if path := os.Getenv("CONTROL_ANSWERS"); path != "" { // a file for all that was said
		var all [][]string
		for _, a := range python {
			all = append(all, []string{a.label, a.text, said[a.label]})
		}
		b, err := json.MarshalIndent(all, "", " ")
		if err == nil {
			err = os.WriteFile(path, b, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
	purposes := map[string]string{}
	for _, d := range controlDifferences {
		for _, a := range d.answers {
			purposes[a.label] = a.text
		}
	}
	differing := 0
	for _, want := range python {
		got, ok := said[want.label]
		if !ok {
			got = "(was not asked)"
		}
		switch known, purpose := purposes[want.label]; {
		case purpose && got == want.text:
			t.Errorf("%s: no difference any more: %s", want.label, got)
		case purpose && known != "" && got != known:
			t.Errorf("%s: %s, want %s", want.label, got, known)
		case !purpose && got != want.text:
			differing++
			t.Error(differenceText(want, got))
		}
	}
	if len(stalk) != len(python) && differing == 0 {
		t.Errorf("Python was asked %d times, Stalk %d", len(python), len(stalk))
	}
	t.Logf("%d answers compared, %d differ that should not", len(python), differing)
}

func differenceText(want controlAnswer, got string) string {
	const most = 1500
	cut := func(s string) string {
		if len(s) > most {
			return s[:most] + "..."
		}
		return s
	}
	return fmt.Sprintf("%s:\n  python %s\n  stalk  %s", want.label, cut(want.text), cut(got))
}
