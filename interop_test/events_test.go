package interop_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// apart returns the setup with event and control exchanges of its own: other tests' workers are not heard.
func (s setup) apart(t *testing.T) setup {
	t.Helper()
	name := unique("ev")
	s = s.with("event_exchange", name+"ev").with("control_exchange", name)
	t.Cleanup(func() { // after the workers have ended
		if strings.HasPrefix(s.broker, "amqp") {
			s.python(t, "").run(`
				with app.connection_for_write() as conn:
				    for exchange in (NAME + "ev", NAME + ".pidbox", "reply." + NAME + ".pidbox"):
				        conn.default_channel.exchange_delete(exchange)
			`, map[string]any{"NAME": name})
		}
	})
	return s
}

// neighbor starts a real Celery worker as it comes: with its pool, heartbeats, mingle and gossip.
func (s setup) neighbor(t *testing.T, queue string, args ...string) *worker {
	t.Helper()
	name := unique("celery")
	argv := []string{"-m", "celery", "-A", "project", "worker", "-Q", queue, "-n", name + "@test", "-l", "DEBUG", "-c", "2", "-P", "prefork"}
	cmd := exec.Command(python, append(argv, args...)...)
	cmd.Dir = filepath.Join(root, "pyfixtures/django_project")
	cmd.Env = append(s.environment("STALK_SERVE_DEMO=1", "C_FORCE_ROOT=1"), s.env...)
	w := startWorker(t, cmd, name)
	w.waitReady()
	return w
}

// mingling starts a worker that finds the other one: it is answered within a second, or begins anew.
func mingling(t *testing.T, start func() *worker) *worker {
	t.Helper()
	for range 6 {
		w := start()
		w.waitLogAny("mingle: sync with 1 nodes", "mingle: all alone")
		if countLog(w, "mingle: sync with 1 nodes") > 0 {
			return w
		}
		w.kill() // the machine is busy
	}
	t.Fatal("it finds nobody")
	return nil
}

// listening makes a monitor of a Python session: events by task in EVENTS, and what Celery makes of them in state.
const listening = `
	import threading
	from celery.events.state import State
	state, EVENTS, WORKERS, ERRORS = State(), {}, [], []
	stop = threading.Event()
	def hear(event):
	    state.event(dict(event))
	    if "uuid" in event:
	        EVENTS.setdefault(event["uuid"], []).append(event)
	    else:
	        WORKERS.append(event)
	def capture(ready):
	    try:
	        with app.connection_for_read() as conn:
	            receiver = app.events.Receiver(conn, handlers={"*": hear})
	            with receiver.consumer_context() as (conn, _, _):
	                ready.set()
	                while not stop.is_set():
	                    try:
	                        conn.drain_events(timeout=0.2)
	                    except OSError: # nothing came
	                        pass
	    except BaseException as exc:
	        ERRORS.append(repr(exc))
	        ready.set()
	ready = threading.Event()
	monitor = threading.Thread(target=capture, args=(ready,), daemon=True)
	monitor.start()
	assert ready.wait(60) and not ERRORS, ERRORS
	def kinds(id):
	    return [e["type"] for e in EVENTS.get(id, [])]
	def ended(id, *last):
	    try:
	        return wait(lambda: set(kinds(id)) & set(last))
	    except AssertionError:
	        raise AssertionError("%s: events %s, want %s" % (id, kinds(id), last))
	def alive():
	    return sorted(w.hostname for w in state.alive_workers())
`

