package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// A monitor hears every event on the rig's broker.
type monitor struct {
	t   *testing.T
	sub transports.Subscription
}

func monitorOf(t *testing.T, b *membroker.Broker) *monitor {
	t.Helper()
	conn, err := b.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	sub, err := conn.Subscribe(t.Context(), transports.Fanout{Exchange: "celeryev", Type: "topic", RoutingKey: "#"})
	if err != nil {
		t.Fatal(err)
	}
	return &monitor{t, sub}
}

// heardEvent is an event and the message it came in.
type heardEvent struct {
	protocol.Event
	key  string
	of   int // events in its message
	when time.Time
}

// heard is everything that has come until now.
func (m *monitor) heard() []heardEvent {
	m.t.Helper()
	synctest.Wait()
	var out []heardEvent
	for {
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Nanosecond)
		message, err := m.sub.Next(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return out
		}
		if err != nil {
			m.t.Fatal(err)
		}
		events, err := protocol.DecodeEvents(message, protocol.DecodeOptions{})
		if err != nil {
			m.t.Fatalf("%v: %s", err, message.Body)
		}
		if node, _ := message.Headers.Get("hostname"); node == nil || message.Properties.DeliveryMode != 1 || message.Properties.ContentType != "application/json" {
			m.t.Errorf("headers %v, properties %+v", message.Headers.Members(), message.Properties)
		}
		for _, e := range events {
			ms, _ := e.Number("timestamp")
			out = append(out, heardEvent{e, message.RoutingKey, len(events), time.UnixMicro(int64(ms * 1e6))})
		}
	}
}

func types(events []heardEvent) []string {
	out := []string{}
	for _, e := range events {
		out = append(out, e.Type)
	}
	return out
}

// withTaskEvents is -E, and nothing else.
func withTaskEvents(c *Config) { c.Events.Tasks = true }

func tellingRig(t *testing.T, change func(*Config), hs ...handlers.Handler) (*rig, *monitor) {
	t.Helper()
	var m *monitor
	r := startRig(t, func(c *Config) {
		withTaskEvents(c)
		m = monitorOf(t, c.Transport.(*membroker.Broker))
		if change != nil {
			change(c)
		}
	}, hs...)
	return r, m
}

// eventLine is the part of an event that tells of the task, as "type key=value ...".
func eventLine(e heardEvent) string {
	s := e.Type
	for _, f := range e.Fields.Members() {
		switch f.Key {
		case "hostname", "utcoffset", "pid", "clock", "timestamp", "uuid", "traceback", "queue":
		default:
			text, ok := f.Value.(string)
			if !ok {
				text = protocol.Repr(f.Value)
			}
			s += " " + f.Key + "=" + text
		}
	}
	return s
}

