package interop_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
)

// These tests give the orders of remote control as Django code does (app.control) and measure that they take effect.
// But for what they say themselves they pass on Celery's own worker, too.

// orders opens a session whose order() asks the node and returns what it answers.
func (s setup) orders(t *testing.T, w *worker, queue string) *session {
	t.Helper()
	p := s.python(t, queue)
	p.args["NODE"] = w.name + "@test"
	p.run(`
		i = app.control.inspect(destination=[NODE], timeout=60)
		def order(name, **args):
			began = time.monotonic()
			got = app.control.broadcast(name, arguments=args, destination=[NODE], reply=True, timeout=60, limit=1)
			assert time.monotonic() - began < 10, "%s took %.2f s" % (name, time.monotonic() - began)
			return got[0][NODE]
		def ready(name):
			with app.connection() as c:
				return c.default_channel.queue_declare(name, passive=True).message_count
		def forget(*names):
			with app.connection() as c:
				for name in names:
					c.default_channel.queue_delete(name)
	`)
	return p
}

func TestRateLimitByRemote(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("rate")
		w := s.stalk(t, queue)
		p := s.orders(t, w, queue)
		p.run(`
			def took(n):
				began = time.monotonic()
				assert [r.get(timeout=60) for r in [add.apply_async((k,), queue=Q) for k in range(n)]] == list(range(1, n + 1))
				return time.monotonic() - began
			assert app.control.rate_limit("demo.add", "4/s", destination=[NODE], reply=True, timeout=60) == [{NODE: {"ok": "new rate limit set successfully"}}]
			assert "demo.add [rate_limit=4/s]" in i.registered()[NODE]
			seconds = took(13)
			assert 2.8 < seconds, seconds
			assert order("rate_limit", task_name="demo.add", rate_limit="0") == {"ok": "new rate limit set successfully"}
			wait(lambda: took(13) < 2.8) # at that rate it never was
			assert order("rate_limit", task_name="demo.add", rate_limit="x/s") == {"error": "Invalid rate limit string: ValueError(\"could not convert string to float: 'x'\")"}
			assert order("rate_limit", task_name="nope", rate_limit="1/s") == {"error": "unknown task"}
		`)
		w.waitLog("New rate limit for tasks of type demo.add: 4/s.")
		if !celeryInstead { // which lets those that wait keep their old rate
			p.run(`
				order("rate_limit", task_name="demo.add", rate_limit="6/h")
				waiting = [add.apply_async((k,), queue=Q) for k in range(8)]
				wait(lambda: any(r.ready() for r in waiting)) # whichever slot was faster
				time.sleep(0.5)
				assert [r.ready() for r in waiting].count(True) == 1
				order("rate_limit", task_name="demo.add", rate_limit=None)
				assert [r.get(timeout=60) for r in waiting] == list(range(1, 9))
			`)
		}
		w.stop()
	})
}

func TestTimeLimitByRemote(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("a running worker of Celery keeps its limits")
		}
		queue := unique("limit")
		w := s.stalk(t, queue)
		s.orders(t, w, queue).run(`
			assert app.control.time_limit("demo.sleep", soft=0.5, hard=30, destination=[NODE], reply=True, timeout=60) == [{NODE: {"ok": "time limits set successfully"}}]
			raises("SoftTimeLimitExceeded", None, sleep.apply_async((20,), queue=Q).get, timeout=60)
			order("time_limit", task_name="demo.sleep")
			assert sleep.apply_async((1,), queue=Q).get(timeout=60) == 1
		`)
		w.stop()
	})
}

