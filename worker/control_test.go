package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// replies is a client's reply queue on the rig's broker.
type replies struct {
	r   *rig
	sub transports.Subscription
}

func (r *rig) client() *replies {
	r.t.Helper()
	synctest.Wait() // the worker listens
	conn, err := r.broker.Connect(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	sub, err := conn.Subscribe(r.t.Context(), transports.Fanout{Exchange: "reply.celery.pidbox", Type: "direct", RoutingKey: "me"})
	if err != nil {
		r.t.Fatal(err)
	}
	return &replies{r, sub}
}

// broadcast sends a command whose reply comes here.
func (c *replies) broadcast(req protocol.ControlRequest) {
	c.r.t.Helper()
	req.Ticket, req.ReplyTo = "ticket", &protocol.ControlAddress{Exchange: "reply.celery.pidbox", RoutingKey: "me"}
	c.r.broadcast(req)
}

func (r *rig) broadcast(req protocol.ControlRequest) {
	r.t.Helper()
	m, err := req.Encode(protocol.Encoding{}, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.broker.Broadcast("celery.pidbox", "", m)
}

// next is the next reply as JSON, "" when none comes within a second.
func (c *replies) next() string {
	c.r.t.Helper()
	ctx, cancel := context.WithTimeout(c.r.t.Context(), time.Second)
	defer cancel()
	m, err := c.sub.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return ""
	}
	if err != nil {
		c.r.t.Fatal(err)
	}
	if ticket, _ := m.Headers.Get("ticket"); ticket != "ticket" || protocol.ControlClock(m) == 0 || m.Properties.DeliveryMode != 1 {
		c.r.t.Errorf("reply headers %v, delivery mode %d", m.Headers.Members(), m.Properties.DeliveryMode)
	}
	return string(m.Body)
}

// ask broadcasts a command and returns the node's reply, without the node around it.
func (c *replies) ask(method string, arguments ...protocol.Member) string {
	c.r.t.Helper()
	c.broadcast(protocol.ControlRequest{Method: method, Arguments: protocol.ObjectOf(arguments...)})
	reply, ok := strings.CutPrefix(c.next(), `{"w1@test": `)
	if !ok {
		c.r.t.Errorf("%s: no reply of ours", method)
	}
	return strings.TrimSuffix(reply, "}")
}

func arg(key string, value protocol.Value) protocol.Member {
	return protocol.Member{Key: key, Value: value}
}

func (c *replies) want(method, reply string, arguments ...protocol.Member) {
	c.r.t.Helper()
	if diff := cmp.Diff(reply, c.ask(method, arguments...)); diff != "" {
		c.r.t.Errorf("%s (-want +got):\n%s", method, diff)
	}
}

func TestControlAnswersWhileEverySlotIsBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, waiting())
		c := r.client()
		r.send(protocol.Task{ID: "a", Name: "wait", Args: args(), Exchange: "x", ArgsRepr: "()", KwargsRepr: "{}"})
		r.send(protocol.Task{ID: "b", Name: "wait", Args: args()})
		synctest.Wait()
		c.want("ping", `{"ok": "pong"}`)
		row := `{"id": "a", "name": "wait", "args": [], "kwargs": {}, "type": "wait", "hostname": "w1@test", ` +
			`"time_start": %.1f, "acknowledged": false, "delivery_info": {"exchange": "", "routing_key": "q", "priority": %s, "redelivered": false}, "worker_pid": %d}`
		began := float64(time.Now().Unix()) // the bubble's clock has not moved
		want := fmt.Sprintf(row, began, "0", r.w.executor.pid)
		if got := c.ask("active"); got != "["+want+"]" && got != "["+fmt.Sprintf(row, began, "null", r.w.executor.pid)+"]" {
			t.Errorf("active = %s\nwant     [%s]", got, want)
		}
		if got := c.ask("dump_active", arg("safe", true)); !strings.Contains(got, `"args": "()", "kwargs": "{}"`) {
			t.Errorf("active safe = %s", got)
		}
		if got := c.ask("query_task", arg("ids", []protocol.Value{"a", "none"})); !strings.HasPrefix(got, `{"a": ["active", {"id": "a"`) || strings.Contains(got, "none") {
			t.Errorf("query_task = %s", got)
		}
	})
}

