package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stalkworker/stalk/transports"
)

// Some brokers take back what stays unsettled too long, and with it what is being worked on (transports.Parker). There a
// job waits for its eta here, where inspect scheduled shows it and revoke finds it, only until its message has to be
// begun by; then the message is parked with the broker, which brings it again.

const (
	parkAtOnce = 1000        // jobs held for their eta from which on others are parked as they come
	parkAgain  = time.Minute // between attempts, when the broker does not park
)

// parker is how j's message can be parked; nil: it need not be.
func (j *job) parker() transports.Parker {
	p, ok := j.delivery.Receipt.(transports.Parker)
	if !ok || p.BeginBy().IsZero() {
		return nil
	}
	return p
}

// heldUntil is when a job that is wanted at eta leaves the calendar: then, or when its message is to be parked.
func (in *intake) heldUntil(j *job, eta, now time.Time) time.Time {
	until := j.heldUntil(eta)
	// Whoever sets a limit wants so many held.
	if until.Before(eta) && in.w.cfg.ETALimit == 0 && in.w.calendar.waitingForETA() >= parkAtOnce {
		return now
	}
	return until
}

// heldUntil is when a job that may begin at that time leaves the calendar: then, or when its message cannot wait any longer.
// A little more of waiting is not worth a trip.
func (j *job) heldUntil(at time.Time) time.Time {
	p := j.parker()
	if p == nil {
		return at
	}
	by := p.BeginBy()
	if at.Before(by.Add(by.Sub(j.received) / 4)) {
		return at
	}
	return by
}

// early reports whether a job that waits for its turn by the rate limit has left the calendar before that.
func (j *job) early(now time.Time) bool { return j.turn.After(now) }

// noTurn gives a job back whose turn by the rate limit comes later than its message may wait. The turn goes to the next of
// its name: kept for nobody, each round would move all those behind it further away.
func (in *intake) noTurn(j *job) {
	w, now := in.w, time.Now()
	w.log.Info("a task waits for its turn by the rate limit longer than the broker lets it keep its message; it went back to its queue",
		append(taskAttrs(j.task), "turn", j.turn)...)
	j.turn = time.Time{}
	w.limiter.recall(j.task.Name, now)
	retime(w.limiter, w.calendar, j.task.Name, now)
	w.roster.task(func() { in.giveBack(j) })
	in.nudge()
}

// park puts the message of a held job away until its eta. While the broker does not, the job is held as if there were
// no limit.
func (in *intake) park(j *job, p transports.Parker) {
	w, eta := in.w, j.task.ETA
	var err error
	if wait := time.Until(eta); wait > 0 {
		err = w.settler.attempt(in.settle, func(ctx context.Context) error { return p.Park(ctx, wait) })
	} else {
		err = w.settler.attempt(in.settle, func(ctx context.Context) error { return transports.Return(ctx, j.delivery.Receipt) })
	}
	switch {
	case err == nil, errors.Is(err, transports.ErrSettled):
		w.log.Info("a task is wanted so late that its message is parked with the broker", append(taskAttrs(j.task), "eta", eta)...)
	case errors.Is(err, transports.ErrLost) || j.lost():
		w.log.Info("a held task went back to the broker before it was parked", taskAttrs(j.task)...)
	default:
		if !j.unparked {
			w.log.Warn("the broker does not park the message of a task that is wanted late; it is held, and may be taken back and run again",
				append(taskAttrs(j.task), "eta", eta, "err", err)...)
		}
		j.unparked = true
		w.calendar.hold(j, slices.MinFunc([]time.Time{eta, time.Now().Add(parkAgain)}, time.Time.Compare), true, 0)
		in.nudge()
		if w.isStopping() && w.calendar.withdraw(j) {
			in.giveBack(j)
		}
		return
	}
	in.leave(j)
	in.nudge() // the window may shrink
}

// patience is how long j may wait in ctx to be begun: no longer than its message may.
func (j *job) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if p := j.parker(); p != nil {
		return context.WithDeadline(ctx, p.BeginBy())
	}
	return context.WithCancel(ctx)
}

// acquire has j hold so many slots in place of those that it holds, and waits for them as long as its patience lasts. It
// reports false when j has none: then ctx is done, or the message has to go back.
func (in *intake) acquire(ctx context.Context, j *job, want int) bool {
	got, c := in.w.slots.ask(j.slots, want)
	if c != nil { // seldom: only then a patience is made
		ctx, cancel := j.patience(ctx)
		defer cancel()
		got = in.w.slots.await(ctx, c)
	}
	return in.have(j, got)
}

// exchange is acquire within a patience.
func (in *intake) exchange(ctx context.Context, j *job, want int) bool {
	return in.have(j, in.w.slots.exchange(ctx, j.slots, want))
}

// have notes the slots that j was given, and gives them back when the worker stops: nothing begins any more.
func (in *intake) have(j *job, slots int) bool {
	j.slots = slots
	if j.slots > 0 && in.w.isStopping() {
		in.release(j)
	}
	return j.slots > 0
}

// warnOfTimeouts says which tasks may run longer than the broker lets them keep their message.
func (w *Worker) warnOfTimeouts() {
	t, ok := w.cfg.Transport.(transports.TimeLimiter)
	if !ok || t.ConsumerTimeout() <= 0 {
		return
	}
	var names []string
	for h := range w.cfg.Handlers.All() {
		if hard := cmp.Or(w.times.of(h).hard, w.cfg.HardLimit); hard > t.ConsumerTimeout() && !h.Options().EarlyAck {
			names = append(names, h.Name())
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	w.log.Warn(fmt.Sprintf("tasks may run longer than the broker lets them keep their message (consumer_timeout, %v as far as is known): it is then brought again,"+
		" and another worker runs it a second time. Raise the broker's limit and ours, lower the task's, or acknowledge early", t.ConsumerTimeout()),
		"tasks", strings.Join(names, ", "))
}