func TestConsumersByRemote(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue, more := unique("base"), unique("more")
		w := s.stalk(t, queue)
		p := s.orders(t, w, queue)
		p.args["MORE"] = more
		p.run(`
			names = lambda: sorted(q["name"] for q in i.active_queues()[NODE])
			assert app.control.add_consumer(MORE, destination=[NODE], reply=True, timeout=60) == [{NODE: {"ok": "add consumer " + MORE}}]
			order("add_consumer", queue=MORE)
			wait(lambda: names() == sorted([Q, MORE]))
			row = [q for q in i.active_queues()[NODE] if q["name"] == MORE][0]
			assert (row["exchange"]["name"], row["exchange"]["type"], row["routing_key"]) == (MORE, "direct", MORE), row
			assert add.apply_async((1,), queue=MORE).get(timeout=60) == 2
		`)
		w.waitLog("Started consuming from " + more)
		p.run(`
			assert app.control.cancel_consumer(MORE, destination=[NODE], reply=True, timeout=60) == [{NODE: {"ok": "no longer consuming from " + MORE}}]
			assert order("cancel_consumer", queue="nobody-knows") == {"ok": "no longer consuming from nobody-knows"}
			wait(lambda: names() == [Q])
			held = [add.apply_async((k,), queue=MORE) for k in range(5)]
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			wait(lambda: ready(MORE) == 5)
			time.sleep(0.3)
			assert ready(MORE) == 5
			order("cancel_consumer", queue=Q)
			wait(lambda: names() == [])
			assert i.active_queues()[NODE] == []
			last = add.apply_async((1,), queue=Q)
			wait(lambda: ready(Q) == 1)
			time.sleep(0.3)
			assert ready(Q) == 1 and not last.ready()
			order("add_consumer", queue=MORE)
			assert [r.get(timeout=60) for r in held] == [1, 2, 3, 4, 5]
			order("add_consumer", queue=Q)
			assert last.get(timeout=60) == 2
		`)
		w.waitLog("Canceling queue " + more)
		w.stop()
		p.run(`forget(Q, MORE)`)
	})
}

// TestAddConsumerWithOptions: exchange, type and key are those of the order.
func TestAddConsumerWithOptions(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		queue, more := unique("base"), unique("topic")
		w := s.stalk(t, queue)
		p := s.orders(t, w, queue)
		p.args["MORE"] = more
		p.run(`
			assert app.control.add_consumer(MORE, exchange=MORE + "-x", exchange_type="topic", routing_key="a.#", options={"max_priority": 5},
				destination=[NODE], reply=True, timeout=60) == [{NODE: {"ok": "add consumer " + MORE}}]
			wait(lambda: len(i.active_queues()[NODE]) == 2)
			row = [q for q in i.active_queues()[NODE] if q["name"] == MORE][0]
			assert (row["exchange"]["name"], row["exchange"]["type"], row["routing_key"]) == (MORE + "-x", "topic", "a.#"), row
		`)
		if !celeryInstead {
			w.waitLog("Started consuming from " + more) // it is bound now
		}
		p.run(`
			assert add.apply_async((1,), exchange=MORE + "-x", exchange_type="topic", routing_key="a.b.c").get(timeout=60) == 2
			order("cancel_consumer", queue=MORE)
			forget(MORE)
			with app.connection() as c:
				c.default_channel.exchange_delete(MORE + "-x")
		`)
		w.stop()
	}, onRabbitMQ)
}

// TestQueuesThatTheBrokerRefuses: an error in the log; every other queue goes on being consumed.
func TestQueuesThatTheBrokerRefuses(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery loses its connection over such a queue")
		}
		queue := unique("steady")
		w := s.stalk(t, queue)
		p := s.orders(t, w, queue)
		p.args["BAD"] = unique("bad")
		p.run(`
			taken = app.connection()
			taken.default_channel.queue_declare(BAD + "-taken", exclusive=True)
			order("add_consumer", queue="amq." + BAD)                                                      # 403
			order("add_consumer", queue=BAD + "-arguments", queue_arguments={"x-max-priority": "many"})    # 406
			order("add_consumer", queue=BAD + "-exchange", exchange="amq." + BAD)                          # 403
			order("add_consumer", queue=BAD + "-taken")                                                    # 405
			assert "ValueError" in order("add_consumer", queue=BAD, exchange_type="magic")["error"]
			for k in range(20):
				assert add.apply_async((k,), queue=Q).get(timeout=60) == k + 1
				assert order("ping") == {"ok": "pong"}
			taken.release()
		`)
		if n := countLog(w, "Connection to broker lost"); n != 0 {
			t.Errorf("the connection broke %d times", n)
		}
		for _, why := range []string{"ACCESS_REFUSED", "PRECONDITION_FAILED", "RESOURCE_LOCKED"} {
			w.waitLog(why)
		}
		w.waitLog("ERROR/MainProcess] queue cannot be consumed yet; trying again")
		// An exchange type of a plugin that is not there ends the connection. It is given up after a few. RabbitMQ 4
		// merely refuses it.
		p.run(`order("add_consumer", queue=BAD + "-plugin", exchange_type="x-no-such-plugin")`)
		w.waitLogAny("it is given up", "PRECONDITION_FAILED - unknown exchange type")
		p.args["GONE"] = countLog(w, "PRECONDITION_FAILED - unknown exchange type") == 0
		p.run(`
			wait(lambda: add.apply_async((1,), queue=Q).get(timeout=60) == 2)
			queues = wait(app.control.inspect(destination=[NODE], timeout=5).active_queues)[NODE] # the mailbox comes back, too
			assert not GONE or not [q for q in queues if q["name"] == BAD + "-plugin"]
		`)
		if n := countLog(w, "Connection to broker lost"); n > 4 {
			t.Errorf("the connection broke %d times", n)
		}
		w.stop()
	}, onRabbitMQ)
}