// waiting is a task that runs until the worker ends it.
func waiting() handlers.Handler {
	return handlers.Func("wait", func(ctx context.Context, _ nothing) (int, error) {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}).With(handlers.Options{HardLimit: time.Hour})
}

func TestControlShowsHeldTasksAsScheduled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		c := r.client()
		eta := time.Now().Add(time.Hour).Truncate(time.Microsecond).Add(1500 * time.Microsecond)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1)), ETA: eta})
		synctest.Wait()
		got := c.ask("scheduled")
		if want := `[{"eta": "` + protocol.FormatTimestamp(eta, time.UTC) + `", "priority": 6, "request": {"id": "a"`; !strings.HasPrefix(got, want) {
			t.Errorf("scheduled = %s\nwant %s...", got, want)
		}
		if !strings.Contains(got, `"time_start": null`) || !strings.Contains(got, `"worker_pid": null`) {
			t.Errorf("a held task shows a start: %s", got)
		}
		c.want("reserved", "[]")
		c.want("active", "[]")
		if got := c.ask("query_task", arg("ids", "a")); !strings.HasPrefix(got, `{"a": ["scheduled", `) {
			t.Errorf("query_task = %s", got)
		}
		c.want("query_task", `{"error": "TypeError(\"query_task() missing 1 required positional argument: 'ids'\")"}`)
	})
}

func TestControlTellsWhatTheNodeIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) {
			c.Concurrency = 3
			c.Settings = protocol.ObjectOf(
				arg("broker_url", "amqp://me:p@ss/w0rd@host:1//"), arg("result_backend", "redis://:secret@h/0;redis://h2?password=x&a=b"),
				arg("my_api_token", nil), arg("task_serializer", "json"), arg("__private", int64(1)), arg("broker_transport_options", protocol.ObjectOf(arg("sentinel_kwargs", protocol.ObjectOf(arg("password", "x"))))),
			)
		}, handlers.Func("double", double).With(handlers.Options{Rate: "10/m"}), handlers.Func("celery.hidden", double))
		c := r.client()
		c.want("registered", `["double [rate_limit=10/m]"]`)
		with := []protocol.Member{arg("taskinfoitems", []protocol.Value{"name", "acks_late", "no_such"}), arg("builtins", true)}
		if got := c.ask("registered", with...); !strings.Contains(got, `"celery.hidden [name=celery.hidden acks_late=True]"`) ||
			!strings.HasSuffix(got, `"double [name=double acks_late=True]"]`) {
			t.Errorf("registered with builtins = %s", got)
		}
		c.want("conf", `{"broker_url": "amqp://me:********@host:1//", "result_backend": "redis://:********@h/0;redis://h2?a=b&password=%2A%2A%2A%2A%2A%2A%2A%2A", `+
			`"my_api_token": "********", "task_serializer": "json", "broker_transport_options": {"sentinel_kwargs": {"password": "********"}}, "include": null, "deprecated_settings": null}`)
		if got := c.ask("stats"); !strings.Contains(got, `"max-concurrency": 3`) || strings.Count(got, fmt.Sprint(r.w.executor.pid)) < 4 {
			t.Errorf("stats = %s", got)
		}
		if got := c.ask("active_queues"); !strings.HasPrefix(got, `[{"name": "q", "exchange": {"name": "q", "type": "direct", "arguments": null, "durable": true`) {
			t.Errorf("active_queues = %s", got)
		}
		if got := c.ask("clock"); !strings.HasPrefix(got, `{"clock": `) || got == `{"clock": 0}` {
			t.Errorf("clock = %s", got)
		}
		if got := c.ask("report"); !strings.Contains(got, "software -> celery:") || strings.Contains(got, "secret") {
			t.Errorf("report = %s", got)
		}
	})
}

func TestControlChoosesAndRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		c := r.client()
		for _, tt := range []struct {
			name string
			req  protocol.ControlRequest
			want string
		}{
			{"we are named", protocol.ControlRequest{Method: "ping", Destination: []string{"w1@test"}}, `{"w1@test": {"ok": "pong"}}`},
			{"another is named", protocol.ControlRequest{Method: "ping", Destination: []string{"w2@test"}}, ""},
			{"a pattern", protocol.ControlRequest{Method: "ping", Pattern: "w?@*", Matcher: "glob"}, `{"w1@test": {"ok": "pong"}}`},
			{"a pattern of others", protocol.ControlRequest{Method: "ping", Pattern: "x*", Matcher: "glob"}, ""},
			{"no matcher of ours", protocol.ControlRequest{Method: "ping", Pattern: "x", Matcher: "magic"}, ""},
			{"unknown", protocol.ControlRequest{Method: "nosuch"}, `{"w1@test": {"error": "KeyError('nosuch')"}}`},
			{
				"strict",
				protocol.ControlRequest{Method: "active_queues", Arguments: protocol.ObjectOf(arg("x", int64(1)))},
				`{"w1@test": {"error": "TypeError(\"active_queues() got an unexpected keyword argument 'x'\")"}}`,
			},
			{"hello of ours", protocol.ControlRequest{Method: "hello", Arguments: protocol.ObjectOf(arg("from_node", "w1@test"))}, `{"w1@test": null}`},
		} {
			c.broadcast(tt.req)
			if got := c.next(); got != tt.want {
				t.Errorf("%s: reply %q, want %q", tt.name, got, tt.want)
			}
		}
	})
}

func TestControlSurvivesGarbageAndPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) {
			c.Control.Commands = map[string]Command{
				"boom":    func(context.Context, *Node, *protocol.Object) (any, error) { panic("boom") },
				"strange": func(context.Context, *Node, *protocol.Object) (any, error) { return make(chan int), nil },
				"mine": func(_ context.Context, n *Node, args *protocol.Object) (any, error) {
					x, _ := args.Get("x")
					return map[string]any{"x": x, "node": n.Name(), "tasks": n.Handlers().Len() > 0}, nil
				},
				"ping": func(context.Context, *Node, *protocol.Object) (any, error) { return "replaced", nil },
			}
		}, handlers.Func("double", double))
		c := r.client()
		for _, m := range []protocol.Message{
			{},
			{Properties: protocol.Properties{ContentType: "application/json"}, Body: []byte("{")},
			{Properties: protocol.Properties{ContentType: "application/json"}, Body: []byte(`[1]`)},
			{Properties: protocol.Properties{ContentType: "application/x-python-serialize"}, Body: []byte("x")},
			{Properties: protocol.Properties{ContentType: "application/json"}, Body: []byte(`{"method": "ping", "reply_to": {}}`)},
		} {
			r.broker.Broadcast("celery.pidbox", "", m)
		}
		for range 5 {
			r.broadcast(protocol.ControlRequest{Method: "boom"})
		}
		c.want("boom", `{"error": "RuntimeError('panic: boom')"}`)
		if got := c.ask("strange"); !strings.HasPrefix(got, `{"error": `) {
			t.Errorf("strange = %s", got)
		}
		c.want("mine", `{"node": "w1@test", "tasks": true, "x": 1.5}`, arg("x", 1.5))
		c.want("ping", `"replaced"`)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(21))})
		synctest.Wait()
		r.wantState("a", protocol.Success)
	})
}

func TestControlRefusedIsTriedAgainAndStopsNoTask(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Transport.(*membroker.Broker).Fail(membroker.Subscribe, 5, transports.ErrRefused) }, handlers.Func("double", double))
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(21))})
		synctest.Wait()
		r.wantState("a", protocol.Success)
		pass(time.Minute)
		c := r.client()
		c.want("ping", `{"ok": "pong"}`)
		if n := strings.Count(r.log.String(), "remote control is not possible"); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		r.broker.Cut()
		pass(time.Minute)
		c = r.client()
		c.want("ping", `{"ok": "pong"}`)
	})
}

func TestControlAnswersDuringTheGracePeriod(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, waiting())
		c := r.client()
		r.send(protocol.Task{ID: "a", Name: "wait", Args: args()})
		synctest.Wait()
		r.cancel()
		pass(5 * time.Second)
		c.want("ping", `{"ok": "pong"}`)
		if err := r.stop(); !errors.Is(err, ErrGrace) {
			t.Errorf("Run = %v", err)
		}
		c.broadcast(protocol.ControlRequest{Method: "ping"})
		if got := c.next(); got != "" {
			t.Errorf("a worker that has ended answers %s", got)
		}
	})
}

func TestControlOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Control.Off = true }, handlers.Func("double", double))
		c := r.client()
		c.broadcast(protocol.ControlRequest{Method: "ping"})
		if got := c.next(); got != "" {
			t.Errorf("answered %s", got)
		}
	})
}

func TestRevokeKeepsWhatHasBegunOrEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double), waiting())
		c := r.client()
		store := func(id string, s protocol.State) {
			if err := r.results.Store(t.Context(), resultbackend.Record{Result: protocol.Result{TaskID: id, Status: s}}); err != nil {
				t.Fatal(err)
			}
		}
		store("elsewhere", protocol.Started)
		store("custom", protocol.Progress)
		store("over", protocol.Success)
		r.send(protocol.Task{ID: "here", Name: "wait", Args: args()})
		synctest.Wait()
		ids := []protocol.Value{"elsewhere", "custom", "over", "here", "new"}
		c.want("revoke", `{"ok": "tasks {'custom', 'elsewhere', 'here', 'new', 'over'} flagged as revoked"}`, arg("task_id", ids))
		r.wantState("elsewhere", protocol.Started)
		r.wantState("custom", protocol.Progress)
		r.wantState("over", protocol.Success)
		if res := r.wantState("new", protocol.Revoked); res.Exception == nil || res.Exception.Type != "TaskRevokedError" {
			t.Errorf("exception = %v", res.Exception)
		}
		c.want("revoked", `["custom", "elsewhere", "here", "new", "over"]`)
		c.want("revoke", `{"ok": "tasks {'here'} flagged as revoked"}`, arg("task_id", "here"))
		c.want("hello", fmt.Sprintf(`{"revoked": ["custom", "elsewhere", "new", "over", "here", "x", "y"], "clock": %d}`, r.w.control.clock.now()+2),
			arg("from_node", "w2@test"), arg("revoked", []protocol.Value{"x", "y", int64(1)}))
	})
}

func TestRevokedStampsCountForWhatWaitsAndWhatComes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		c := r.client()
		stamped := func(id string, value protocol.Value, eta time.Time) {
			r.send(protocol.Task{
				ID: id, Name: "double", Args: args(int64(1)), ETA: eta, StampNames: []string{"other", "monitor"},
				Stamps: protocol.ObjectOf(arg("other", nil), arg("monitor", value)),
			})
		}
		later := time.Now().Add(time.Hour)
		stamped("held", "m1", later)
		synctest.Wait()
		c.want("revoke_by_stamped_headers", `{"ok": "headers {'monitor': ['m1', 7]} flagged as revoked, but not terminated"}`,
			arg("headers", protocol.ObjectOf(arg("monitor", []protocol.Value{"m1", int64(7)}))))
		if got := c.ask("revoke_by_stamped_headers", arg("headers", []protocol.Value{"monitor=m2"})); !strings.HasPrefix(got, `{"ok": `) {
			t.Errorf("a list of headers: %s", got)
		}
		stamped("one", "m2", time.Time{})
		stamped("many", []protocol.Value{"x", int64(7)}, time.Time{})
		stamped("free", "m3", time.Time{})
		stamped("object", protocol.ObjectOf(), time.Time{})
		pass(2 * time.Hour)
		for _, id := range []string{"held", "one", "many"} {
			r.wantState(id, protocol.Revoked)
		}
		r.wantState("free", protocol.Success)
		r.wantState("object", protocol.Success)
	})
}

// TestACommandOfTheProgramMayUseTheWorkersOwn: Node.Run is the worker's table, checks of arguments included.
func TestACommandOfTheProgramMayUseTheWorkersOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) {
			c.Control.Commands = map[string]Command{
				"both": func(ctx context.Context, n *Node, args *protocol.Object) (any, error) {
					if _, err := n.Run(ctx, "add_consumer", args); err != nil {
						return nil, err
					}
					return n.Run(ctx, "cancel_consumer", args)
				},
				"wrong": func(ctx context.Context, n *Node, args *protocol.Object) (any, error) {
					return n.Run(ctx, "nosuch", args)
				},
			}
		}, handlers.Func("double", double))
		c := r.client()
		c.want("both", `{"ok": "no longer consuming from extra"}`, arg("queue", "extra"))
		c.want("both", `{"error": "TypeError(\"add_consumer() missing 1 required positional argument: 'queue'\")"}`)
		c.want("wrong", `{"error": "KeyError('nosuch')"}`)
		if got := c.ask("active_queues"); strings.Contains(got, "extra") {
			t.Errorf("active_queues = %s", got)
		}
	})
}

