package interop_test

import (
	"bytes"
	"testing"
)

func countLog(w *worker, text string) int { return bytes.Count(w.output(), []byte(text)) }

func TestDelayAndGetWaitingBeforeAndAfterTheWorkerStarts(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("wait")
		p := s.python(t, queue)
		p.run(`before = [add.apply_async((i, 1), queue=Q) for i in range(5)]`)
		waiting := p.start(`value = [r.get(timeout=60) for r in before]`)
		s.stalk(t, queue)
		if a := <-waiting; a.Error != "" || string(a.Value) != "[1, 2, 3, 4, 5]" {
			t.Errorf("sent and waited for before the worker started: %s%s", a.Value, a.Error)
		}
		p.run(`
			r = add.apply_async((1.5,), {"y": 2}, queue=Q)
			assert r.get(timeout=60) == 3.5
			assert r.state == "SUCCESS" and r.successful() and r.ready()
		`)
	})
}

func TestAResultIsReadByAnotherProcessByItsID(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("byid")
		s.stalk(t, queue)
		p := s.python(t, queue)
		p.run(`
			r = echo.apply_async((1,), {"k": "v"}, queue=Q, task_id="own id " + Q)
			r.get(timeout=60)
		`)
		p.run(`
			r = AsyncResult("own id " + Q)
			assert r.state == "SUCCESS" and r.result == {"args": [1], "kwargs": {"k": "v"}}, (r.state, r.result)
			assert isinstance(r.date_done, datetime.datetime), r.date_done
			assert abs((datetime.datetime.now(datetime.timezone.utc) - r.date_done).total_seconds()) < 60, r.date_done
			r.forget()
			assert r.state == "PENDING"
		`)
	})
}

func TestFailuresAreRaisedAsTheirOwnClasses(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("fail")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			# Celery raises a builtin exception as itself: except clauses go on working.
			for kind in (ValueError, TypeError, KeyError, ZeroDivisionError, RuntimeError, OSError, FileNotFoundError, LookupError):
			    r = fail.apply_async(("grüße %s", kind.__name__), queue=Q)
			    raises(kind, str(kind("grüße %s")), r.get, timeout=60)
			    assert r.state == "FAILURE" and r.failed()
			    assert "Traceback" in r.traceback and kind.__name__ in r.traceback, r.traceback
			r = fail.apply_async(queue=Q)
			raises(ValueError, "boom", r.get, timeout=60)
			assert r.get(propagate=False).args == ("boom",)
		`)
	})
}

func TestArgumentsThatDoNotFitRaiseTypeErrorInPythonsWords(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("typeerror")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			def real(name, args, kwargs):
			    "What the Python one-liner of that task raises."
			    space = {}
			    exec("def add(x, y=1): pass\ndef sleep(seconds=1): pass\ndef progress(steps=5, seconds=0.1): pass\n", space)
			    try:
			        space[name](*args, **kwargs)
			    except TypeError as exc:
			        return str(exc)
			for name, args, kwargs in [
			    ("add", (), {}), ("add", (1, 2, 3), {}), ("add", (1,), {"x": 2}), ("add", (1,), {"z": 2}),
			    ("add", (), {"y": 2}), ("sleep", (1, 2), {}), ("progress", (1, 2, 3, 4), {}),
			]:
			    r = app.send_task("demo." + name, args, kwargs, queue=Q)
			    raises(TypeError, real(name, args, kwargs), r.get, timeout=60)
		`)
	})
}

func TestAnUnknownTaskIsToldToItsCaller(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("unknown")
		w := s.stalk(t, queue)
		s.python(t, queue).run(`
			r = app.send_task("demo.nobody", (1,), queue=Q)
			raises("NotRegistered", "'demo.nobody'", r.get, timeout=60)
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
		`)
		w.waitLog("demo.nobody")
	})
}

