package interop_test

import (
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestABrokerThatCannotBeReached passes on Celery's own worker, too.
func TestABrokerThatCannotBeReached(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings map[string]any
		said     []string
	}{
		{"no retry at the start", map[string]any{"broker_connection_retry_on_startup": false}, []string{
			"CRITICAL/MainProcess] Retrying to establish a connection to the message broker after a connection loss has been disabled (app.conf.broker_connection_retry_on_startup=False). Shutting down...\n",
		}},
		{"no retry", map[string]any{"broker_connection_retry": false, "broker_connection_retry_on_startup": nil}, []string{
			"CRITICAL/MainProcess] Retrying to establish a connection to the message broker after a connection loss has been disabled (app.conf.broker_connection_retry=False). Shutting down...\n",
		}},
		{"one retry", map[string]any{"broker_connection_max_retries": 1}, []string{
			"ERROR/MainProcess] consumer: Cannot connect to ", ".\nTrying again in ", " seconds... (1/1)\n", "CRITICAL/MainProcess] Unrecoverable error: OperationalError(",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, s setup) {
				u, err := url.Parse(s.broker)
				if err != nil {
					t.Fatal(err)
				}
				lis, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				lis.Close()
				s.broker = strings.Replace(s.broker, u.Host, lis.Addr().String(), 1)
				for name, v := range tt.settings {
					s = s.with(name, v)
				}
				w := s.begin(t, unique("nowhere"))
				if code := w.wait(60 * time.Second); code != 1 {
					t.Errorf("exit code %d, want 1", code)
				}
				rest := string(w.output())
				for _, text := range tt.said {
					_, behind, ok := strings.Cut(rest, text)
					if !ok {
						t.Fatalf("%q is not said, or not in its turn:\n%s", text, w.output())
					}
					rest = behind
				}
			})
		})
	}
}

// begin starts the worker under test and does not wait until it is ready.
func (s setup) begin(t *testing.T, queue string, args ...string) *worker {
	t.Helper()
	if celeryInstead {
		return s.startCelery(t, queue, args...)
	}
	return s.startStalk(t, queue, args...)
}

// TestALostConnectionIsMadeAgain: with the queues that remote control has added, and worker-online once more. On
// RabbitMQ it passes on Celery's own worker, too, but for the queue; on Redis that one often ends.
func TestALostConnectionIsMadeAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue, added := unique("again"), unique("added")
		p := s.python(t, queue)
		behind, proxy := s.through(t)
		w := behind.stalk(t, queue, "-c", "1")
		names := map[string]any{"NODE": w.name + "@test", "ADDED": added}
		p.run(`
			app.control.add_consumer(ADDED, destination=[NODE], reply=True, timeout=60)
			later = add.apply_async((1,), queue=Q, countdown=4)
			running = sleep.apply_async((3,), queue=Q)
		`, names)
		w.waitActive(p)
		proxy.Refuse(true)
		w.waitLog("consumer: Connection to broker lost. Trying to re-establish the connection...")
		w.waitLog("consumer: Cannot connect to ")
		proxy.Refuse(false)
		w.waitLogs("Connected to ", 2)
		p.run(`
			assert running.get(timeout=60) == 3
			assert later.get(timeout=60) == 2
			assert add.apply_async((2,), queue=Q).get(timeout=60) == 3
			wait(lambda: app.control.ping(destination=[NODE], timeout=2), 40)
		`, names)
		if !celeryInstead {
			p.run(`assert add.apply_async((3,), queue=ADDED).get(timeout=60) == 4`)
		}
		if n := countLog(w, " ready."); n != 1 {
			t.Errorf("it is ready %d times", n)
		}
		w.stop()
		p.run(`
			with app.connection() as c:
				c.default_channel.queue_delete(Q)
				c.default_channel.queue_delete(ADDED)
		`)
	})
}

// TestALostConnectionEndsTheWorkerWhereThatIsAskedFor: with code 1.
func TestALostConnectionEndsTheWorkerWhereThatIsAskedFor(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		behind, proxy := s.with("broker_connection_retry", false).through(t)
		w := behind.stalk(t, unique("once"), "-c", "1")
		proxy.Cut()
		if code := w.wait(60 * time.Second); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		w.waitLog("CRITICAL/MainProcess] Retrying to re-establish a connection to the message broker after a connection loss has been disabled (app.conf.broker_connection_retry=False). Shutting down...")
	})
}
