package interop_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// The monitors' tests share exchanges of their own, so that nobody else's events are counted.
var monitorExchanges = sync.OnceValue(func() string { return unique("monitors") })

// monitored returns the setup whose control messages and events only the monitors' tests see.
func (s setup) monitored() setup {
	return s.with("control_exchange", monitorExchanges()+".control").with("event_exchange", monitorExchanges()+".events")
}

// onMonitored is onBoth for tests of monitors, which need Python modules besides Celery.
func onMonitored(t *testing.T, modules []string, test func(t *testing.T, s setup)) {
	need(t)
	for _, module := range modules {
		if err := exec.Command(python, "-c", "import "+module).Run(); err != nil {
			t.Fatalf("%s has no %s; run scripts/setup.sh", python, module)
		}
	}
	onBoth(t, func(t *testing.T, s setup) { test(t, s.monitored()) })
}

// watched starts the worker under test as a monitor's user would: with its heartbeat, and, for Python, with
// the pool, gossip and mingle that it has unless told otherwise. It does not wait.
func (s setup) watched(t *testing.T, queue string, args ...string) *worker {
	t.Helper()
	if celeryInstead {
		return s.startNeighbour(t, queue, args...)
	}
	return s.startProgram(t, shopBin, queue, args...)
}

// startNeighbour starts a Python worker with everything on that Celery has on by default. It does not wait.
func (s setup) startNeighbour(t *testing.T, queue string, args ...string) *worker {
	t.Helper()
	name := unique("neighbour")
	argv := []string{"-m", "celery", "-A", "project", "worker", "-Q", queue, "-n", name + "@test", "-l", "INFO", "-c", "2"}
	cmd := exec.Command(python, append(argv, args...)...)
	cmd.Dir = filepath.Join(root, "pyfixtures/django_project")
	cmd.Env = s.environment("STALK_SERVE_DEMO=1", "C_FORCE_ROOT=1")
	return startWorker(t, cmd, name)
}

// program starts a Python program of the Django project that watches or feeds: no worker, but ended like one.
func (s setup) program(t *testing.T, name string, in *os.File, environment []string, argv ...string) *worker {
	t.Helper()
	cmd := exec.Command(python, argv...)
	if in != nil {
		cmd.Stdin = in
	}
	cmd.Dir = filepath.Join(root, "pyfixtures/django_project")
	cmd.Env = s.environment(environment...)
	return startWorker(t, cmd, unique(name))
}

// monitorSeconds is how long the mixed feed of events lasts: short in `make test`, minutes by hand.
func monitorSeconds(t *testing.T) int {
	t.Helper()
	value := os.Getenv("MONITOR_SECONDS")
	if value == "" {
		return 6
	}
	seconds, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("MONITOR_SECONDS: %v", err)
	}
	return seconds
}

// until polls.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
