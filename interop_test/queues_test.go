package interop_test

import "testing"

func TestQuorumQueuesDeclaredByPython(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		since(t, 7, "task_create_missing_queue_type")
		s = s.with("task_create_missing_queue_type", "quorum").rescuing()
		queue := unique("quorum")
		p := s.python(t, queue)
		p.run(`sent = [sleep.apply_async((0.1,), queue=Q) for i in range(20)] + [retry.apply_async((1,), queue=Q), add.apply_async((1,), queue=Q, countdown=2)]`)
		w := s.stalk(t, queue)
		w.waitLogs("succeeded in", 4)
		w.kill()
		s.stalk(t, queue)
		p.run(`assert [r.get(timeout=60) for r in sent] == [0.1] * 20 + [1, 2]`)
	}, onRabbitMQ)
}

func TestSeveralQueuesOfOneWorker(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		first, second := unique("first"), unique("second")
		s.stalk(t, first+","+second)
		s.python(t, first).run(`
			sent = [add.apply_async((i,), queue=q) for i in range(50) for q in (Q, other)]
			assert [r.get(timeout=60) for r in sent] == [i + 1 for i in range(50) for q in (Q, other)]
		`, map[string]any{"other": second})
	})
}

func TestATaskOfTheProjectServedByAStockHandler(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("alias")
		s.stalk(t, queue, "--alias", "shop.tasks.add=demo.add", "--serve", "shop.*")
		s.python(t, queue).run(`
			assert app.send_task("shop.tasks.add", (2,), {"y": 3}, queue=Q).get(timeout=60) == 5
			raises("NotRegistered", None, add.apply_async((1,), queue=Q).get, timeout=60)
		`)
	})
}

// The routes of the Django settings are all that sends a task to Go; Python's own stay in Python.
func TestRoutesOfTheProject(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		golang, own := unique("go"), unique("py")
		s = s.withClient("task_routes", map[string]any{"demo.*": map[string]any{"queue": golang}}).withClient("task_default_queue", own)
		s.stalk(t, golang)
		s.celery(t, own)
		s.python(t, golang).run(`
			assert add.delay(1, 2).get(timeout=60) == 3
			assert total.delay([1, 2, 3]).get(timeout=60) == 6
		`)
	})
}
