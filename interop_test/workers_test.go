package interop_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// celeryInstead runs the tests on Celery's own worker, which must pass most of them: are the tests themselves right?
var celeryInstead = os.Getenv("INTEROP_WORKER") == "celery"

// A worker is a running worker process, Stalk's or Python's.
type worker struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  string
	name string
	done chan struct{} // closed when it has ended
	race bool          // whether its log is searched for data races
}

// stalk starts a Stalk worker with the demo tasks on a queue and waits until it is ready.
func (s setup) stalk(t *testing.T, queue string, args ...string) *worker {
	t.Helper()
	if celeryInstead {
		return s.celery(t, queue, append([]string{"-P", "prefork", "-c", "2"}, args...)...)
	}
	w := s.startStalk(t, queue, args...)
	w.waitReady()
	return w
}

// shop starts the worker with the handlers of the Django project's own tasks (interop_test/shopworker).
func (s setup) shop(t *testing.T, queue string, args ...string) *worker {
	t.Helper()
	if celeryInstead {
		return s.stalk(t, queue, args...)
	}
	w := s.startProgram(t, shopBin, queue, args...)
	w.waitReady()
	return w
}

// startStalk does not wait.
func (s setup) startStalk(t *testing.T, queue string, args ...string) *worker {
	t.Helper()
	return s.startProgram(t, stalkBin, queue, args...)
}

func (s setup) startProgram(t *testing.T, program, queue string, args ...string) *worker {
	t.Helper()
	name := unique("stalk")
	argv := []string{"-b", s.broker, "--result-backend", s.backend}
	if len(s.settings) > 0 {
		config, err := json.Marshal(s.settings) // JSON is YAML
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "stalk.yaml")
		if err := os.WriteFile(path, config, 0o644); err != nil {
			t.Fatal(err)
		}
		argv = append(argv, "--config", path)
	}
	argv = append(argv, "worker", "-Q", queue, "-c", "2", "--demo", "-l", "INFO", "-n", name+"@test")
	cmd := exec.Command(program, append(argv, args...)...)
	// A data race ends the worker with a code no test expects.
	cmd.Env = append(append(os.Environ(), "GORACE=halt_on_error=1 exitcode=66"), s.env...)
	w := startWorker(t, cmd, name)
	w.race = true
	return w
}

// celery starts a real Celery worker, which runs the demo tasks itself, and waits until it is ready.
func (s setup) celery(t *testing.T, queue string, args ...string) *worker {
	t.Helper()
	w := s.startCelery(t, queue, args...)
	w.waitReady()
	return w
}

// startCelery does not wait.
func (s setup) startCelery(t *testing.T, queue string, args ...string) *worker {
	t.Helper()
	name := unique("celery")
	argv := []string{
		"-m", "celery", "-A", "project", "worker", "-Q", queue, "-n", name + "@test", "-l", "INFO",
		"-c", "1", "-P", "solo", "--without-mingle", "--without-gossip", "--without-heartbeat",
	}
	cmd := exec.Command(python, append(argv, args...)...)
	cmd.Dir = filepath.Join(root, "pyfixtures/django_project")
	cmd.Env = append(s.environment("STALK_SERVE_DEMO=1", "C_FORCE_ROOT=1"), s.env...)
	return startWorker(t, cmd, name)
}

func startWorker(t *testing.T, cmd *exec.Cmd, name string) *worker {
	t.Helper()
	w := &worker{t: t, cmd: cmd, name: name, log: filepath.Join(scratch, name+".log"), done: make(chan struct{})}
	log, err := os.Create(w.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a prefork pool dies with its parent
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.done)
		cmd.Wait() // the exit code is read from ProcessState
	}()
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, tail(w.log))
		}
		if w.race && bytes.Contains(w.output(), []byte("WARNING: DATA RACE")) {
			t.Errorf("%s has a data race:\n%s", name, tail(w.log))
		}
	})
	return w
}

func (w *worker) output() []byte {
	b, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Error(err)
	}
	return b
}

// waitReady waits for Celery's own words.
func (w *worker) waitReady() {
	w.t.Helper()
	w.waitLog(w.name + "@test ready.")
}

// waitLog waits until the log contains a text.
func (w *worker) waitLog(text string) {
	w.t.Helper()
	w.waitLogs(text, 1)
}

// waitLogs waits until the log contains a text n times.
func (w *worker) waitLogs(text string, n int) {
	w.t.Helper()
	deadline := time.After(120 * time.Second)
	for strings.Count(string(w.output()), text) < n {
		select {
		case <-w.done:
			if strings.Count(string(w.output()), text) >= n { // its last words
				return
			}
			w.t.Fatalf("%s has ended (%v) without saying %q", w.name, w.cmd.ProcessState, text)
		case <-deadline:
			w.t.Fatalf("%s does not say %q", w.name, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// waitLogAny waits until the log contains one of the texts.
func (w *worker) waitLogAny(texts ...string) {
	w.t.Helper()
	deadline := time.After(120 * time.Second)
	for !slices.ContainsFunc(texts, func(text string) bool { return countLog(w, text) > 0 }) {
		select {
		case <-w.done:
			w.t.Fatalf("%s has ended (%v) without saying one of %q", w.name, w.cmd.ProcessState, texts)
		case <-deadline:
			w.t.Fatalf("%s says none of %q", w.name, texts)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill ends the worker and all its processes at once, as the kernel's memory killer would.
func (w *worker) kill() {
	syscall.Kill(-w.cmd.Process.Pid, syscall.SIGKILL) // ESRCH: it has ended
	<-w.done
}

// signal sends a signal to the worker alone.
func (w *worker) signal(sig os.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(sig); err != nil {
		w.t.Fatal(err)
	}
}

// wait waits for the end and returns the exit code.
func (w *worker) wait(most time.Duration) int {
	w.t.Helper()
	select {
	case <-w.done:
		return w.cmd.ProcessState.ExitCode()
	case <-time.After(most):
		w.t.Fatalf("%s does not end", w.name)
		return -1
	}
}

// stop is a warm shutdown that must succeed.
func (w *worker) stop() {
	w.t.Helper()
	w.signal(syscall.SIGTERM)
	if code := w.wait(90 * time.Second); code != 0 {
		w.t.Errorf("%s ended with code %d, want 0", w.name, code)
	}
}