// TestAnswersWhileEverySlotIsBusyAndTheStoreIsAway: order() fails when an answer takes ten seconds.
func TestAnswersWhileEverySlotIsBusyAndTheStoreIsAway(t *testing.T) {
	for name, broker := range map[string]func() setup{"redis": onRedis, "rabbitmq": onRabbitMQ} {
		t.Run(name, func(t *testing.T) {
			need(t)
			t.Parallel()
			if celeryInstead {
				t.Skip("Celery's worker waits for its result store")
			}
			store := testservers.Redis(t)
			s := broker()
			s.backend = store.URL
			queue := unique("busy")
			w := s.stalk(t, queue)
			p := s.orders(t, w, queue)
			p.run(`
				running = [sleep.apply_async((60,), queue=Q) for _ in range(2)]
				held = add.apply_async((1,), queue=Q, countdown=3600)
				wait(lambda: len(i.active()[NODE]) == 2)
			`)
			if err := store.Stop(); err != nil {
				t.Fatal(err)
			}
			p.run(`
				for _ in range(3):
					for name in ("ping", "active", "reserved", "scheduled", "registered", "revoked", "stats", "conf", "active_queues", "clock", "report", "memsample"):
						order(name)
					order("revoke", task_id=["a%d" % k for k in range(50)])
				assert order("revoke", task_id=running[0].id, terminate=True) == {"ok": "terminate: " + running[0].id}
				wait(lambda: len(i.active()[NODE]) <= 2) # told as soon as the store is back
				order("pool_grow")
				order("add_consumer", queue=Q + "-more")
				order("cancel_consumer", queue=Q + "-more")
				order("ping")
			`)
			if err := store.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.run(`
				wait(lambda: [AsyncResult(x).state for x in ("a0", "a49", running[0].id)] == ["REVOKED"] * 3, 40)
				order("revoke", task_id=running[1].id, terminate=True)
				forget(Q + "-more")
			`)
			w.stop()
			p.run(`forget(Q)`)
		})
	}
}

// napping is how long a task sleeps that is ended once it has been seen; Celery's worker does not end one as well.
func napping() map[string]any {
	return map[string]any{"NAP": map[bool]int{false: 600, true: 10}[celeryInstead]}
}

func TestPoolByRemote(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("pool")
		w := s.stalk(t, queue)
		p := s.orders(t, w, queue)
		p.run(`
			def parallel(n, slots):
				"Of n tasks as many run at a time as there are slots, and no more."
				sent = [sleep.apply_async((NAP,), queue=Q) for _ in range(n)]
				wait(lambda: len(i.active()[NODE]) == slots)
				time.sleep(0.3)
				assert len(i.active()[NODE]) == slots, i.active()
				if NAP > 10:
					app.control.revoke([r.id for r in sent], terminate=True, destination=[NODE])
				else: # Python's pool may hang when it shrinks right after processes of it were ended
					assert [r.get(timeout=60) for r in sent] == [NAP] * n
				wait(lambda: i.active()[NODE] == [])
			def pool():
				stats = i.stats()[NODE]
				return len(stats["pool"]["processes"]), stats["prefetch_count"]
			assert pool() == (2, 8), pool()
			parallel(5, 2)
			assert app.control.pool_grow(3, destination=[NODE], reply=True, timeout=60) == [{NODE: {"ok": "pool will grow"}}]
			wait(lambda: pool()[0] == 5)
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2 # with which Celery's prefetch follows
			assert pool() == (5, 20), pool()
			parallel(8, 5)
			assert app.control.pool_shrink(4, destination=[NODE], reply=True, timeout=60) == [{NODE: {"ok": "pool will shrink"}}]
			wait(lambda: pool()[0] == 1)
			parallel(3, 1)
			running = sleep.apply_async((NAP,), queue=Q)
			wait(lambda: len(i.active()[NODE]) == 1)
			assert order("pool_shrink") == {"error": 'ValueError("Can\'t shrink pool. All processes busy!")'}
			assert order("pool_restart") == {"error": "ValueError('Pool restarts not enabled')"}
			assert order("autoscale", max=3) == {"error": "ValueError('Autoscale not enabled')"}
			running.revoke(terminate=True)
		`, napping())
		w.stop()
	})
}

