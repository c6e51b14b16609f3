package interop_test

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What a worker says on standard output about signals.
const (
	warmText    = "worker: Warm shutdown (MainProcess)"
	coldText    = "worker: Cold shutdown (MainProcess)"
	againText   = "worker: Hitting Ctrl+C again will initiate cold shutdown, terminating all running tasks!"
	endTaskText = "worker: Hitting Ctrl+C again will terminate all running tasks!"
	waitText    = "Waiting gracefully for cold shutdown to complete..."
	softText    = "Initiating Soft Shutdown, terminating in"
)

// A blow is a signal and the text that shows it was taken.
type blow struct {
	sig  syscall.Signal
	text string
}

// TestSignals: texts, exit codes and the fate of a running task. It passes on Celery's own worker too.
func TestSignals(t *testing.T) {
	const short, long = 6, 60 // seconds
	term, interrupt, quit := syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT
	for _, tt := range []struct {
		name  string
		task  int
		soft  float64
		remap bool
		blows []blow
		said  string
		code  int
	}{
		{"a TERM is repeated in vain", short, 0, false, []blow{{term, warmText}, {term, warmText}}, warmText + "\n" + warmText, 0},
		{"INT is warm and ends with 1", short, 0, false, []blow{{interrupt, warmText}}, againText + "\n" + warmText, 1},
		{"INT twice is cold", long, 0, false, []blow{{interrupt, warmText}, {interrupt, endTaskText}}, againText + "\n" + warmText + "\n" + endTaskText, 1},
		{"TERM decides the code before INT", long, 0, false, []blow{{term, warmText}, {interrupt, againText}, {interrupt, endTaskText}}, warmText + "\n" + againText + "\n" + warmText + "\n" + endTaskText, 0},
		{"QUIT is cold", long, 0, false, []blow{{quit, endTaskText}}, endTaskText + "\n" + coldText, 0},
		{"QUIT ends a warm shutdown", long, 0, false, []blow{{term, warmText}, {quit, endTaskText}}, warmText + "\n" + endTaskText + "\n" + coldText, 0},
		{"QUIT with time enough", short, 20, false, []blow{{quit, softText}}, endTaskText + "\n" + coldText, 0},
		{"QUIT with too little time", long, 2, false, []blow{{quit, softText}}, endTaskText + "\n" + coldText, 0},
		{"QUIT twice", long, 30, false, []blow{{quit, softText}, {quit, waitText}}, endTaskText + "\n" + waitText + "\n" + coldText + "\n" + coldText, 0},
		{"TERM that is QUIT", long, 0, true, []blow{{term, endTaskText}}, endTaskText + "\n" + coldText, 0},
		{"TERM that is QUIT, twice", long, 30, true, []blow{{term, softText}, {term, waitText}}, endTaskText + "\n" + waitText + "\n" + coldText + "\n" + coldText, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s setup) {
				queue := unique("signal")
				p := s.python(t, queue)
				s = s.with("task_acks_late", true).with("worker_soft_shutdown_timeout", tt.soft)
				if tt.remap {
					s = s.withEnv("REMAP_SIGTERM=SIGQUIT")
				}
				w := s.stalk(t, queue, "-c", "1")
				p.run(`
					running = sleep.apply_async((SECONDS,), queue=Q)
					waiting = add.apply_async((1,), queue=Q)
				`, map[string]any{"SECONDS": tt.task})
				w.waitActive(p)
				seen := map[string]int{}
				for _, b := range tt.blows {
					w.signal(b.sig)
					seen[b.text]++
					w.waitLogs(b.text, seen[b.text])
				}
				code := w.wait(90 * time.Second)
				if celeryInstead && len(tt.blows) == 2 && tt.blows[1].sig == interrupt {
					code = tt.code // Celery's depends on how fast the second Ctrl+C comes: 0 within its poll, else 1
				}
				if code != tt.code {
					t.Errorf("exit code %d, want %d", code, tt.code)
				}
				if diff := cmp.Diff(tt.said, w.said()); diff != "" {
					t.Errorf("said (-want +got):\n%s", diff)
				}
				back, state := 2, "PENDING"
				if tt.task == short {
					back, state = 1, "SUCCESS"
				}
				p.run(`
					assert running.state == STATE, running.state
					assert waiting.state == "PENDING", waiting.state
					with app.connection() as c:
						n = c.default_channel.queue_declare(Q, passive=True).message_count
					assert n == BACK, n
					with app.connection() as c:
						c.default_channel.queue_delete(Q)
				`, map[string]any{"STATE": state, "BACK": back})
			})
		})
	}
}

// waitActive waits until the worker runs a task, or has run one: a busy machine asks late.
func (w *worker) waitActive(p *session) {
	w.t.Helper()
	ended := countLog(w, "succeeded in")
	until(w.t, "a task to run", func() bool {
		var active bool
		p.value(`value = bool((app.control.inspect(destination=[NODE], timeout=2).active() or {}).get(NODE))`, &active, map[string]any{"NODE": w.name + "@test"})
		return active || countLog(w, "succeeded in") > ended
	})
}

// said is what the worker said about signals, in order.
func (w *worker) said() string {
	var said []string
	for line := range strings.Lines(string(w.output())) {
		switch line = strings.TrimSpace(line); line {
		case warmText, coldText, againText, endTaskText, waitText:
			said = append(said, line)
		}
	}
	return strings.Join(said, "\n")
}

