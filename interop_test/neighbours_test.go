package interop_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startNeighbours starts a Python worker on each broker, with gossip, mingle and heartbeat, under Celery's
// default exchanges: it hears all events and orders of all tests and must live on as if it had heard nothing.
// What it returns ends them and says what is wrong with them.
func startNeighbours() (end func() error, err error) {
	var ends []func() error
	for _, s := range []setup{onRedis(), onRabbitMQ()} {
		queue, name := unique("neighbour"), unique("neighbour")
		path := filepath.Join(scratch, name+".log")
		log, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		defer log.Close()
		cmd := exec.Command(python, "-m", "celery", "-A", "project", "worker", "-Q", queue, "-n", name+"@test", "-l", "INFO", "-c", "1", "-E")
		cmd.Dir = filepath.Join(root, "pyfixtures/django_project")
		cmd.Env = s.environment("STALK_SERVE_DEMO=1", "C_FORCE_ROOT=1")
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		ends = append(ends, func() error {
			if err := s.endNeighbour(cmd, queue, path); err != nil {
				return fmt.Errorf("%s: %w\n%s", s.name, err, tail(path))
			}
			return nil
		})
	}
	return func() error {
		errs := make(chan error)
		for _, end := range ends {
			go func() { errs <- end() }()
		}
		return errors.Join(<-errs, <-errs)
	}, nil
}

// endNeighbour lets it run one more task and stops it.
func (s setup) endNeighbour(cmd *exec.Cmd, queue, log string) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with its pool; ESRCH: as it should be
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	task := exec.CommandContext(ctx, python, "-c", "import sys; from project.celery import app; "+
		"assert app.send_task('demo.add', (40,), {'y': 2}, queue=sys.argv[1]).get(timeout=120) == 42", queue)
	task.Dir, task.Env = cmd.Dir, cmd.Env
	if out, err := task.CombinedOutput(); err != nil {
		return fmt.Errorf("it runs no task any more: %w\n%s", err, out)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-ended:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return errors.New("it does not end")
	}
	said, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	if bad := troubles(said); len(bad) > 0 {
		return fmt.Errorf("it was harmed:\n%s", strings.Join(bad, "\n"))
	}
	return nil
}

// unharmed ends a Python worker, which must do so as if nothing had ever happened to it.
func (w *worker) unharmed() {
	w.t.Helper()
	w.signal(syscall.SIGTERM)
	if code := w.wait(60 * time.Second); code != 0 {
		w.t.Errorf("%s ended with code %d, want 0", w.name, code)
	}
	if bad := troubles(w.output()); len(bad) > 0 {
		w.t.Errorf("%s was harmed:\n%s", w.name, strings.Join(bad, "\n"))
	}
}

// choked is a consumer that a message threw out of its loop; another test may well cut its connection.
var choked = regexp.MustCompile(`Connection to broker lost.*\((Key|Type|Value|Attribute|Index|ContentDisallowed|Decode|Unicode\w+)Error\(`)

// troubles are the lines of a log of Celery's that speak of damage; failed tasks and revoked ones do not count.
func troubles(log []byte) (bad []string) {
	lines := strings.Split(string(log), "\n")
	for i, line := range lines {
		switch {
		case strings.Contains(line, "raised unexpected"), strings.Contains(line, "raised expected"), strings.Contains(line, "Task handler raised error"):
		case strings.Contains(line, "Traceback (most recent call last)"):
			if i > 0 && !ofATask(lines[:i]) {
				bad = append(bad, lines[max(0, i-3):min(len(lines), i+25)]...)
			}
		case strings.Contains(line, ": ERROR/"), choked.MatchString(line), strings.Contains(line, ": CRITICAL/"), strings.Contains(line, "Substantial drift"),
			strings.Contains(line, "Received and deleted unknown message"), strings.Contains(line, "Unrecoverable"):
			bad = append(bad, line)
		}
	}
	return bad
}

// ofATask tells whether the last line with a level says that a task failed: what follows is its traceback.
func ofATask(before []string) bool {
	for i := len(before) - 1; i >= 0; i-- {
		if line := before[i]; strings.HasPrefix(line, "[") && strings.Contains(line, "/") {
			return strings.Contains(line, " raised ") || strings.Contains(line, "Task handler raised error") || strings.Contains(line, "Retry in ")
		}
	}
	return false
}

func TestTroublesAreFoundInALog(t *testing.T) {
	const task = "[2026-11-21 18:46:33,578: ERROR/ForkPoolWorker-1] Task demo.fail[x] raised unexpected: KeyError('x')\nTraceback (most recent call last):\n  File\nKeyError: 'x'\n"
	for _, tt := range []struct {
		name string
		log  string
		want bool
	}{
		{"a quiet life", "[2026-11-21 18:46:29,634: INFO/MainProcess] w@test ready.\n", false},
		{"a task that failed", task, false},
		{"an event that a consumer could not read", "[2026-11-21 18:46:29,634: ERROR/MainProcess] Control command error: KeyError('type')\n", true},
		{"the end of the worker", task + "[2026-11-21 18:46:29,634: CRITICAL/MainProcess] Unrecoverable error: KeyError('type')\n", true},
		{"a message after which it connects anew", "[2026-11-21 20:05:12,623: WARNING/MainProcess] consumer: Connection to broker lost. Trying to re-establish the connection... (KeyError('delivery_tag'))\n", true},
		{"a connection that was cut", "[2026-11-21 20:05:12,623: WARNING/MainProcess] consumer: Connection to broker lost. Trying to re-establish the connection... (ConnectionError('x'))\n", false},
		{"a bare traceback", "[2026-11-21 18:46:29,634: INFO/MainProcess] w@test ready.\nTraceback (most recent call last):\n", true},
		{"a clock far away", "[2026-11-21 18:46:29,634: WARNING/MainProcess] Substantial drift from w@test may mean clocks are out of sync.\n", true},
	} {
		if bad := troubles([]byte(tt.log)); (len(bad) > 0) != tt.want {
			t.Errorf("%s: %q", tt.name, bad)
		}
	}
}