// TestTaskEventsOfEveryOutcome: the sequences of events are Celery's, for everything that can become of a task.
func TestTaskEventsOfEveryOutcome(t *testing.T) {
	t.Parallel()
	no := false
	boom := func(context.Context, nothing) (int, error) { return 0, protocol.NewException("ValueError", "boom") }
	received := func(name string) string {
		return "task-received name=" + name + " args=(…) kwargs={…} root_id=root parent_id=None retries=0 eta=None expires=None"
	}
	later := time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC) // an hour into the bubble's time
	for _, tt := range []struct {
		name    string
		handler handlers.Handler
		task    protocol.Task
		change  func(*Config)
		revoke  bool
		want    []string
	}{
		{
			name: "success", handler: handlers.Func("t", func(context.Context, nothing) (string, error) {
				time.Sleep(1500 * time.Millisecond)
				return "it's", nil
			}),
			want: []string{received("t"), "task-started", `task-succeeded result='it\'s' runtime=1.5`},
		},
		{
			name: "failure", handler: handlers.Func("t", boom),
			want: []string{received("t"), "task-started", "task-failed exception=ValueError('boom')"},
		},
		{
			name: "a failure that is not acknowledged", handler: handlers.Func("t", boom).With(handlers.Options{AckOnFailure: &no}),
			want: []string{received("t"), "task-started", "task-rejected requeue=False", "task-failed exception=ValueError('boom')"},
		},
		{
			name: "retry", handler: handlers.Func("t", func(ctx context.Context, _ nothing) (int, error) {
				if info, _ := handlers.InfoFrom(ctx); info.Retries > 0 {
					return 1, nil
				}
				return 0, &handlers.RetryError{Cause: protocol.NewException("KeyError", "again"), In: time.Second}
			}),
			want: []string{
				received("t"), "task-started", "task-retried exception=KeyError('again')",
				"task-received name=t args=() kwargs={} root_id=root parent_id=x retries=1 eta=2000-01-01T00:00:01+00:00 expires=None",
				"task-started", "task-succeeded result=1 runtime=0.0",
			},
		},
		{
			name: "reject", handler: handlers.Func("t", func(context.Context, nothing) (int, error) {
				return 0, &handlers.RejectError{Cause: errors.New("no")}
			}),
			want: []string{received("t"), "task-started", "task-failed exception=reject requeue=False: no", "task-rejected requeue=False"},
		},
		{
			name: "ignore", handler: handlers.Func("t", func(context.Context, nothing) (int, error) { return 0, handlers.ErrIgnore }),
			want: []string{received("t"), "task-started"},
		},
		{
			name: "expired", handler: handlers.Func("t", double), task: protocol.Task{Expires: later.Add(-2 * time.Hour)},
			want: []string{"task-revoked terminated=False signum=None expired=True"},
		},
		{
			name: "revoked", handler: handlers.Func("t", double), revoke: true,
			want: []string{"task-revoked terminated=False signum=None expired=False"},
		},
		{
			name: "revoked by a stamp", handler: handlers.Func("t", double),
			task:   protocol.Task{StampNames: []string{"s"}, Stamps: protocol.ObjectOf(arg("s", "v"))},
			change: func(*Config) {}, // see below
			want:   []string{received("t"), "task-revoked terminated=False signum=None expired=False"},
		},
		{
			name: "unknown", task: protocol.Task{Name: "no.such"}, handler: handlers.Func("t", double),
			want: []string{"task-failed exception=NotRegistered('no.such')"},
		},
		{
			name: "hard time limit", handler: handlers.Func("t", sleeper(time.Hour)).With(handlers.Options{HardLimit: time.Second}),
			want: []string{received("t"), "task-started", "task-failed exception=TimeLimitExceeded(1)"},
		},
		{
			name: "soft time limit", handler: handlers.Func("t", sleeper(time.Hour)).With(handlers.Options{SoftLimit: time.Second}),
			want: []string{received("t"), "task-started", "task-failed exception=SoftTimeLimitExceeded()"},
		},
		{
			name: "eta", handler: handlers.Func("t", func(context.Context, nothing) (int, error) { return 1, nil }), task: protocol.Task{ETA: later},
			want: []string{
				strings.Replace(received("t"), "eta=None", "eta=2000-01-01T01:00:00+00:00", 1), "task-started", "task-succeeded result=1 runtime=0.0",
			},
		},
		{
			name: "an eta beyond time", handler: handlers.Func("t", double), task: protocol.Task{ETA: later.AddDate(200, 0, 0)},
			want: []string{strings.Replace(received("t"), "eta=None", "eta=2200-01-01T01:00:00+00:00", 1), "task-rejected requeue=False"},
		},
		{
			name: "a result that cannot be stored", change: func(c *Config) { c.Encoding.Serializer = "json" },
			handler: handlers.Func("t", func(context.Context, nothing) (any, error) { return make(chan int), nil }),
			want:    []string{received("t"), "task-started", `task-failed exception=`},
		},
		{name: "muted", handler: handlers.Func("t", double).With(handlers.Options{NoEvents: true}), want: []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, m := tellingRig(t, tt.change, tt.handler)
				if tt.revoke {
					r.w.revoked.add("x", time.Now())
				}
				r.w.revoked.addStamps("s", []protocol.Value{"v"})
				task := tt.task
				task.ID, task.RootID, task.ArgsRepr, task.KwargsRepr = "x", "root", "(…)", "{…}"
				if task.Name == "" {
					task.Name = "t"
				}
				r.send(task)
				pass(2 * time.Hour)
				events := m.heard()
				got := []string{}
				for _, e := range events {
					line := eventLine(e)
					if i := strings.Index(line, "exception="); strings.Contains(tt.name, "cannot be stored") && i > 0 {
						line = line[:i+len("exception=")]
					}
					got = append(got, line)
					if e.Text("uuid") != "x" || e.Text("hostname") != "w1@test" {
						t.Errorf("%+v", e)
					}
					if tb := e.Text("traceback"); (e.Type == "task-failed" && task.Name == "t" || e.Type == "task-retried") &&
						!strings.HasPrefix(tb, "Traceback (most recent call last):\n") {
						t.Errorf("%s has the traceback %q", e.Type, tb)
					}
					if e.Type == "task-received" && e.Text("queue") != "q" {
						t.Errorf("received from %q", e.Text("queue"))
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("events (-want +got):\n%s\nlog:\n%s", diff, r.log)
				}
				var last int64
				for _, e := range events {
					if e.Clock() <= last {
						t.Errorf("%s has the clock %d after %d", e.Type, e.Clock(), last)
					}
					last = e.Clock()
				}
			})
		})
	}
}