// TestEventsAreThoseOfAPythonWorker: for everything that can become of a task, Stalk sends the events that a Python
// worker sends: the same types in the same order, with the same fields, of the same types.
func TestEventsAreThoseOfAPythonWorker(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("compares Stalk with Celery")
		}
		s = s.apart(t).with("task_acks_late", true) // as Stalk does by itself
		code := `
			def send(task, *args, **options):
			    return task.apply_async(args, queue=Q, **options).id
			wait(lambda: alive() == [NODE])
			now = datetime.datetime.now(datetime.timezone.utc)
			ids = {
			    "success": send(add, 1, 2),
			    "failure": send(fail, "boom"),
			    "retry": send(retry, 1),
			    "reject": send(drop, "no"),
			    "ignore": send(skip),
			    "expired": send(add, 1, expires=now - datetime.timedelta(minutes=1)),
			    "unknown": app.send_task("no.such", (1,), queue=Q).id,
			    "eta": send(add, 1, eta=now + datetime.timedelta(seconds=2)),
			    "hard limit": send(sleep, 60, time_limit=1),
			    "shadowed": send(add, 1, shadow="another"),
			}
			revoked = str(uuid.uuid4())
			app.control.revoke(revoked)
			wait(lambda: app.control.inspect(timeout=60, destination=[NODE]).revoked()[NODE])
			ids["revoked"] = send(add, 1, task_id=revoked)
			terminated = ids["terminated"] = send(sleep, 60)
			ended(terminated, "task-started")
			app.control.revoke(terminated, terminate=True)
			for name, last in [
			    ("success", "task-succeeded"), ("failure", "task-failed"), ("reject", "task-rejected"), ("expired", "task-revoked"),
			    ("unknown", "task-failed"), ("eta", "task-succeeded"), ("hard limit", "task-failed"), ("shadowed", "task-succeeded"),
			    ("revoked", "task-revoked"), ("terminated", "task-revoked"), ("ignore", "task-started"),
			]:
			    ended(ids[name], last)
			wait(lambda: {"task-retried", "task-succeeded"} <= set(kinds(ids["retry"])))
			time.sleep(1) # what may not come has not come
			stop.set()
			assert not ERRORS, ERRORS
			def clean(event):
			    e = dict(event)
			    for k in ("local_received",):
			        e.pop(k)
			    assert e.pop("hostname") == NODE
			    e.pop("queue", None) # of ours alone
			    e = {k: v if k in ("type", "name", "args", "kwargs", "retries", "result", "exception", "requeue", "terminated", "expired", "signum") else type(v).__name__
			         for k, v in sorted(e.items())}
			    e["parent_id"] = e.get("parent_id") and "id"
			    return e
			found = {name: [clean(e) for e in EVENTS.get(id, [])] for name, id in ids.items()}
			found["workers"] = sorted({str({k: type(v).__name__ for k, v in sorted(e.items()) if k != "local_received"}) + e["type"] for e in WORKERS if "active" in e}) # without: asked for by our receiver, if in time
			found["fields"] = {e["uuid"]: None for es in EVENTS.values() for e in es if e["clock"] <= 0} # none
			value = found
		`
		type row = map[string]any
		events := func(w *worker, queue string) map[string][]row {
			t.Helper()
			p := s.python(t, queue)
			p.run(listening)
			raw := p.run(code, map[string]any{"NODE": w.name + "@test"})
			var all map[string]json.RawMessage
			if err := json.Unmarshal(raw, &all); err != nil {
				t.Fatal(err)
			}
			out := map[string][]row{}
			for name, events := range all {
				if name == "workers" {
					out[name] = []row{{"all": string(events)}}
					continue
				}
				if name == "fields" {
					if string(events) != "{}" {
						t.Errorf("clocks: %s", events)
					}
					continue
				}
				var list []row
				if err := json.Unmarshal(events, &list); err != nil {
					t.Fatalf("%s: %v: %s", name, err, events)
				}
				out[name] = list
			}
			w.stop()
			return out
		}
		mine, other := unique("events"), unique("events")
		ours := events(s.shop(t, mine, "-E"), mine)
		theirs := events(s.neighbor(t, other, "-E"), other)
		for name, want := range theirs {
			got := ours[name]
			if !celeryHas(t, 7) {
				want, got = eventsBefore57(name, want, got)
			}
			switch name {
			case "hard limit": // Celery tells it twice, by a name of its own inside
				want = want[:3]
				want[2]["exception"] = "TimeLimitExceeded(1)"
			case "terminated": // the pool's report may have the signal's name
				for _, list := range [][]row{want, got} {
					list[len(list)-1]["signum"] = fmt.Sprint(list[len(list)-1]["signum"])
				}
			case "retry": // the second run may begin before the first is told
				got, want = byAttempt(got), byAttempt(want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-celery +stalk):\n%s", name, diff)
			}
		}
	})
}

// byAttempt puts the events of a retried task in one order.
func byAttempt(events []map[string]any) []map[string]any {
	var first, second []map[string]any
	for _, e := range events {
		if len(first) < 2 || e["type"] == "task-retried" {
			first = append(first, e)
		} else {
			second = append(second, e)
		}
	}
	return append(first, second...)
}

