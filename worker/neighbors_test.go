package worker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// A neighbor is another node on the rig's broker, of whatever manners.
type neighbor struct {
	t    *testing.T
	conn transports.Conn
	sub  transports.Subscription
}

func neighborOf(t *testing.T, b *membroker.Broker) *neighbor {
	t.Helper()
	conn, err := b.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	sub, err := conn.Subscribe(t.Context(), transports.Fanout{Exchange: "celery.pidbox", Type: "fanout"})
	if err != nil {
		t.Fatal(err)
	}
	return &neighbor{t, conn, sub}
}

// greeted is the next command that is broadcast.
func (n *neighbor) greeted() protocol.ControlRequest {
	n.t.Helper()
	m, err := n.sub.Next(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	r, err := protocol.DecodeControl(m, protocol.DecodeOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// answer sends text as the body of an answer to r.
func (n *neighbor) answer(r protocol.ControlRequest, ticket protocol.Value, body string) {
	n.t.Helper()
	err := n.conn.Publish(n.t.Context(), transports.Publishing{
		Exchange: r.ReplyTo.Exchange, RoutingKey: r.ReplyTo.RoutingKey, ExchangeType: "direct",
		Message: protocol.Message{
			Headers:    protocol.ObjectOf(arg("ticket", ticket), arg("clock", int64(3))),
			Properties: protocol.Properties{ContentType: "application/json", ContentEncoding: "utf-8"}, Body: []byte(body),
		},
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

func mingling(c *Config) { c.Events.NoMingle = false }

// neighboredRig is a rig that mingles, with a neighbor that listens from the start.
func neighboredRig(t *testing.T, change func(*Config), hs ...handlers.Handler) (*rig, *neighbor) {
	t.Helper()
	var n *neighbor
	r := startRig(t, func(c *Config) {
		mingling(c)
		n = neighborOf(t, c.Transport.(*membroker.Broker))
		if change != nil {
			change(c)
		}
	}, hs...)
	return r, n
}

// TestMingleTakesWhatNeighborsKnow: every form of the revoked ids that a Celery node has ever sent, and no harm
// from what none would send.
func TestMingleTakesWhatNeighborsKnow(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		ticket     protocol.Value // nil: ours
		revoked    []string
		clock      int64 // at least
		nodes      int   // -1: all alone
	}{
		{name: "a list, as of Celery 5.7", body: `{"n@x": {"revoked": ["a", "b"], "clock": 500}}`, revoked: []string{"a", "b"}, clock: 501, nodes: 1},
		{name: "stamps, as before", body: `{"n@x": {"revoked": {"a": [1.5, "a"], "b": [2.5, "b"]}, "clock": 7}}`, revoked: []string{"a", "b"}, nodes: 1},
		{name: "floats", body: `{"n@x": {"revoked": {"a": 1.5}, "clock": 7}}`, revoked: []string{"a"}, nodes: 1},
		{name: "several nodes in one", body: `{"n@x": {"revoked": ["a"]}, "m@x": {"revoked": ["b"]}, "w1@test": {"revoked": ["c"]}}`, revoked: []string{"a", "b"}, nodes: 2},
		{name: "null, of a node that says nothing", body: `{"n@x": null}`, nodes: 0},
		{name: "an error", body: `{"n@x": {"error": "KeyError('hello')"}}`, nodes: 1},
		{name: "nonsense", body: `{"n@x": {"revoked": [1, null, {"a": []}, "a"], "clock": "7", "more": 1}}`, revoked: []string{"a"}, nodes: 1},
		{name: "a number of ids", body: `{"n@x": {"revoked": 5, "clock": 1e300}}`, nodes: 1},
		{name: "a clock that would stay for ever", body: `{"n@x": {"revoked": [], "clock": 9000000000000000000}}`, nodes: 1},
		{name: "a text", body: `{"n@x": "pong"}`, nodes: 0},
		{name: "no JSON", body: `{`, nodes: -1},
		{name: "a list of nodes", body: `["n@x"]`, nodes: -1},
		{name: "the answer to somebody else", ticket: "other", body: `{"n@x": {"revoked": ["a"]}}`, nodes: -1},
		{name: "ourselves", body: `{"w1@test": {"revoked": ["a"], "clock": 500}}`, nodes: -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, n := neighboredRig(t, nil, handlers.Func("double", double))
				hello := n.greeted()
				if from, _ := hello.Arguments.Get("from_node"); hello.Method != "hello" || from != "w1@test" || hello.ReplyTo == nil {
					t.Fatalf("greeted with %+v", hello)
				}
				ticket := hello.Ticket
				if tt.ticket != nil {
					ticket = tt.ticket
				}
				n.answer(hello, ticket, tt.body)
				pass(2 * time.Second)
				if diff := cmp.Diff(append([]string{}, tt.revoked...), r.w.revoked.list(time.Now())); diff != "" {
					t.Errorf("revoked (-want +got):\n%s", diff)
				}
				if now := r.w.control.clock.now(); now < tt.clock || now > 1000 {
					t.Errorf("the clock is %d, want %d or a little more", now, tt.clock)
				}
				want := []string{"mingle: searching for neighbors", "mingle: all alone"}
				if tt.nodes >= 0 {
					want = []string{"mingle: searching for neighbors", fmt.Sprintf("mingle: sync with %d nodes", tt.nodes), "mingle: sync complete"}
				}
				for _, line := range want {
					r.wantLog(line)
				}
				if n := strings.Count(r.log.String(), "mingle: "); tt.name != "no JSON" && tt.name != "a list of nodes" && n != len(want) {
					t.Errorf("%d lines about it:\n%s", n, r.log)
				}
			})
		})
	}
}

// TestMingleComesBeforeTheFirstTask: what neighbors know as revoked does not run, though it waits in the queue.
func TestMingleComesBeforeTheFirstTask(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n := neighboredRig(t, nil, handlers.Func("double", double))
		r.send(protocol.Task{ID: "gone", Name: "double", Args: args(int64(1))})
		r.send(protocol.Task{ID: "gone too", Name: "double", Args: args(int64(1))})
		r.send(protocol.Task{ID: "good", Name: "double", Args: args(int64(1))})
		hello := n.greeted()
		time.Sleep(90 * time.Millisecond)
		n.answer(hello, hello.Ticket, `{"n@x": {"revoked": ["gone"], "clock": 1}}`)
		time.Sleep(40 * time.Millisecond)
		n.answer(hello, hello.Ticket, `{"m@x": {"revoked": ["gone too"], "clock": 1}}`)
		time.Sleep(40 * time.Millisecond)
		synctest.Wait()
		if !strings.Contains(r.log.String(), "searching") || strings.Contains(r.log.String(), "received") {
			t.Errorf("a task came before the neighbors' answers:\n%s", r.log)
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		r.wantState("gone", protocol.Revoked)
		r.wantState("gone too", protocol.Revoked)
		r.wantState("good", protocol.Success)
	})
}

// TestALoneNodeWaitsForNobody: the broker says that nobody has heard the question.
func TestALoneNodeWaitsForNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began := time.Now()
		r := startRig(t, mingling, handlers.Func("double", double))
		r.send(protocol.Task{ID: "now", Name: "double", Args: args(int64(1))})
		synctest.Wait()
		r.wantState("now", protocol.Success)
		r.wantLog("mingle: all alone")
		if took := time.Since(began); took > 0 {
			t.Errorf("the first task took %v", took)
		}
		n := neighborOf(t, r.broker)
		n.sub.Close()
		synctest.Wait()
		if err := n.conn.Publish(t.Context(), transports.Publishing{Exchange: "celery.pidbox", Mandatory: true, Broadcast: true}); err != nil {
			t.Errorf("the node does not listen to orders: %v", err)
		}
	})
}