// A fussy store takes no success.
type fussy struct{ resultbackend.Backend }

func (f fussy) Store(ctx context.Context, r resultbackend.Record) error {
	if r.Result.Status == protocol.Success {
		return fmt.Errorf("fussy: %w", resultbackend.ErrTooLarge)
	}
	return f.Backend.Store(ctx, r)
}

// TestEventsTellWhatTheCallerIsTold: an outcome that cannot be stored is a failure for monitors as well.
func TestEventsTellWhatTheCallerIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, m := tellingRig(t, func(c *Config) { c.Results = fussy{c.Results} }, handlers.Func("double", double))
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		pass(time.Minute)
		r.wantException("a", "BackendStoreError")
		got := m.heard()
		if diff := cmp.Diff([]string{"task-received", "task-started", "task-failed"}, types(got)); diff != "" {
			t.Fatal(diff)
		}
		if exc := got[2].Text("exception"); !strings.HasPrefix(exc, "BackendStoreError('worker: the result cannot be stored as it is: fussy") {
			t.Errorf("exception %q", exc)
		}
	})
}

// TestEventsOfTasksThatGoBack: by their own wish, by a cold shutdown, and because nothing takes what must follow.
func TestEventsOfTasksThatGoBack(t *testing.T) {
	t.Run("requeued", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			first := true
			r, m := tellingRig(t, nil, handlers.Func("t", func(context.Context, nothing) (int, error) {
				if first {
					first = false
					return 0, &handlers.RejectError{Requeue: true}
				}
				return 1, nil
			}))
			r.send(protocol.Task{ID: "a", Name: "t", Args: args()})
			pass(time.Minute)
			got := m.heard()
			// The message is back a moment before its run has left: now and then it is taken in that moment, waits for the
			// end of the run without being received once more, and the rejection is told after its start.
			told := types(got)
			at := slices.Index(told, "task-rejected")
			if at < 2 {
				t.Fatalf("%v", told)
			}
			if back, _ := got[at].Fields.Get("requeue"); back != true {
				t.Errorf("%+v", got[at])
			}
			told = slices.DeleteFunc(told, func(s string) bool { return s == "task-rejected" || s == "task-received" })
			if diff := cmp.Diff([]string{"task-started", "task-started", "task-succeeded"}, told); diff != "" {
				t.Fatal(diff)
			}
		})
	})
	t.Run("cold shutdown", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r, m := tellingRig(t, nil, handlers.Func("t", sleeper(time.Hour)))
			r.send(protocol.Task{ID: "a", Name: "t", Args: args()})
			pass(time.Second)
			r.w.StopNow()
			r.stop()
			if diff := cmp.Diff([]string{"task-received", "task-started", "task-cancelled"}, types(m.heard())); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("a retry that nothing takes", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r, m := tellingRig(t, func(c *Config) { c.Events.Tasks = false }, handlers.Func("t", func(context.Context, nothing) (int, error) {
				return 0, &handlers.RetryError{In: time.Hour}
			}))
			r.w.pulse.tasks.Store(true)
			r.broker.Fail(membroker.Publish, -1, transports.ErrRefused)
			r.send(protocol.Task{ID: "a", Name: "t", Args: args()})
			pass(5 * time.Second)
			r.broker.Fail(membroker.Publish, 0, nil)
			pass(time.Minute)
			r.broker.Fail(membroker.Publish, -1, transports.ErrRefused)
			if got := types(m.heard()); slices.Contains(got, "task-rejected") {
				t.Errorf("it did go out in the end, but: %v", got)
			}
		})
	})
}