// TestCeleryStateFollowsStalk: what Flower, celery events and others keep of a cluster is right about Stalk: alive at
// once and while it is busy, its tasks in their states, offline as soon as it stops.
func TestCeleryStateFollowsStalk(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		s = s.apart(t)
		queue := unique("state")
		w := s.stalk(t, queue)
		node := w.name + "@test"
		p := s.python(t, queue)
		p.run(listening)
		p.run(`
			wait(lambda: alive() == [NODE])
			quiet = add.apply_async((1,), queue=Q)
			assert quiet.get(timeout=60) == 2
			assert app.control.enable_events(reply=True, destination=[NODE], timeout=60, limit=1) == [{NODE: {"ok": "task events enabled"}}]
			good, bad = add.apply_async((1, 2), queue=Q), fail.apply_async(("boom",), queue=Q)
			again = retry.apply_async((1,), queue=Q)
			for r in (good, again):
			    r.get(timeout=60)
			ended(bad.id, "task-failed")
			ended(good.id, "task-succeeded")
			ended(again.id, "task-succeeded")
			assert SOFTWARE != "stalk" or kinds(again.id) == ["task-received", "task-started", "task-retried", "task-received", "task-started", "task-succeeded"], kinds(again.id)
			tasks = state.tasks
			assert quiet.id not in tasks, kinds(quiet.id)
			t = tasks[good.id]
			assert (t.state, t.name, t.args, t.kwargs, t.result, t.worker.hostname) == ("SUCCESS", "demo.add", "(1, 2)", "{}", "3", NODE), t.info()
			assert isinstance(t.runtime, float) and t.received <= t.started <= t.succeeded, t.info()
			t = tasks[bad.id]
			assert t.state == "FAILURE" and t.exception == "ValueError('boom')" and t.traceback.startswith("Traceback"), t.info()
			assert tasks[again.id].state in ("SUCCESS", "RETRY")[:1 + (SOFTWARE != "stalk")] and tasks[again.id].retries == 1, tasks[again.id].info()
			wait(lambda: state.workers[NODE].sw_ident == SOFTWARE and (state.workers[NODE].processed or 0) >= 5)
			# Its heart beats, every two seconds, while its slots are busy.
			busy = [burn.apply_async((8,), queue=Q) for _ in range(2)]
			wait(lambda: [e.get("active") for e in WORKERS if e["hostname"] == NODE].count(2) >= 2)
			wait(lambda: alive() == [NODE])
			assert not ERRORS, ERRORS
		`, map[string]any{"NODE": node, "SOFTWARE": map[bool]string{false: "stalk", true: "py-celery"}[celeryInstead]})
		for range 2 {
			p.run(`wait(lambda: all(r.ready() for r in busy), 60)`)
		}
		p.run(`last = sleep.apply_async((15,), queue=Q); ended(last.id, "task-started")`)
		w.signal(syscall.SIGTERM)
		p.run(`
			wait(lambda: [e["type"] for e in WORKERS][-1] == "worker-offline" or last.ready()) # the task still runs
			assert not last.ready() and kinds(last.id)[-1] == "task-started", kinds(last.id)
			ended(last.id, "task-succeeded")
			assert [e["type"] for e in WORKERS][-1] == "worker-offline"
			stop.set()
		`)
		if code := w.wait(90 * time.Second); code != 0 {
			t.Errorf("ended with code %d", code)
		}
	})
}

// TestStalkBesideGossipingPythonWorkers: a Python worker with mingle and gossip and Stalk take each other for one of
// theirs: they share what is revoked, tell who comes, leaves and is missed, and both live through all of it.
func TestStalkBesideGossipingPythonWorkers(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("needs a Stalk node")
		}
		s = s.apart(t)
		queue, other := unique("party"), unique("party")
		first := s.neighbor(t, other)
		p := s.python(t, queue)
		p.run(`
			i = app.control.inspect(timeout=60, destination=[NODE])
			wait(app.control.inspect(timeout=2, destination=[NODE]).ping) # it is ready before it hears on Redis
			app.control.revoke(["before", "also"])
			wait(lambda: sorted(i.revoked()[NODE]) == ["also", "before"])
			before = i.clock()[NODE]["clock"]
		`, map[string]any{"NODE": first.name + "@test"})

		w := mingling(t, func() *worker { return s.stalk(t, queue, "-E", "-l", "DEBUG") })
		w.waitLog("mingle: sync complete")
		first.waitLog("sync with " + w.name + "@test")
		first.waitLog(w.name + "@test joined the party")
		w.waitLog(first.name + "@test joined the party")
		p.run(`
			i = app.control.inspect(timeout=60, destination=[NODE])
			assert sorted(i.revoked()[NODE]) == ["also", "before"], i.revoked()
			r = add.apply_async((1,), queue=Q, task_id="before-" + Q)
			assert r.get(timeout=60) == 2
			wait(lambda: i.clock()[NODE]["clock"] > before)
			app.control.revoke("after")
		`, map[string]any{"NODE": w.name + "@test"})

		// The first Python worker dies: Stalk misses it, and hands what was revoked to the next one.
		first.kill()
		w.waitLog("missed heartbeat from " + first.name + "@test")
		second := mingling(t, func() *worker { return s.neighbor(t, other) })
		w.waitLog("sync with " + second.name + "@test")
		p.run(`
			i = app.control.inspect(timeout=60, destination=[NODE])
			wait(app.control.inspect(timeout=2, destination=[NODE]).ping) # it is ready before it hears on Redis
			assert sorted(i.revoked()[NODE]) == ["after", "also", "before"], i.revoked()
			# An election, which with another Python worker beside would end this one: Stalk takes no part in it.
			i = app.control.inspect(timeout=60, destination=[STALK])
			assert app.control.broadcast("election", {"id": "1", "topic": "task", "action": None}, reply=True, destination=[STALK], timeout=60, limit=1) == [{STALK: None}]
			assert app.control.broadcast("heartbeat", reply=True, destination=[STALK], timeout=60, limit=1) == [{STALK: None}]
			ids = [add.apply_async((k,), queue=Q).id for k in range(100)] + [app.send_task("no.such", queue=Q).id]
			wait(lambda: all(AsyncResult(id, app=app).ready() for id in ids), 60)
		`, map[string]any{"NODE": second.name + "@test", "STALK": w.name + "@test"})
		w.stop()
		second.waitLog(w.name + "@test left")
		second.stop()
		for _, python := range []*worker{first, second} {
			for _, bad := range []string{"Unrecoverable error", "Traceback", "Connection to broker lost", "Substantial drift"} {
				if strings.Contains(string(python.output()), bad) {
					t.Errorf("%s says %q", python.name, bad)
				}
			}
		}
	})
}