// TestMingleDelaysTasksForAMoment: a node whose neighbors are silent waits a tenth of a second, and only at its first
// connection; a task that waits for its time is looked up again.
func TestMingleDelaysTasksForAMoment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n := neighboredRig(t, nil, handlers.Func("double", double))
		r.send(protocol.Task{ID: "now", Name: "double", Args: args(int64(1))})
		r.send(protocol.Task{ID: "later", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Minute)})
		hello := n.greeted()
		time.Sleep(silentFor - time.Millisecond)
		synctest.Wait()
		if strings.Contains(r.log.String(), "received") {
			t.Errorf("a task came before silence:\n%s", r.log)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		r.wantState("now", protocol.Success)
		n.answer(hello, hello.Ticket, `{"n@x": {"revoked": ["now", "later"], "clock": 1}}`)
		pass(2 * time.Minute)
		r.wantState("now", protocol.Success)
		r.wantState("later", protocol.Revoked)

		r.broker.Cut()
		began := time.Now()
		r.send(protocol.Task{ID: "again", Name: "double", Args: args(int64(1))})
		for !strings.Contains(r.log.String(), "double[again] succeeded") {
			time.Sleep(time.Millisecond)
		}
		r.wantLog("Connection to broker lost")
		if took := time.Since(began); took > silentFor {
			t.Errorf("after a lost connection the first task took %v", took)
		}
	})
}

