package interop_test

import "testing"

func TestRetriesUntilItSucceeds(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("retry")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			results = [retry.apply_async((n,), queue=Q) for n in range(6)]
			assert [r.get(timeout=60) for r in results] == list(range(6))
			# Twenty times: RETRY must never be stored over the SUCCESS of the run it caused.
			results = [retry.apply_async((1,), queue=Q) for i in range(20)]
			assert [r.get(timeout=60) for r in results] == [1] * 20
			assert [r.state for r in results] == ["SUCCESS"] * 20
		`)
	})
}

func TestARetryLaterWaitsAndIsSeen(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("retrylater")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			began, seen = time.monotonic(), []
			r = retry.apply_async((1, 3), queue=Q)
			assert r.get(timeout=60, on_message=lambda m: seen.append(m["status"])) == 1
			assert "RETRY" in seen, seen
			took = time.monotonic() - began
			assert 2.9 <= took, took
		`)
	})
}

func TestCountdownAndETA(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("eta")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			now = datetime.datetime.now(datetime.timezone.utc)
			began = time.monotonic()
			berlin = datetime.timezone(datetime.timedelta(hours=1))
			waiting = [
			    add.apply_async((1,), queue=Q, countdown=5),
			    add.apply_async((2,), queue=Q, eta=now + datetime.timedelta(seconds=5)),
			    add.apply_async((3,), queue=Q, eta=(now + datetime.timedelta(seconds=5)).astimezone(berlin)),
			]
			past = add.apply_async((4,), queue=Q, eta=now - datetime.timedelta(days=1))
			assert past.get(timeout=60) == 5
			# More than the slots wait, and nothing behind them starves.
			more = [add.apply_async((i,), queue=Q, countdown=5) for i in range(10)]
			quick = add.apply_async((5,), queue=Q)
			assert quick.get(timeout=60) == 6
			assert [r.get(timeout=60) for r in waiting] == [2, 3, 4]
			assert time.monotonic() - began >= 4.9, time.monotonic() - began
			assert [r.get(timeout=60) for r in more] == list(range(1, 11))
			assert quick.date_done < min(r.date_done for r in more), "a task without a time waited for those with one"
		`)
	})
}

func TestWhatHasExpiredIsRevoked(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("expire")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			r = add.apply_async((1,), queue=Q, countdown=6, expires=5) # what expires in the queue RabbitMQ drops
			kept = add.apply_async((1,), queue=Q, countdown=1, expires=60)
			exc = raises(TaskRevokedError, "expired", r.get, timeout=60)
			assert r.state == "REVOKED"
			assert kept.get(timeout=60) == 2
		`)
	})
}

func TestSoftAndHardLimits(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("limits")
		s.shop(t, queue, "-c", "1")
		s.python(t, queue).run(`
			from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
			soft = sleep.apply_async((600,), queue=Q, soft_time_limit=1)
			hard = count.apply_async((4,), queue=Q, time_limit=1)
			part = burn.apply_async((4,), queue=Q, time_limit=1.5)
			exc = raises(SoftTimeLimitExceeded, "SoftTimeLimitExceeded()", soft.get, timeout=60)
			assert exc.args == (), exc.args
			exc = raises(TimeLimitExceeded, "TimeLimitExceeded(1,)", hard.get, timeout=60)
			assert exc.args == (1,) and type(exc.args[0]) is int, exc.args
			exc = raises(TimeLimitExceeded, "TimeLimitExceeded(1.5,)", part.get, timeout=60)
			assert exc.args == (1.5,), exc.args
			assert "SoftTimeLimitExceeded" in soft.traceback, soft.traceback
			# There is one slot: the tasks that did not stop have ended when this one runs, and left no SUCCESS.
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			assert [r.state for r in (soft, hard, part)] == ["FAILURE"] * 3
		`)
	})
}

func TestPriorities(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if s.name == "rabbitmq" { // Celery's worker declares the queue itself and must name the same maximum
			s = s.with("task_queue_max_priority", 10)
		}
		queue := unique("priority")
		p := s.python(t, queue)
		p.run(`
			sent = {}
			for n, priority in enumerate([0, 9, 3, 6, 9, 0, 6, 3]):
			    sent[echo.apply_async((n,), queue=Q, priority=priority)] = priority
		`)
		s.stalk(t, queue, "-c", "1")
		p.run(`
			for r in sent:
			    r.get(timeout=60)
			# All were there before the worker: with RabbitMQ the highest number is first, with Redis the lowest.
			order = [sent[r] for r in sorted(sent, key=lambda r: r.date_done)]
			assert order == sorted(order, reverse=app.conf.broker_url.startswith("amqp")), order
		`)
	})
}
