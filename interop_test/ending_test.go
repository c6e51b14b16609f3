package interop_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAThirdQuitEndsAHandlerThatDoesNotListen: at once, and its message is back in its queue.
func TestAThirdQuitEndsAHandlerThatDoesNotListen(t *testing.T) {
	if celeryInstead {
		t.Skip("a child of Celery's pool is killed")
	}
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("deaf")
		p := s.python(t, queue)
		w := s.with("worker_soft_shutdown_timeout", 600).shop(t, queue, "-c", "1")
		p.run(`running = app.send_task("shop.count", (600,), queue=Q)`)
		w.waitActive(p)
		w.signal(syscall.SIGQUIT)
		w.waitLog(softText)
		w.signal(syscall.SIGQUIT)
		w.waitLog(waitText)
		began := time.Now()
		w.signal(syscall.SIGQUIT)
		if code := w.wait(90 * time.Second); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the end took %v", took)
		}
		p.run(`
			with app.connection() as c:
				wait(lambda: c.default_channel.queue_declare(Q, passive=True).message_count == 1)
				c.default_channel.queue_delete(Q)
		`)
	})
}

// TestRemoteShutdownIsWarm: with Celery's line and exit code 0. It passes on Celery's own worker, too.
func TestRemoteShutdownIsWarm(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("remote")
		p := s.python(t, queue)
		w := s.stalk(t, queue, "-c", "1")
		p.run(`running = sleep.apply_async((3,), queue=Q)`)
		w.waitActive(p)
		p.run(`assert app.control.broadcast("shutdown", destination=[NODE], reply=True, timeout=1) == []`, map[string]any{"NODE": w.name + "@test"})
		if code := w.wait(90 * time.Second); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		w.waitLog("WARNING/MainProcess] Got shutdown from remote\n")
		if said := w.said(); said != "" {
			t.Errorf("a signal's text is said: %q", said)
		}
		p.run(`assert running.get(timeout=60) == 3`)
	})
}

// TestSystemdIsToldOfTheWorkersLife over the socket of Type=notify.
func TestSystemdIsToldOfTheWorkersLife(t *testing.T) {
	if celeryInstead {
		t.Skip("Celery does not notify systemd")
	}
	on(t, func(t *testing.T, s setup) {
		path := filepath.Join(t.TempDir(), "notify")
		server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		server.SetReadDeadline(time.Now().Add(60 * time.Second)) //nolint:errcheck // a read tells
		hear := func(want string) {
			t.Helper()
			buf := make([]byte, 100)
			if n, err := server.Read(buf); err != nil || string(buf[:n]) != want {
				t.Fatalf("systemd hears %q, %v; want %q", buf[:n], err, want)
			}
		}
		queue := unique("systemd")
		p := s.python(t, queue)
		w := s.withEnv("NOTIFY_SOCKET="+path).stalk(t, queue, "-c", "1")
		hear("READY=1")
		w.signal(syscall.SIGHUP)
		hear("RELOADING=1")
		hear("READY=1")
		p.run(`running = sleep.apply_async((3,), queue=Q)`)
		w.waitActive(p)
		w.signal(syscall.SIGTERM)
		hear("STOPPING=1")
		p.run(`assert running.get(timeout=60) == 3`)
		if code := w.wait(90 * time.Second); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}, onRedis)
}

// TestTwoNodesOfOneName: Celery's client warns of both on Redis, where both hear it; on RabbitMQ one has the mailbox,
// and the other asks for it in vain. Each task runs once. It passes on Celery's own worker, too.
func TestTwoNodesOfOneName(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("twins")
		p := s.python(t, queue)
		w := s.stalk(t, queue)
		node := w.name + "@test"
		second := s.begin(t, queue, "-n", node)
		if s.name == "rabbitmq" && celeryInstead {
			t.Skip("Celery's second worker does not get as far")
		}
		second.waitLog(node + " ready.")
		p.run(`
			import warnings
			sent = [add.apply_async((i,), queue=Q) for i in range(100)]
			assert [r.get(timeout=60) for r in sent] == list(range(1, 101))
			def warned():
				with warnings.catch_warnings(record=True) as said:
					warnings.simplefilter("always")
					app.control.inspect(timeout=2).ping()
				return [w for w in said if NODE in str(w.message) and str(w.message).startswith("Received multiple replies from node name: ")]
			wait(lambda: [g for g in app.control.ping(timeout=2) if NODE in g] == [{NODE: {"ok": "pong"}}] * (2 if TWO else 1))
			assert not TWO or wait(warned)
		`, map[string]any{"NODE": node, "TWO": s.name == "redis"})
		if runs := countLog(w, "succeeded in") + countLog(second, "succeeded in"); runs != 100 {
			t.Errorf("%d runs of 100 tasks", runs)
		}
		// The one that is left is reached under the name.
		w.stop()
		p.run(`wait(lambda: app.control.ping(destination=[NODE], timeout=2) == [{NODE: {"ok": "pong"}}], 40)`, map[string]any{"NODE": node})
		second.stop()
		if strings.Contains(string(second.output()), "CRITICAL") {
			t.Error("the second node suffers")
		}
	})
}

// TestNobodyNeedsToReadTheLog: the reader of a pipe may end before the worker, which goes on.
func TestNobodyNeedsToReadTheLog(t *testing.T) {
	if celeryInstead {
		t.Skip("another worker would be started")
	}
	on(t, func(t *testing.T, s setup) {
		queue, node := unique("pipe"), unique("stalk")+"@test"
		p := s.python(t, queue)
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(stalkBin, "-b", s.broker, "--result-backend", s.backend, "worker", "-Q", queue, "--demo", "-l", "INFO", "-n", node)
		cmd.Stdout, cmd.Stderr = write, write
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill() }) //nolint:errcheck // it has ended, or ends
		write.Close()
		buf := make([]byte, 1)
		if _, err := read.Read(buf); err != nil { // the banner
			t.Fatal(err)
		}
		read.Close()
		p.run(`assert [add.apply_async((i,), queue=Q).get(timeout=60) for i in range(5)] == list(range(1, 6))`)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	}, onRedis)
}

// TestASignalWhileThereIsNoBroker ends the worker at once.
func TestASignalWhileThereIsNoBroker(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 0, syscall.SIGINT: 1, syscall.SIGQUIT: 0} {
		t.Run(sig.String(), func(t *testing.T) {
			onBoth(t, func(t *testing.T, s setup) {
				behind, proxy := s.through(t)
				proxy.Refuse(true)
				w := behind.begin(t, unique("nobody"))
				w.waitLog("consumer: Cannot connect to ")
				w.signal(sig)
				if got := w.wait(90 * time.Second); got != code {
					t.Errorf("exit code %d, want %d", got, code)
				}
			})
		})
	}
}