// TestEventsThatAreOffCostNothing: with nobody listening a hook is an atomic load.
func TestEventsThatAreOffCostNothing(t *testing.T) {
	reg, err := handlers.NewRegistry(handlers.Func("double", double))
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Config{Transport: membroker.New(), Handlers: reg})
	if err != nil {
		t.Fatal(err)
	}
	j := &job{task: &protocol.Task{ID: "a", Name: "double"}, delivery: &transports.Delivery{Queue: "q"}}
	out := outcome{kind: succeeded, value: strings.Repeat("x", 1<<20)}
	if n := testing.AllocsPerRun(100, func() {
		if w.pulse.tells(j) {
			t.Fatal("on")
		}
		w.pulse.retried(j, out)
		w.pulse.sent(transports.Publishing{})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestWorkerEventsAndShutdown: online before ready, heartbeats in time, offline when the worker stops and not when it
// has stopped, and what its last tasks do is still told.
func TestWorkerEventsAndShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		r, m := tellingRig(t, func(c *Config) {
			c.Events.NoHeartbeat = false
			c.Events.Zone = time.FixedZone("half", 5*3600+1800)
			c.Events.Version = "1.2"
		}, handlers.Func("t", sleeper(20*time.Second)))
		synctest.Wait()
		r.wantLog("ready")
		if got := m.heard(); len(got) != 1 || got[0].Type != "worker-online" || got[0].key != "worker.online" {
			t.Fatalf("when it is ready, monitors have heard %v", types(got))
		}
		r.send(protocol.Task{ID: "a", Name: "t", Args: args()})
		pass(5 * time.Second)
		r.cancel()
		pass(time.Second)
		first := m.heard()
		want := []string{"task-received", "task-started", "worker-heartbeat", "worker-heartbeat", "worker-offline"}
		if diff := cmp.Diff(want, types(first)); diff != "" {
			t.Errorf("until the shutdown (-want +got):\n%s", diff)
		}
		for _, e := range first {
			if e.Group() != "worker" {
				continue
			}
			line := eventLine(e)
			wantLine := e.Type + " freq=2.0 active=1 processed=1 loadavg=["
			if !strings.HasPrefix(line, wantLine) || !strings.HasSuffix(line, " sw_ident=stalk sw_ver=1.2 sw_sys=Linux") {
				t.Errorf("%s, want %s...", line, wantLine)
			}
			if east, _ := e.Number("utcoffset"); east != -5.5 {
				t.Errorf("utcoffset %v", east)
			}
			if e.of != 1 {
				t.Errorf("%s travels with others", e.Type)
			}
			if off := e.when.Sub(began) % (2 * time.Second); e.Type == "worker-heartbeat" && off != 0 {
				t.Errorf("a heartbeat at %v", e.when.Sub(began))
			}
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"task-succeeded"}, types(m.heard())); diff != "" {
			t.Errorf("after the shutdown began (-want +got):\n%s", diff)
		}
	})
}

// TestAnIdleWorkerSaysThatItLeaves: it ends in the moment in which it is told to stop.
func TestAnIdleWorkerSaysThatItLeaves(t *testing.T) {
	for i := range 20 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, m := tellingRig(t, func(c *Config) { c.Events.NoHeartbeat = false }, handlers.Func("double", double))
				pass(time.Second)
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{"worker-online", "worker-offline"}, types(m.heard())); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestEventsTravelTogether: task events are sent at once as one list, in their order, after a tenth of a second at
// the latest; one alone is no list.
func TestEventsTravelTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, m := tellingRig(t, func(c *Config) { c.Concurrency = 20 }, handlers.Func("t", sleeper(time.Minute)))
		synctest.Wait()
		for i := range 20 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "t", Args: args()})
		}
		pass(gatherFor)
		got := m.heard()
		if len(got) != 40 || got[0].key != "task.multi" || got[0].of != batchEvents || got[39].of != 40-batchEvents {
			t.Errorf("%d events, the first of %d by %s", len(got), got[0].of, got[0].key)
		}
		seen := map[string]string{}
		for _, e := range got {
			if id := e.Text("uuid"); e.Type == "task-received" && seen[id] != "" || e.Type == "task-started" && seen[id] != "task-received" {
				t.Errorf("%s of %s after %q", e.Type, id, seen[id])
			} else {
				seen[id] = e.Type
			}
		}
		pass(2 * time.Minute)
		m.heard()
		r.send(protocol.Task{ID: "unknown", Name: "unknown", Args: args()})
		pass(2 * time.Minute)
		all := m.heard()
		if i := slices.IndexFunc(all, func(e heardEvent) bool { return e.Type == "task-failed" }); i < 0 || all[i].of != 1 || all[i].key != "task.failed" {
			t.Errorf("an event alone: %v", types(all))
		}
	})
}

