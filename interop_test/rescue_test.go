package interop_test

import (
	"encoding/json"
	"testing"
)

// Nobody's message is lost when a worker is killed: whoever is left takes it over, in either language.

func TestAPythonWorkerRescuesWhatAKilledStalkHeld(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		s = s.rescuing()
		queue := unique("rescue")
		p := s.python(t, queue)
		p.run(`sent = [sleep.apply_async((2,), queue=Q) for i in range(6)] + [add.apply_async((5,), queue=Q, countdown=4)]`)
		w := s.stalk(t, queue)
		w.waitLogs("received", 2)
		w.kill()
		if s.name == "redis" {
			// Kombu before 5.7 looks for overdue messages when it starts and then after 100 seconds.
			p.run(`
				client = app.backend.client
				def overdue(tag):
				    return (client.zscore("unacked_index", tag) or 0) < time.time() - 3
				wait(lambda: all(overdue(tag) for tag, message in client.hgetall("unacked").items() if Q.encode() in message))
			`)
		}
		s.celery(t, queue, "-P", "threads", "-c", "6")
		p.run(`assert [r.get(timeout=60) for r in sent] == [2] * 6 + [6]`)
	})
}

func TestStalkRescuesWhatAKilledPythonWorkerHeld(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		s = s.rescuing()
		queue := unique("rescue")
		p := s.python(t, queue)
		p.run(`sent = [sleep.apply_async((2,), queue=Q) for i in range(4)] + [add.apply_async((5,), queue=Q, countdown=4)]`)
		w := s.celery(t, queue, "-P", "threads", "-c", "2")
		w.waitLogs("received", 5) // all: what Kombu has popped and not yet noted dies with it
		w.kill()
		s.stalk(t, queue)
		p.run(`assert [r.get(timeout=60) for r in sent] == [2] * 4 + [6]`)
	})
}

func TestKilledWhileItWorksEveryResultStillArrives(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		s = s.rescuing()
		queue := unique("kill")
		p := s.python(t, queue)
		p.run(`
			sent = [sleep.apply_async((0.2,), queue=Q) for i in range(24)]
			sent += [add.apply_async((i,), queue=Q) for i in range(100)]
			sent += [retry.apply_async((1,), queue=Q) for i in range(10)]
		`)
		for i := range 3 {
			w := s.stalk(t, queue)
			w.waitLogs("succeeded in", 2+i)
			w.kill()
		}
		s.stalk(t, queue)
		p.run(`assert [r.get(timeout=60) for r in sent] == [0.2] * 24 + list(range(1, 101)) + [1] * 10`)
	})
}

func TestBothWorkersShareOneQueueAndEachTaskRunsOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		s = s.with("result_extended", true)
		queue := unique("share")
		s.stalk(t, queue)
		s.celery(t, queue, "-P", "threads", "-c", "2")
		raw := s.python(t, queue).run(`
			value = []
			for _ in range(10): # on a busy machine one of them may be too late for all
			    sent = [echo.apply_async((i,), queue=Q) for i in range(300)]
			    assert [r.get(timeout=60)["args"][0] for r in sent] == list(range(300))
			    value = sorted({r.worker.split("-")[0] for r in sent} | set(value))
			    if len(value) == 2:
			        break
		`)
		var by []string
		if err := json.Unmarshal(raw, &by); err != nil {
			t.Fatal(err)
		}
		if len(by) != 2 || by[0] != "celery" || by[1] != "stalk" {
			t.Errorf("the work was done by %v, want both", by)
		}
	})
}