func TestAutoscaleByRemote(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("scale")
		w := s.withEnv("AUTOSCALE_KEEPALIVE=2").stalk(t, queue, "--autoscale", "4,1")
		p := s.orders(t, w, queue)
		p.run(`
			scaler = lambda: i.stats()[NODE]["autoscaler"]
			assert scaler() == {"max": 4, "min": 1, "current": 1, "qty": 0}, scaler()
			assert i.stats()[NODE]["prefetch_count"] == 16
			sent = [sleep.apply_async((NAP,), queue=Q) for _ in range(6)]
			wait(lambda: len(i.active()[NODE]) == 4)
			assert scaler()["current"] == 4
			if NAP > 10:
				app.control.revoke([r.id for r in sent], terminate=True, destination=[NODE])
			else:
				assert [r.get(timeout=60) for r in sent] == [NAP] * 6
			wait(lambda: scaler() == {"max": 4, "min": 1, "current": 1, "qty": 0})
			assert order("autoscale", max=6, min=2) == {"ok": "autoscale now max=6 min=2"}
			wait(lambda: scaler() == {"max": 6, "min": 2, "current": 2, "qty": 0})
			assert order("pool_grow") == {"error": "pool_grow is not supported with autoscale. Adjust autoscale range instead."}
		`, napping())
		w.waitLog("Scaling up 1 processes.")
		w.waitLog("Scaling down")
		w.stop()
	})
}

// TestTerminateByRemote: the task ends at once, its caller is told, the worker goes on.
func TestTerminateByRemote(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("terminate")
		w := s.stalk(t, queue, "-E")
		p := s.orders(t, w, queue)
		p.run(`
			import threading
			seen, connection, listening = {}, app.connection(), threading.Event()
			watcher = app.events.Receiver(connection, handlers={"task-revoked": lambda e: seen.setdefault(e["uuid"], e)})
			def capture():
				it = watcher.itercapture(wakeup=False)
				next(it)
				listening.set()
				for _ in it: pass
			threading.Thread(target=capture, daemon=True).start()
			assert listening.wait(60)
			sent = [sleep.apply_async((600,), queue=Q) for _ in range(2)]
			wait(lambda: len(i.active()[NODE]) == 2)
			app.control.revoke(sent[0].id, terminate=True, destination=[NODE])
			raises("TaskRevokedError", "terminated", sent[0].get, timeout=60)
			assert sent[0].state == "REVOKED"
			assert app.control.terminate(sent[1].id, signal="SIGKILL", destination=[NODE], reply=True, timeout=60) == [{NODE: {"ok": "terminate: " + sent[1].id}}]
			raises("TaskRevokedError", "terminated", sent[1].get, timeout=60)
			wait(lambda: i.active()[NODE] == [])
			wait(lambda: all(r.id in seen for r in sent))
			watcher.should_stop = True
			assert [(seen[r.id]["terminated"], seen[r.id]["signum"], seen[r.id]["expired"]) for r in sent] == [(True, 15, False), (True, 9, False)], seen
			assert {r.id for r in sent} <= set(i.revoked()[NODE]) # which has those of its neighbours, too
			assert order("revoke", task_id="none", terminate=True) == {"ok": "terminate: tasks unknown"}
			assert order("revoke", task_id="none", terminate=True, signal="BOGUS") == {"error": "AttributeError(\"module 'signal' has no attribute 'SIGBOGUS'\")"}
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
		`)
		w.waitLog("Terminating ")
		w.stop()
	})
}

