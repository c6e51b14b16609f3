package interop_test

import "testing"

func TestRetriesUntilItSucceeds(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("retry")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			results = [retry.apply_async((n,), queue=Q) for n in range(6)]
			assert [r.get(timeout=30) for r in results] == list(range(6))
			# Twenty times: RETRY must never be stored over the SUCCESS of the run it caused.
			results = [retry.apply_async((1,), queue=Q) for i in range(20)]
			assert [r.get(timeout=30) for r in results] == [1] * 20
			assert [r.state for r in results] == ["SUCCESS"] * 20
		`)
	})
}

func TestARetryLaterWaitsAndIsSeen(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("retrylater")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			began = time.monotonic()
			r = retry.apply_async((1, 2), queue=Q)
			wait(lambda: r.state == "RETRY")
			assert r.get(timeout=30) == 1
			took = time.monotonic() - began
			assert 1.9 <= took < 6, took
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
			    add.apply_async((1,), queue=Q, countdown=1.5),
			    add.apply_async((2,), queue=Q, eta=now + datetime.timedelta(seconds=1.5)),
			    add.apply_async((3,), queue=Q, eta=(now + datetime.timedelta(seconds=1.5)).astimezone(berlin)),
			]
			past = add.apply_async((4,), queue=Q, eta=now - datetime.timedelta(days=1))
			assert past.get(timeout=20) == 5
			# More than the slots wait, and nothing behind them starves.
			more = [add.apply_async((i,), queue=Q, countdown=1.5) for i in range(10)]
			quick = add.apply_async((5,), queue=Q)
			assert quick.get(timeout=20) == 6
			assert time.monotonic() - began < 1.4, "a task without a time waited for those with one"
			assert [r.get(timeout=20) for r in waiting] == [2, 3, 4]
			assert time.monotonic() - began >= 1.4, time.monotonic() - began
			assert [r.get(timeout=20) for r in more] == list(range(1, 11))
		`)
	})
}

func TestWhatHasExpiredIsRevoked(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("expire")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			r = add.apply_async((1,), queue=Q, countdown=2, expires=1)
			kept = add.apply_async((1,), queue=Q, countdown=1, expires=60)
			exc = raises(TaskRevokedError, "expired", r.get, timeout=30)
			assert r.state == "REVOKED"
			assert kept.get(timeout=20) == 2
		`)
	})
}

func TestSoftAndHardLimits(t *testing.T) {
	onAll(t, func(t *testing.T, s setup) {
		queue := unique("limits")
		s.stalk(t, queue)
		s.python(t, queue).run(`
			began = time.monotonic()
			soft = sleep.apply_async((30,), queue=Q, soft_time_limit=1)
			hard = burn.apply_async((3,), queue=Q, time_limit=1)
			raises("SoftTimeLimitExceeded", None, soft.get, timeout=20)
			raises("TimeLimitExceeded", None, hard.get, timeout=20)
			assert hard.get(propagate=False).args == (1,), hard.get(propagate=False).args
			assert time.monotonic() - began < 15
			assert add.apply_async((1,), queue=Q).get(timeout=20) == 2
			time.sleep(0.1)
			assert hard.state == "FAILURE"
		`)
	})
}

func TestPriorities(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("priority")
		p := s.python(t, queue)
		p.run(`
			from kombu import Queue
			amqp = app.conf.broker_url.startswith("amqp")
			if amqp:
			    q = Queue(Q, queue_arguments={"x-max-priority": 10})
			    app.amqp.queues.add(q)
			sent = {}
			for n, priority in enumerate([0, 9, 3, 6, 9, 0, 6, 3]):
			    sent[echo.apply_async((n,), queue=Q, priority=priority)] = priority
		`)
		s.stalk(t, queue, "-c", "1")
		p.run(`
			for r in sent:
			    r.get(timeout=20)
			order = [sent[r] for r in sorted(sent, key=lambda r: r.date_done)]
			want = sorted(order, reverse=amqp)
			if amqp:
			    # What the worker had fetched when the better ones came is run first; here all were there before.
			    assert order == want, order
			else:
			    assert order == want, order
		`)
	})
}
