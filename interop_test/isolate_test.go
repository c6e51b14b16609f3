package interop_test

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// boxed runs the tasks of shop.box on one worker and returns what a client sees of each: state, exception, traceback, the
// kinds of its events. What differs by nature, such as ids and the number of a job, is left out.
const boxed = `
	import celery, os, re, tempfile
	def plain(text):
	    return re.sub(r"Job: \d+\.", "Job: N.", text)
	def seen(r, told=True):
	    try:
	        outcome = ["returned", r.get(timeout=60)]
	    except Exception as exc:
	        outcome = [type(exc).__module__ + "." + type(exc).__name__, plain(repr(exc.args))]
	    meta = r._get_task_meta()
	    out = [r.state, *outcome, bool(meta.get("traceback"))]
	    if told:
	        ended(r.id, "task-succeeded", "task-failed", "task-revoked")
	        out.append(sorted(kinds(r.id))) # Celery mixes the order of retries
	    return out
	def told(r, kind):
	    return [plain(e["exception"]) for e in EVENTS[r.id] if e["type"] == kind]
	def pid_of(r):
	    return wait(lambda: r.state == "PROGRESS" and r.info, 40)
	def gone(pid):
	    try:
	        with open("/proc/%d/stat" % pid) as f:
	            return f.read().rpartition(")")[2].split()[0] == "Z"
	    except OSError:
	        return True
	def first(name):
	    return os.path.join(tempfile.mkdtemp(), name)
	def situations(Q):
	    out = {}
	    for how in ("exit", "kill", "progress", "retry"):
	        out[how] = seen(box.apply_async((how,), queue=Q))
	    r = box.apply_async(("exit",), queue=Q)
	    seen(r)
	    out["told"] = told(r, "task-failed")
	    out["hard"] = seen(box.apply_async(("deaf",), queue=Q, time_limit=1), told=False) # Celery up to 5.6 sends no event of its end
	    out["soft"] = seen(box.apply_async(("soft",), queue=Q, time_limit=40, soft_time_limit=1))
	    r = box.apply_async(("spawn",), queue=Q)
	    out["spawn"] = AsyncResult(r.get(timeout=60)).get(timeout=60)
	    out["children"] = [c.id for c in r.children] == [r.get()]
	    for sig in ("SIGTERM", "SIGKILL"):
	        r = box.apply_async(("deaf",), queue=Q)
	        pid = pid_of(r)
	        app.control.revoke(r.id, terminate=True, signal=sig)
	        out[sig] = seen(r)
	        if celery.VERSION < (5, 7) and out[sig][2] == "('revoked',)": # the order, too, stores an end, of which either may be the last
	            out[sig][2] = "('terminated',)"
	        wait(lambda: gone(pid), 40)
	        assert box.apply_async(("next",), queue=Q).get(timeout=60) == "next" # in the same slot
	    out["requeued"] = seen(box_requeued.apply_async(("exit", first("requeued")), queue=Q))[:3]
	    if celery.VERSION >= (5, 7):
	        out["retried"] = seen(box_retried.apply_async(("exit", first("retried")), queue=Q))
	        r = box_retried.apply_async(("exit",), queue=Q)
	        out["exhausted"] = seen(r)
	        out["told again"] = told(r, "task-retried")
	        # Before, the arguments that an errback has of its own were not counted: add was called in the worker's main process, with
	        # the request, the error, its traceback and 1, and its TypeError swallowed the event.
	        link = box.apply_async(("exit",), queue=Q, link_error=add.s(1).set(queue=Q, task_id="errback-" + r.id))
	        seen(link)
	        try:
	            AsyncResult("errback-" + r.id).get(timeout=60)
	        except TypeError as exc: # the id of the failed task and 1
	            out["errback"] = True
	    c = group(box.s("exit").set(queue=Q), add.s(1).set(queue=Q))
	    body = (c | echo.s().set(queue=Q)).apply_async()
	    try:
	        AsyncResult(body.id).get(timeout=60) # not body's: that raises its parents' errors
	    except ChordError as exc:
	        out["chord"] = re.sub("[0-9a-f-]{36}", "ID", plain(str(exc)))
	    return out
`