func TestTerminateByStampedHeaders(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("stamps")
		w := s.stalk(t, queue)
		p := s.orders(t, w, queue)
		p.run(`
			stamped = sleep.apply_async((600,), queue=Q, stamped_headers=["mk"], mk="7")
			other = sleep.apply_async((4,), queue=Q, stamped_headers=["mk"], mk="8")
			wait(lambda: stamped.id in [r["id"] for r in i.active()[NODE]])
			assert order("revoke_by_stamped_headers", headers={"mk": ["9"]}, terminate=True) == {"ok": "headers {'mk': ['9']} were not terminated"}
			assert order("revoke_by_stamped_headers", headers=["mk=7"], terminate=True, signal="KILL") == {"ok": "headers defaultdict(<class 'set'>, {'mk': {'7'}}) revoked"}
			raises("TaskRevokedError", "terminated", stamped.get, timeout=60)
			assert other.get(timeout=60) == 4
		`)
		w.stop()
	})
}

// TestTerminateEndsAChord: a member that is terminated fails its chord, and whoever waits for the body is told.
func TestTerminateEndsAChord(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery leaves the body of such a chord pending")
		}
		queue := unique("chord")
		w := s.stalk(t, queue)
		p := s.orders(t, w, queue)
		p.run(`
			from celery import chord
			long = sleep.s(600).set(queue=Q)
			body = chord([add.s(1).set(queue=Q), long])(echo.s().set(queue=Q))
			row, = wait(lambda: [r for r in i.active()[NODE] if r["name"] == "demo.sleep"])
			order("revoke", task_id=row["id"], terminate=True)
			raises("ChordError", None, AsyncResult(body.id).get, timeout=60)
		`)
		w.stop()
	})
}

func TestShutdownByRemote(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("shutdown")
		w := s.stalk(t, queue)
		p := s.orders(t, w, queue)
		p.run(`
			r = sleep.apply_async((2,), queue=Q)
			wait(lambda: i.active()[NODE] or r.ready())
			app.control.shutdown(destination=[NODE])
			assert r.get(timeout=60) == 2
		`)
		if code := w.wait(90 * time.Second); code != 0 {
			t.Errorf("ended with %d", code)
		}
		w.waitLog("Got shutdown from remote")
	})
}

func TestReadOnlyByRemote(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery has no such switch")
		}
		queue := unique("readonly")
		w := s.stalk(t, queue, "--remote-control", "read-only")
		p := s.orders(t, w, queue)
		p.run(`
			r = sleep.apply_async((3,), queue=Q)
			wait(lambda: i.active()[NODE] or r.ready())
			for name, args in {"shutdown": {}, "revoke": {"task_id": r.id, "terminate": True}, "pool_grow": {}, "cancel_consumer": {"queue": Q}, "enable_events": {}}.items():
				got = order(name, **args)
				assert got == {"error": "PermissionError('remote control of %s is read-only: %s is refused')" % (NODE, name)}, got
			assert r.get(timeout=60) == 3
			assert i.ping() == {NODE: {"ok": "pong"}}
			assert len(i.stats()[NODE]["pool"]["processes"]) == 2 and r.id not in i.revoked()[NODE]
		`)
		w.stop()
	})
}

// TestConfWithDefaultsIsCelerys: every setting that a Python node tells with its defaults, ours tells, too.
func TestConfWithDefaultsIsCelerys(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		since(t, 6, "the settings of databases are shown")
		queue, other := unique("conf"), unique("conf")
		ours, theirs := s.stalk(t, queue), s.celery(t, other)
		p := s.python(t, queue)
		p.run(fmt.Sprintf(`
			i = app.control.inspect(timeout=60, destination=["%s@test", "%s@test"], limit=2)
			tell = i.conf(with_defaults=True)
			ours, theirs = tell["%s@test"], tell["%s@test"]
			from celery.app.defaults import DEFAULTS
			missing = [k for k in theirs if k not in ours and k in DEFAULTS]
			assert not missing, missing
			types = {k: (type(v), type(ours[k])) for k, v in theirs.items() if k in ours and v is not None and ours[k] is not None and type(v) != type(ours[k])}
			assert not types, types
			assert theirs["task_publish_retry_policy"] == ours["task_publish_retry_policy"]
		`, ours.name, theirs.name, ours.name, theirs.name))
		if text := string(ours.output()); strings.Contains(text, "panic") {
			t.Error(text)
		}
		ours.stop()
	}, onRedis)
}