func TestNeighborsWhoDoNotStopTalkingDelayNoTask(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n := neighboredRig(t, nil, handlers.Func("double", double))
		r.send(protocol.Task{ID: "now", Name: "double", Args: args(int64(1))})
		hello := n.greeted()
		for i := range 60 {
			n.answer(hello, hello.Ticket, fmt.Sprintf(`{"n%d@x": {"revoked": [], "clock": 1}}`, i))
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		r.wantState("now", protocol.Success)
	})
}

// TestMingleAtEachConnect: what was revoked while we were away is learnt, and ours handed on.
func TestMingleAtEachConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n := neighboredRig(t, nil, handlers.Func("double", double))
		if ours, _ := n.greeted().Arguments.Get("revoked"); fmt.Sprint(ours) != "[]" {
			t.Errorf("at first we know of %v", ours)
		}
		pass(2 * time.Second)
		r.w.revoked.add("mine", time.Now())
		r.broker.Cut()
		n = neighborOf(t, r.broker)
		if ours, _ := n.greeted().Arguments.Get("revoked"); fmt.Sprint(ours) != "[mine]" {
			t.Errorf("after the cut we know of %v", ours)
		}
		pass(time.Minute)
		if got := strings.Count(r.log.String(), "mingle: searching"); got != 2 {
			t.Errorf("%d greetings, want 2", got)
		}
	})
}

func TestNoMingle(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"--without-mingle":       func(c *Config) { c.Events.NoMingle = true },
		"without remote control": func(c *Config) { c.Control.Off = true },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, _ := neighboredRig(t, change, handlers.Func("double", double))
				pass(10 * time.Second)
				if strings.Contains(r.log.String(), "mingle") {
					t.Error(r.log)
				}
			})
		})
	}
}

// TestMingleThatIsRefusedStopsNothing: the reply queue cannot be made, or the broadcast is not taken.
func TestMingleThatIsRefusedStopsNothing(t *testing.T) {
	for op, times := range map[membroker.Op]int{membroker.Subscribe: 3, membroker.Publish: 1} {
		t.Run(string(op), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, _ := neighboredRig(t, func(c *Config) {
					c.Transport.(*membroker.Broker).Fail(op, times, transports.ErrRefused)
				}, handlers.Func("double", double))
				r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
				pass(time.Minute)
				r.wantState("a", protocol.Success)
				r.wantLog("the neighbors could not be asked")
				r.client().want("ping", `{"ok": "pong"}`)
			})
		})
	}
}

func workerEvent(kind, node string, more ...protocol.Member) string {
	f := protocol.ObjectOf(arg("hostname", node), arg("clock", int64(5)), arg("timestamp", 1.5), arg("pid", int64(1)), arg("utcoffset", 0.0), arg("freq", 2.0))
	for _, m := range more {
		if m.Value == nil {
			f.Delete(m.Key)
		} else {
			f.Set(m.Key, m.Value)
		}
	}
	f.Set("type", kind)
	out, err := protocol.AppendJSON(nil, f)
	if err != nil {
		panic(err)
	}
	return string(out)
}

func (r *rig) tell(key, body string) {
	r.broker.Broadcast("celeryev", key, protocol.Message{
		Properties: protocol.Properties{ContentType: "application/json", ContentEncoding: "utf-8"}, Body: []byte(body),
	})
	synctest.Wait()
}

func (r *rig) peers() []string {
	synctest.Wait()
	out := []string{}
	for name := range r.w.gossip.peers {
		out = append(out, name)
	}
	return out
}

func gossiping(c *Config) { c.Events.NoGossip = false }