func TestExtendedResultsAndTrackedStarts(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		s = s.with("result_extended", true).with("task_track_started", true)
		queue := unique("extended")
		w := s.stalk(t, queue)
		s.python(t, queue).run(`
			seen = []
			r = sleep.apply_async((1,), queue=Q)
			assert r.get(timeout=60, on_message=lambda m: seen.append((m["status"], m["result"]))) == 1
			started = dict(seen)["STARTED"]
			assert started["hostname"] == hostname and isinstance(started["pid"], int), started
			assert (r.name, r.args, r.kwargs, r.worker, r.retries, r.queue) == ("demo.sleep", [1], {}, hostname, 0, Q), \
			    (r.name, r.args, r.kwargs, r.worker, r.retries, r.queue)
			r = retry.apply_async((), {"times": 1}, queue=Q)
			assert r.get(timeout=60) == 1
			assert (r.args, r.kwargs, r.retries) == ([], {"times": 1}, 1), (r.args, r.kwargs, r.retries)
		`, map[string]any{"hostname": w.name + "@test"})
	})
}

func TestIgnoredResultsAreNotStored(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("ignore")
		w := s.stalk(t, queue)
		p := s.python(t, queue)
		p.run(`
			ignored = [add.apply_async((1,), queue=Q, ignore_result=True).id, fail.apply_async(queue=Q, ignore_result=True).id]
		`)
		w.waitLog("succeeded in")
		w.waitLog("raised unexpected: ValueError('boom')")
		p.run(`
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			client = app.backend.client
			assert [client.get("celery-task-meta-" + i) for i in ignored] == [None, None]
			# An unknown task is told even so.
			r = app.send_task("demo.nobody", queue=Q, ignore_result=True)
			wait(lambda: client.get("celery-task-meta-" + r.id))
		`)
	})
}

func TestProgressIsSeenWhileTheTaskRuns(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("progress")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			seen = []
			r = progress.apply_async((4, 0.3), queue=Q)
			assert r.get(timeout=60, on_message=lambda m: seen.append((m["status"], m["result"]))) == 4
			done = [m["done"] for status, m in seen if status == "PROGRESS"]
			assert done and done == sorted(done) and set(done) <= {0, 1, 2, 3}, seen
			assert all(m["total"] == 4 for status, m in seen if status == "PROGRESS"), seen
		`)
	})
}

func TestPrefixesOfBrokerAndBackend(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		type prefix struct{ name, python, stalk, used string }
		behind := prefix{"and none behind a separator", "post:", "post:", "post:"}
		if !celeryHas(t, 5) {
			behind = prefix{"Celery 5.3 and 5.4 set it behind a separator too", "post:", "post:_", "post:_"}
		}
		for _, tt := range []prefix{{"an underscore is set behind a word", "post", "post", "post_"}, behind} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				const name = "result_backend_transport_options"
				s := s.with("broker_transport_options", map[string]any{"global_keyprefix": "pre{}:"}).
					with(name, map[string]any{"global_keyprefix": tt.stalk}).withClient(name, map[string]any{"global_keyprefix": tt.python})
				queue := unique("prefix")
				p := s.python(t, queue)
				if theirs := p.strings(`value = [app.backend.task_keyprefix.decode()]`)[0]; theirs != tt.used+"celery-task-meta-" {
					t.Fatalf("this Celery uses %q", theirs)
				}
				p.args["used"] = tt.used
				p.run(`
					first = echo.apply_async((1,), queue=Q)
					client = app.backend.client
					assert client.llen("pre{}:" + Q) == 1 and not client.exists(Q)
				`)
				s.stalk(t, queue)
				p.run(`
					assert first.get(timeout=60)["args"] == [1]
					keys = [k.decode() for k in client.keys("*" + first.id)]
					assert keys == [used + "celery-task-meta-" + first.id], keys
					assert retry.apply_async((1,), queue=Q).get(timeout=60) == 1
					assert client.smembers("pre{}:_kombu.binding." + Q) == client.smembers("pre{}:_kombu.binding_permanent." + Q) != set()
					assert not client.exists("_kombu.binding." + Q) and not client.exists(Q)
					wait(lambda: client.hlen("pre{}:unacked") == 0)
				`)
			})
		}
	}, onRedis)
}