// TestEventsAreSentWhenAskedFor: off by default, on by command, and the choice outlives the connection; with -E
// nothing turns them off.
func TestEventsAreSentWhenAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		run := func(r *rig, m *monitor, id string) []string {
			r.send(protocol.Task{ID: id, Name: "double", Args: args(int64(1))})
			pass(time.Second)
			return types(m.heard())
		}
		all := []string{"task-received", "task-started", "task-succeeded"}
		r, m := tellingRig(t, func(c *Config) { c.Events.Tasks = false }, handlers.Func("double", double))
		c := r.client()
		c.want("disable_events", `{"ok": "task events already disabled"}`)
		if got := run(r, m, "a"); len(got) > 0 {
			t.Errorf("without being asked: %v", got)
		}
		c.want("enable_events", `{"ok": "task events enabled"}`)
		c.want("enable_events", `{"ok": "task events already enabled"}`)
		c.want("enable_events", `{"error": "TypeError(\"enable_events() got an unexpected keyword argument 'x'\")"}`, arg("x", int64(1)))
		if diff := cmp.Diff(all, run(r, m, "b")); diff != "" {
			t.Errorf("enabled: %s", diff)
		}
		r.broker.Cut()
		pass(time.Minute)
		m = monitorOf(t, r.broker)
		if diff := cmp.Diff(all, run(r, m, "c")); diff != "" {
			t.Errorf("after a reconnect: %s", diff)
		}
		c = r.client()
		c.want("disable_events", `{"ok": "task events disabled"}`)
		if got := run(r, m, "d"); len(got) > 0 {
			t.Errorf("disabled: %v", got)
		}
		r.stop()

		r, m = tellingRig(t, nil, handlers.Func("double", double))
		c = r.client()
		c.want("enable_events", `{"ok": "task events already enabled"}`)
		c.want("disable_events", `{"ok": "task events already disabled"}`)
		if diff := cmp.Diff(all, run(r, m, "e")); diff != "" {
			t.Errorf("with -E, after disable: %s", diff)
		}
	})
}

func TestHeartbeatAndElectionByCommand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, m := tellingRig(t, nil, handlers.Func("double", double)) // --without-heartbeat
		c := r.client()
		c.want("heartbeat", "null")
		c.want("election", "null", arg("id", "1"), arg("topic", "task"), arg("action", nil))
		c.want("election", `{"error": "TypeError(\"election() missing 1 required positional argument: 'topic'\")"}`, arg("id", "1"))
		pass(time.Minute)
		got := m.heard()
		if len(got) != 1 || eventLine(got[0]) != "worker-heartbeat freq=5 sw_ident=stalk sw_ver=0 sw_sys=Linux" {
			t.Errorf("heard %d: %v", len(got), types(got))
		}
	})
}

// TestOnlineAtEveryConnect: whoever missed us while the broker was away learns at once that we are back; events of
// the meantime are not lost.
func TestOnlineAtEveryConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, m := tellingRig(t, func(c *Config) { c.Events.NoHeartbeat = false }, handlers.Func("t", sleeper(10*time.Second)))
		r.send(protocol.Task{ID: "a", Name: "t", Args: args()})
		pass(time.Second)
		m.heard()
		r.broker.Fail(membroker.Connect, 8, transports.ErrDisconnected) // about half a minute, and monitors cannot either
		r.broker.Cut()
		m = monitorOf2(t, r.broker)
		pass(2 * time.Minute)
		got := types(m.heard())
		if len(got) < 2 || got[0] != "worker-online" || !slices.Contains(got, "task-succeeded") {
			t.Errorf("after the reconnect: %v\n%s", got, r.log)
		}
	})
}

// monitorOf2 is monitorOf on a broker that refuses connections for now.
func monitorOf2(t *testing.T, b *membroker.Broker) *monitor {
	t.Helper()
	for range 20 {
		conn, err := b.Connect(t.Context())
		if err != nil {
			continue
		}
		conn.Close()
		return monitorOf(t, b)
	}
	t.Fatal("no connection")
	return nil
}