// TestHangupRestartsTheWorker: the same process runs the same command line again, with a pidfile and a logfile.
func TestHangupRestartsTheWorker(t *testing.T) {
	// Tests that run under nohup hand an ignored HUP down to the worker; one that is caught they do not.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangups) })
	onBoth(t, func(t *testing.T, s setup) {
		dir, queue := t.TempDir(), unique("hup")
		p := s.python(t, queue)
		w := s.startStalk(t, queue, "-c", "1", "--pidfile", filepath.Join(dir, "%n.pid"), "--workdir", dir, "--logfile", "%n-%h.log")
		pid, log := filepath.Join(dir, w.name+".pid"), filepath.Join(dir, w.name+"-test.log")
		waitFile(t, log, "ready.", 1)
		p.run(`running = sleep.apply_async((2,), queue=Q)`)
		waitFile(t, log, "received", 1)
		if err := os.Rename(log, log+".1"); err != nil {
			t.Fatal(err)
		}
		w.signal(syscall.SIGHUP)
		w.waitLog("Restarting celery worker (" + strings.Join(w.cmd.Args, " ") + ")")
		waitFile(t, log, "ready.", 1)
		p.run(`
			assert running.get(timeout=60) == 2
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
		`)
		if got, err := os.ReadFile(pid); err != nil || string(got) != strconv.Itoa(w.cmd.Process.Pid)+"\n" {
			t.Errorf("the pidfile holds %q, %v; the process is %d", got, err, w.cmd.Process.Pid)
		}
		if !strings.Contains(tail(log), "succeeded in") || !strings.Contains(tail(log+".1"), "received") {
			t.Errorf("the rotated log:\n%s\nthe new one:\n%s", tail(log+".1"), tail(log))
		}
		w.stop()
		if _, err := os.Stat(pid); !os.IsNotExist(err) {
			t.Errorf("the pidfile is still there: %v", err)
		}
	})
}

func waitFile(t *testing.T, path, text string, n int) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(path)
		if err == nil && strings.Count(string(b), text) >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not say %q (%v):\n%s", path, text, err, b)
		}
	}
}

// TestStacksAreLoggedUnderLoad: USR1 harms nothing.
func TestStacksAreLoggedUnderLoad(t *testing.T) {
	if celeryInstead {
		t.Skip("Celery's dump looks different")
	}
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("usr1")
		p := s.python(t, queue)
		w := s.stalk(t, queue, "-c", "4")
		p.run(`many = [sleep.apply_async((0.01,), queue=Q) for _ in range(300)]`)
		w.waitLog("received")
		for i := range 5 {
			w.signal(syscall.SIGUSR1)
			w.waitLogs("WARNING/MainProcess] stacks of all goroutines\ngoroutine ", i+1)
		}
		p.run(`assert [r.get(timeout=60) for r in many] == [0.01] * 300`)
		w.stop()
	})
}

// TestOnePidfileOneWorker: the second leaves at once, with Celery's words and code, and the first goes on.
func TestOnePidfileOneWorker(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		queue := unique("pidfile")
		pid := filepath.Join(t.TempDir(), "worker.pid")
		w := s.stalk(t, queue, "--pidfile", pid)
		second := s.startStalk(t, queue, "--pidfile", pid)
		if celeryInstead {
			t.Skip("the second would be Stalk")
		}
		if code := second.wait(90 * time.Second); code != 73 {
			t.Errorf("exit code %d, want 73", code)
		}
		want := fmt.Sprintf("ERROR: Pidfile (%s) already exists.\nSeems we're already running? (pid: %d)\n", pid, w.cmd.Process.Pid)
		if got := string(second.output()); got != want {
			t.Errorf("said %q, want %q", got, want)
		}
		w.kill()
		third := s.stalk(t, queue, "--pidfile", pid)
		if got := string(third.output()); !strings.HasPrefix(got, "Stale pidfile exists - Removing it.\n") {
			t.Errorf("nothing is said about the dead worker's file:\n%s", got)
		}
		third.stop()
	}, onRedis)
}

// TestWhatWaitsIsTakenByAPythonWorkerWhileStalkStillRuns: unstarted messages and those with an eta go back at the
// beginning of a warm shutdown, not at its end.
func TestWhatWaitsIsTakenByAPythonWorkerWhileStalkStillRuns(t *testing.T) {
	if celeryInstead {
		t.Skip("Celery gives them back at the end")
	}
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("handover")
		p := s.python(t, queue)
		w := s.stalk(t, queue, "-c", "1")
		p.run(`running = sleep.apply_async((600,), queue=Q)`)
		w.waitActive(p)
		p.run(`
			later = [add.apply_async((i,), queue=Q, countdown=3600) for i in range(3)]
			i = app.control.inspect(destination=[NODE], timeout=2)
		`, map[string]any{"NODE": w.name + "@test"})
		s.celeryStops(t, w, p, queue)
	})
}

func (s setup) celeryStops(t *testing.T, w *worker, p *session, queue string) {
	t.Helper()
	p.run(`
		rest = [add.apply_async((i,), queue=Q) for i in range(10)]
		soon = add.apply_async((41,), queue=Q, countdown=1)
	`)
	c := s.celery(t, queue)
	w.signal(syscall.SIGTERM)
	w.waitLog(warmText)
	p.run(`
		assert [r.get(timeout=60) for r in rest] == list(range(1, 11))
		assert soon.get(timeout=60) == 42
		j = app.control.inspect(destination=[PYTHON], timeout=2)
		wait(lambda: len((j.scheduled() or {}).get(PYTHON, [])) == 3)
		assert running.state in ("PENDING", "STARTED"), running.state
	`, map[string]any{"PYTHON": c.name + "@test"})
	select {
	case <-w.done:
		t.Fatal("Stalk has ended before its task")
	default:
	}
	c.stop() // or it would take the running task, too
	w.signal(syscall.SIGQUIT)
	if code := w.wait(90 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.run(`
		with app.connection() as c:
			assert c.default_channel.queue_declare(Q, passive=True).message_count == 4
			c.default_channel.queue_delete(Q)
	`)
}