// TestIsolatedTasksEndAsInAPreforkPool: what a client sees of a process that is lost is what it sees of Celery's own worker.
func TestIsolatedTasksEndAsInAPreforkPool(t *testing.T) {
	if celeryInstead {
		t.Skip("it compares both workers")
	}
	onBoth(t, func(t *testing.T, s setup) {
		ours, theirs := unique("box"), unique("box")
		s = s.apart(t)
		p := s.python(t, ours)
		p.run(listening)
		p.run(boxed)
		p.args["ours"], p.args["theirs"] = ours, theirs
		s.shop(t, ours, "-c", "1", "-E")
		s.celery(t, theirs, "-P", "prefork", "-c", "1", "-E")
		p.runFor(4*time.Minute, `
			got, want = situations(ours), situations(theirs)
			assert not ERRORS, ERRORS
			# The exception of Celery's event is billiard's wrapper, ExceptionWithTraceback(), in which nobody sees what it was.
			want.pop("told")
			assert got.pop("told") == ["WorkerLostError('Worker exited prematurely: exitcode 3 Job: N.')"], got
			differ = ["%s:\n  Stalk  %r\n  Celery %r" % (k, got.get(k), want.get(k)) for k in got | want if got.get(k) != want.get(k)]
			assert not differ, "\n".join(differ)
			assert want["exit"][1] == "billiard.exceptions.WorkerLostError", want
			stop.set()
		`)
	})
}

// TestWhatGoWouldDieOfIsContained: fatal errors of Go's runtime, and memory without end.
func TestWhatGoWouldDieOfIsContained(t *testing.T) {
	if celeryInstead {
		t.Skip("Go's own ways to die")
	}
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("box")
		w := s.shop(t, queue, "-c", "1")
		p := s.python(t, queue)
		p.run(boxed)
		p.run(`
			def lost(how):
			    try:
			        box.apply_async((how,), queue=Q).get(timeout=60)
			    except Exception as exc:
			        assert type(exc).__name__ == "WorkerLostError", repr(exc)
			        return plain(str(exc))
			assert lost("map") in ("Worker exited prematurely: exitcode 2 Job: N.", "Worker exited prematurely: exitcode 66 Job: N."), lost("map") # the race detector's
			text = lost("memory")
			assert text.startswith("Worker exited prematurely: signal 9 (SIGKILL) Job: N. It used ") and text.endswith("more than its cap of 400 MiB."), text
			assert box.apply_async(("fine",), queue=Q).get(timeout=60) == "fine"
		`)
		w.race = false // that one was meant
		w.stop()
	})
}

// TestAKilledWorkerLeavesNoChild: with the worker its children end, and the task runs elsewhere.
func TestAKilledWorkerLeavesNoChild(t *testing.T) {
	if celeryInstead {
		t.Skip("Celery's children outlive it")
	}
	onBoth(t, func(t *testing.T, s setup) {
		s = s.rescuing()
		queue := unique("box")
		w := s.shop(t, queue, "-c", "1")
		p := s.python(t, queue)
		p.run(boxed)
		p.run(`
			r = box.apply_async(("deaf",), queue=Q)
			pid = pid_of(r)
			assert not gone(pid)
			slots = app.control.inspect([W + "@test"], timeout=60).stats()[W + "@test"]["pool"]["processes"]
			running = app.control.inspect([W + "@test"], timeout=60).active()[W + "@test"]
			assert slots == [pid], (slots, pid)
			assert [t["worker_pid"] for t in running] == [pid], running
		`, map[string]any{"W": w.name})
		if err := syscall.Kill(w.cmd.Process.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-w.done
		p.run(`wait(lambda: gone(pid), 40)`)
		other := s.shop(t, queue, "-c", "1")
		p.run(`
			again = wait(lambda: r.info != pid and r.info, 60)
			app.control.revoke(r.id, terminate=True, signal="SIGKILL")
			try:
			    r.get(timeout=60)
			except TaskRevokedError as exc:
			    assert str(exc) == "terminated", exc
			wait(lambda: gone(again), 40)
		`)
		other.stop()
	})
}

// TestAWarmShutdownWaitsForChildren: what a service manager sends to all processes of the service ends none of them.
func TestAWarmShutdownWaitsForChildren(t *testing.T) {
	if celeryInstead {
		t.Skip("the signals of Celery's children are its own")
	}
	need(t)
	t.Parallel()
	s := onRedis()
	queue := unique("box")
	w := s.shop(t, queue, "-c", "1")
	p := s.python(t, queue)
	p.run(boxed)
	p.run(`
		r = box.apply_async(("nap",), queue=Q)
		pids = [pid_of(r)]
	`)
	var pids []int
	p.value(`value = pids`, &pids)
	for _, pid := range append(pids, w.cmd.Process.Pid) {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	if code := w.wait(60 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.run(`assert r.get(timeout=60) == "nap"`)
	if log := string(w.output()); strings.Contains(log, "exited with") {
		t.Errorf("a child has ended on its own:\n%s", log)
	}
}