// TestTheMailboxIsKombus: names, kinds and arguments of the entities that remote control declares, as a Python worker
// does with the same settings; another kind or argument closes the channel of whoever comes second.
func TestTheMailboxIsKombus(t *testing.T) {
	t.Parallel()
	no := false
	for _, tt := range []struct {
		name    string
		control Control
		want    string
	}{
		{"Celery's defaults", Control{}, `celery.pidbox fanout w1@test.celery.pidbox exclusive=true {'x-message-ttl': 300000, 'x-expires': 10000}`},
		{
			"settings",
			Control{Exchange: "mine", TTL: 5 * time.Second, Expires: 90 * time.Second, Exclusive: &no},
			`mine.pidbox fanout w1@test.mine.pidbox exclusive=false {'x-message-ttl': 5000, 'x-expires': 90000}`,
		},
	} {
		c := &control{cfg: &Config{Node: "w1@test", Control: tt.control}}
		f := c.mailbox()
		if got := fmt.Sprintf("%s %s %s exclusive=%t %s", f.Exchange, f.Type, f.Queue, f.Exclusive, protocol.PythonRepr(f.Arguments)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestReadyIsSaidWithTheMailbox: who reads that a worker is ready may ask it, as with Celery.
func TestReadyIsSaidWithTheMailbox(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := func(d time.Duration) *rig {
			return startRig(t, func(c *Config) { c.Transport.(*membroker.Broker).Delay(membroker.Subscribe, d) }, handlers.Func("double", double))
		}
		r := slow(time.Second)
		pass(900 * time.Millisecond)
		if strings.Contains(r.log.String(), "ready.") {
			t.Error("ready before it listens")
		}
		pass(200 * time.Millisecond)
		r.wantLog("w1@test ready.")
		r = slow(time.Hour) // it works without
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(4))})
		pass(mailboxWait + time.Millisecond)
		r.wantLog("w1@test ready.")
		r.wantState("a", protocol.Success)
		r = startRig(t, func(c *Config) { c.Transport.(*membroker.Broker).Fail(membroker.Subscribe, -1, transports.ErrRefused) }, handlers.Func("double", double))
		pass(time.Millisecond)
		r.wantLog("w1@test ready.")
	})
}

// TestACommandThatIgnoresItsContext keeps neither the other commands nor the end of Run waiting.
func TestACommandThatIgnoresItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		free := make(chan struct{})
		var calls atomic.Int32
		r := startRig(t, func(c *Config) {
			c.Control.Commands = map[string]Command{"hang": func(context.Context, *Node, *protocol.Object) (any, error) {
				calls.Add(1)
				<-free
				return "late", nil
			}}
		}, handlers.Func("double", double))
		c := r.client()
		r.broadcast(protocol.ControlRequest{Method: "hang"})
		pass(commandTimeout + commandExtra)
		c.want("ping", `{"ok": "pong"}`)
		c.want("hang", `{"error": "RuntimeError('the command is still busy with an earlier call')"}`)
		if n := calls.Load(); n != 1 {
			t.Errorf("it was started %d times, want once while it hangs", n)
		}
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("Run ended after %v", took)
		}
		close(free)
	})
}

// TestACommandUnderWayAtTheEnd: Run waits a moment for it, no more.
func TestACommandUnderWayAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		free := make(chan struct{})
		defer close(free)
		r := startRig(t, func(c *Config) {
			c.Control.Commands = map[string]Command{"hang": func(context.Context, *Node, *protocol.Object) (any, error) { <-free; return nil, nil }}
		}, handlers.Func("double", double))
		synctest.Wait()
		r.broadcast(protocol.ControlRequest{Method: "hang"})
		synctest.Wait()
		began := time.Now()
		if err := r.stop(); err != nil || time.Since(began) > time.Second {
			t.Errorf("Run ended after %v: %v", time.Since(began), err)
		}
	})
}