// TestHeartbeatsDoNotQueueBehindTasks: with a slow broker and a flood of task events the worker is seen alive; what cannot be sent is dropped, the oldest first, and that is said.
func TestHeartbeatsDoNotQueueBehindTasks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, m := tellingRig(t, func(c *Config) { c.Events.NoHeartbeat = false }, handlers.Func("double", double))
		synctest.Wait()
		m.heard()
		r.broker.Delay(membroker.Publish, time.Second)
		for i := range queuedEvents + 500 {
			j := &job{task: &protocol.Task{ID: fmt.Sprint(i), Name: "double"}, delivery: &transports.Delivery{Queue: "q"}}
			r.w.pulse.task(j, "task-started")
		}
		pass(11 * time.Second)
		beats := 0
		var told []string
		for _, e := range m.heard() {
			if e.Type == "worker-heartbeat" {
				beats++
			} else {
				told = append(told, e.Text("uuid"))
			}
		}
		if beats != 5 {
			t.Errorf("%d heartbeats in eleven seconds, want 5", beats)
		}
		if len(told) < 5*batchEvents || slices.Contains(told, "100") {
			t.Errorf("told of %v: the oldest should have gone", told)
		}
		r.wantLog("task events were dropped")
	})
}

// TestSentEventsOfWhatTheWorkerPublishes: retries and what handlers send, when task_send_sent_event is on.
func TestSentEventsOfWhatTheWorkerPublishes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		retries := handlers.Func("t", func(ctx context.Context, _ nothing) (int, error) {
			if info, _ := handlers.InfoFrom(ctx); info.Retries > 0 {
				return 1, nil
			}
			return 0, &handlers.RetryError{Cause: protocol.NewException("KeyError", "again")}
		})
		r, m := tellingRig(t, func(c *Config) { c.Events = Events{Sent: true, NoHeartbeat: true, NoMingle: true, NoGossip: true} }, retries)
		r.send(protocol.Task{ID: "x", Name: "t", Args: args(), ArgsRepr: "()", KwargsRepr: "{}"})
		pass(time.Minute)
		got := m.heard()
		if len(got) != 1 || got[0].key != "task.sent" || !strings.HasPrefix(got[0].Text("hostname"), "gen") || got[0].Text("uuid") != "x" {
			t.Fatalf("heard %v", types(got))
		}
		want := "task-sent root_id=x parent_id=x name=t args=() kwargs={} retries=1 eta=None expires=None exchange= routing_key=q"
		if line := eventLine(got[0]); line != want {
			t.Errorf("%s\nwant %s", line, want)
		}
	})
}

// TestSentEventsOfAChain: the steps that the worker sends on behalf of a task.
func TestSentEventsOfAChain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var m *monitor
		r := canvasRig(t, func(c *Config) {
			c.Events.Sent = true
			m = monitorOf(t, c.Transport.(*membroker.Broker))
		})
		p := r.apply(canvas.Chain(canvas.New("add", int64(1), int64(2)), canvas.New("add", int64(3))))
		pass(time.Minute)
		r.wantState(p.ID(), protocol.Success)
		got := m.heard()
		if len(got) != 1 || got[0].Text("uuid") != p.ID() {
			t.Fatalf("heard %v", types(got))
		}
		line := eventLine(got[0])
		if !strings.Contains(line, " name=add args=(3, 3) kwargs={} retries=0 eta=None expires=None exchange= routing_key=q") || got[0].Text("queue") != "q" {
			t.Errorf("%s from queue %q", line, got[0].Text("queue"))
		}
	})
}

// TestABrokerWithoutEventsStopsNoTask: when it refuses them, tasks run as ever, and it is said once.
func TestABrokerWithoutEventsStopsNoTask(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _ := tellingRig(t, func(c *Config) {
			c.Events.NoHeartbeat = false
			c.Transport.(*membroker.Broker).Fail(membroker.Publish, 1000, transports.ErrRefused)
		}, handlers.Func("double", double))
		for i := range 10 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "double", Args: args(int64(1))})
			pass(10 * time.Second)
			r.wantState(fmt.Sprint(i), protocol.Success)
		}
		if n := strings.Count(r.log.String(), "does not take our events"); n != 1 {
			t.Errorf("said %d times, want once", n)
		}
	})
}

func TestUTCOffsetIsHoursWest(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]float64{"UTC": 0, "Europe/Berlin": -2, "America/New_York": 4, "Asia/Kolkata": -5.5} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		got := utcOffset(time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC), zone)
		if got != want || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s in summer: %v, want %v", name, got, want)
		}
	}
}