// TestGossipFollowsTheOthers: their clocks, who comes, who leaves and who is missed.
func TestGossipFollowsTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, gossiping, handlers.Func("double", double))
		synctest.Wait()
		clock := r.w.control.clock
		r.tell("worker.online", workerEvent("worker-online", "n@x", arg("clock", int64(700))))
		if now := clock.now(); now != 701 {
			t.Errorf("the clock is %d, want 701", now)
		}
		r.tell("worker.heartbeat", workerEvent("worker-heartbeat", "n@x", arg("clock", int64(3))))
		r.tell("worker.heartbeat", workerEvent("worker-heartbeat", "n@x", arg("clock", nil)))
		r.tell("worker.heartbeat", workerEvent("worker-heartbeat", "w1@test", arg("clock", int64(9000)))) // our own come back
		r.tell("task.received", workerEvent("task-received", "n@x", arg("clock", int64(9000))))           // not asked for
		if now := clock.now(); now != 704 {
			t.Errorf("the clock is %d, want 704", now)
		}
		if diff := cmp.Diff([]string{"n@x"}, r.peers()); diff != "" {
			t.Error(diff)
		}
		r.tell("worker.offline", workerEvent("worker-offline", "n@x"))
		if got := r.peers(); len(got) > 0 {
			t.Errorf("%q are here after they left", got)
		}
		r.tell("worker.heartbeat", workerEvent("worker-heartbeat", "n@x"))
		pass(3 * time.Second)
		r.tell("worker.heartbeat", workerEvent("worker-heartbeat", "n@x"))
		pass(3 * time.Second)
		if strings.Contains(r.log.String(), "missed") {
			t.Error("missed too early")
		}
		pass(7 * time.Second)
		r.wantLog("missed heartbeat from n@x")
		if got := r.peers(); len(got) > 0 {
			t.Errorf("%q are here after they were missed", got)
		}
	})
}

// TestHostileEventsDoNoHarm: nothing that comes as an event hurts, fills the memory or leaves a mark on our clock.
func TestHostileEventsDoNoHarm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, gossiping, handlers.Func("double", double))
		synctest.Wait()
		for _, body := range []string{
			``, `{`, `null`, `[]`, `"x"`, `{}`, `{"type": 1}`, `{"type": ""}`, `{"type": "worker-heartbeat"}`,
			workerEvent("worker-heartbeat", "n@x", arg("clock", "7"), arg("freq", "x"), arg("timestamp", "y")),
			workerEvent("worker-heartbeat", "n@x", arg("clock", 1.5), arg("freq", -1.0)),
			workerEvent("worker-heartbeat", "huge@x", arg("clock", int64(9e18)), arg("freq", 1e300)),
			workerEvent("worker-heartbeat", strings.Repeat("x", 1<<20)),
			workerEvent("worker-heartbeat", "a\nb [2000-01-01] forged"),
			workerEvent("worker-elect", "n@x"), workerEvent("worker-elect-ack", "n@x"),
			`[` + strings.TrimSuffix(strings.Repeat(workerEvent("worker-online", "many@x")+",", 1000), ",") + `]`,
			strings.Repeat(`[`, 100_000),
		} {
			r.tell("worker.heartbeat", body)
		}
		for i := range 2 * peersMax {
			r.broker.Broadcast("celeryev", "worker.online", protocol.Message{
				Properties: protocol.Properties{ContentType: "application/json"}, Body: []byte(workerEvent("worker-online", fmt.Sprint(i))),
			})
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		if n := len(r.peers()); n > peersMax {
			t.Errorf("%d peers are kept", n)
		}
		if now := r.w.control.clock.now(); now > 100_000 {
			t.Errorf("the clock is %d", now)
		}
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		pass(3 * time.Hour)
		r.wantState("a", protocol.Success)
		if n := len(r.peers()); n > 0 {
			t.Errorf("%d peers are kept for ever", n)
		}
		if strings.Contains(r.log.String(), "\nb [2000") {
			t.Error("a node's name forges a line of the log")
		}
	})
}

// TestGossipIsAskedForAgain: a broker that refuses the event queue is asked again, and nothing waits for it.
func TestGossipIsAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) {
			gossiping(c)
			c.Control.Off = true
			c.Transport.(*membroker.Broker).Fail(membroker.Subscribe, 5, transports.ErrRefused)
		}, handlers.Func("double", double))
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		synctest.Wait()
		r.wantState("a", protocol.Success)
		pass(time.Minute)
		r.tell("worker.online", workerEvent("worker-online", "n@x"))
		if diff := cmp.Diff([]string{"n@x"}, r.peers()); diff != "" {
			t.Error(diff)
		}
		r.broker.Cut()
		pass(time.Minute)
		r.tell("worker.online", workerEvent("worker-online", "m@x"))
		if diff := cmp.Diff([]string{"m@x"}, r.peers()); diff != "" {
			t.Error(diff)
		}
		if n := strings.Count(r.log.String(), "cannot be followed"); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
	})
}

// The settings in which nodes of one application must agree are compared once, and each difference is told.
func TestSettingsOfNeighborsAreCompared(t *testing.T) {
	object := func(text string) *protocol.Object {
		v, err := protocol.ParseJSON([]byte(text), protocol.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return v.(*protocol.Object)
	}
	const common = `"result_backend": "redis://:********@redis/1", "result_serializer": "json", "task_serializer": "json", "accept_content": ["json"], "result_expires": "1 day, 0:00:00"`
	for _, tt := range []struct {
		name, ours, theirs string
		want               []string // beginnings
	}{
		{"nothing", `{}`, `{}`, nil},
		{"the same in other words", `{` + common + `}`, `{"result_backend": "rediss://other:6379/1?ssl_cert_reqs=none", "result_serializer": "json", "task_serializer": "application/json", "accept_content": ["application/json", "pickle"],
			"result_expires": 86400, "result_backend_transport_options": {"result_chord_ordered": true}, "broker_transport_options": {"visibility_timeout": 3600.0, "sep": "\u0006\u0016"}}`, nil},
		{"the database", `{` + common + `}`, `{` + common + `, "result_backend": "redis://redis"}`, []string{"result_backend is"}},
		{"the kind", `{"result_backend": "rpc://"}`, `{"result_backend": "django-db"}`, []string{"result_backend is 'rpc://' here and 'django-db' there"}},
		{"none here", `{"result_backend": "disabled://"}`, `{"result_backend": "sentinel://a/0;sentinel://b/0"}`, []string{"result_backend is"}},
		{"one kind in two spellings", `{"result_backend": "rpc://"}`, `{"result_backend": "amqp://x"}`, nil},
		{
			"prefix and order", `{` + common + `, "result_backend_transport_options": {"global_keyprefix": "********"}}`, `{` + common + `, "result_backend_transport_options": {"result_chord_ordered": false}}`,
			[]string{"result_backend_transport_options.global_keyprefix is '********' here and None there", "result_backend_transport_options.result_chord_ordered is None here and False there"},
		},
		{"the lifetime", `{` + common + `, "result_expires": null}`, `{` + common + `}`, []string{"result_expires is None here and '1 day, 0:00:00' there"}},
		{"less than a day", `{` + common + `, "result_expires": 5400}`, `{` + common + `, "result_expires": "1:30:00"}`, nil},
		{
			"serializers", `{"result_serializer": "json", "task_serializer": "msgpack", "accept_content": ["msgpack"]}`, `{"result_serializer": "pickle", "task_serializer": "json", "accept_content": ["json", "yaml"]}`,
			[]string{"result_serializer is 'json' here and 'pickle' there", "accept_content against task_serializer is ['msgpack'] here and 'json' there", "task_serializer against accept_content is 'msgpack' here and ['json', 'yaml'] there"},
		},
		{
			"the transport", `{"broker_transport_options": {"visibility_timeout": 60, "priority_steps": [0, 5]}}`, `{"broker_transport_options": {"sep": ":", "global_keyprefix": "********"}}`,
			[]string{"broker_transport_options.global_keyprefix", "broker_transport_options.visibility_timeout is 60 here and None there", "broker_transport_options.sep", "broker_transport_options.priority_steps"},
		},
		{"nonsense", `{` + common + `}`, `{` + common + `, "accept_content": 5, "task_serializer": [], "broker_transport_options": "x", "result_backend_transport_options": null, "result_expires": "soon"}`, []string{"result_expires is"}},
	} {
		got := disagreements(object(tt.ours), object(tt.theirs))
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			continue
		}
		for i, want := range tt.want {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: %q, want %q", tt.name, got[i], want)
			}
		}
	}
	bubble(t, func(t *testing.T) {
		r, n := neighboredRig(t, func(c *Config) {
			c.Settings = object(`{"result_serializer": "msgpack"}`)
		}, handlers.Func("double", double))
		hello := n.greeted()
		n.answer(hello, hello.Ticket, `{"n@x": {"revoked": [], "clock": 5}}`)
		asked := n.greeted()
		if asked.Method != "conf" || asked.Arguments.Len() != 0 || len(asked.Destination) != 1 || asked.Destination[0] != "n@x" {
			t.Fatalf("asked %+v", asked)
		}
		n.answer(asked, asked.Ticket, `{"n@x": {"CELERY_BROKER_URL": "amqp://", "CELERY_RESULT_EXPIRES": 86400}, "m@x": {"error": "no"}, "o@x": null, "p@x": {"broker_url": "", "result_serializer": "json"}, "q@x": {"MINE_RESULT_EXPIRES": 5}}`)
		pass(5 * time.Second)
		if got := strings.Count(r.log.String(), "settings differ from those of n@x: result_serializer is 'msgpack' here and 'json' there"); got != 1 {
			t.Errorf("told %d times:\n%s", got, r.log)
		}
		if got := strings.Count(r.log.String(), "settings differ"); got != 1 {
			t.Errorf("%d differences are told:\n%s", got, r.log)
		}
	})
}
