package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/internal/dispatch"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// settler performs steps, each with backoff, and gives a message up only when all before it is safe.
type settler struct {
	cfg    *Config
	log    *slog.Logger
	link   publisher
	ledger *ledger
	broker transports.Transport
	stats  *stats
	who    publisherID
	told   *pulse

	dispatch *dispatch.Dispatcher // one attempt at an effect
	limit    limit
}

// publisher is what the settler needs of the link.
type publisher interface {
	Publish(ctx context.Context, p transports.Publishing) error
}

const (
	attemptTimeout = 5 * time.Second       // of one store, publish or ack
	settleBase     = 50 * time.Millisecond // first pause after a failed attempt
	settleMax      = 1 * time.Second       // longest pause
	publishTries   = 12                    // refused publishes before the job goes back; about 10 s
)

var (
	errEnd     = errors.New("worker: the time to settle is over")
	errUnsafe  = errors.New("worker: an effect cannot be made safe")
	errReplace = errors.New("worker: the result cannot be stored as it is")
)

// perform takes the steps in order and reports whether every effect is safe (the ack itself may be
// lost). When a step fails for good the message is requeued; when ctx ends first it stays unsettled and
// returns with the connection.
//
// A broker that was replaced meanwhile may have forgotten the first effects and still taken the ack: then they are
// made once more. job.since names its instance before the first of those that count.
func (s *settler) perform(ctx context.Context, j *job, steps []step) bool {
	for {
		j.since = transports.Instance(s.broker)
		taken, safe := s.performOnce(ctx, j, steps)
		if !safe || transports.Instance(s.broker) == j.since || slices.Contains(taken, step(rejectStep{requeue: true})) {
			return safe
		}
		if steps = effectsOf(taken); len(steps) == 0 {
			return true
		}
		s.log.Warn("the broker was restarted or replaced while the task was settled; its effects are made once more", messageAttrs(j)...)
	}
}

// effectsOf are those of the steps that change something for others, and may be undone.
func effectsOf(steps []step) []step {
	var out []step
	for _, st := range steps {
		switch st.(type) {
		case storeStep, publishStep, effectStep, partStep:
			out = append(out, st)
		}
	}
	return out
}

// performOnce returns the steps as they were in the end.
func (s *settler) performOnce(ctx context.Context, j *job, steps []step) ([]step, bool) {
	failing := false
	for i := 0; i < len(steps); i++ {
		err := s.take(ctx, j, steps[i])
		switch {
		case err == nil:
		case errors.Is(err, errReplace):
			// Something cannot be stored or encoded as it is: the task fails with that instead. When even a
			// failure cannot be stored, one is stored that holds nothing from outside.
			s.log.Error("cannot be stored as it is", append(taskAttrs(j.task), "err", err)...)
			switch bare := bareFailure(steps[i]); {
			case !failing:
				failing = true
				exc := unstorable(err)
				j.instead = &outcome{kind: failed, exception: exc}
				steps, i = append(failureSteps(s.cfg, s.who, j, exc, "", time.Now()), settlingSteps(steps)...), -1
			case bare != nil:
				steps[i] = bare
				i--
			default:
				s.log.Error("not stored at all; whoever waits for it is not told", append(taskAttrs(j.task), "step", fmt.Sprintf("%T", steps[i]), "err", err)...)
			}
		case errors.Is(err, errUnsafe):
			s.log.Error("an effect of the task cannot be made safe; its message goes back to the queue", append(messageAttrs(j), "err", err)...)
			s.requeue(ctx, j, func(ctx context.Context) error { return j.delivery.Receipt.Reject(ctx, true) })
			return steps, false
		default:
			if !j.acked {
				s.log.Warn("not settled in time; the message returns to its queue", append(taskAttrs(j.task), "err", err)...)
			} else {
				s.log.Error("not settled in time, and the message was acknowledged early", append(taskAttrs(j.task), "err", err)...)
			}
			return steps, false
		}
	}
	return steps, true
}

// bareFailure is a step that tells of a failure with no word from outside in it: no arguments, no traceback,
// no text of the exception. nil when st is such already, or no failure.
func bareFailure(st step) step {
	exc := &protocol.Exception{
		Module: "celery.exceptions", Type: "BackendStoreError",
		Args: []protocol.Value{"the task failed, and its failure cannot be stored by the result serializer"},
	}
	switch st := st.(type) {
	case storeStep:
		r := st.record.Result
		if r.Status != protocol.Failure && r.Status != protocol.Revoked || r.Exception != nil && r.Exception.Type == exc.Type {
			return nil
		}
		st.record.Result = protocol.Result{TaskID: r.TaskID, Status: r.Status, Exception: exc, DateDone: r.DateDone}
		return st
	case effectStep:
		f, ok := st.effect.(canvas.StoreFailure)
		if !ok || f.Exception != nil && f.Exception.Type == exc.Type {
			return nil
		}
		return effectStep{canvas.StoreFailure{TaskID: f.TaskID, ReplyTo: f.ReplyTo, Exception: exc}}
	}
	return nil
}

// settlingSteps are those of steps that settle the message.
func settlingSteps(steps []step) []step {
	var out []step
	for _, st := range steps {
		switch st.(type) {
		case ackStep, rejectStep, returnStep, moveStep:
			out = append(out, st)
		}
	}
	return out
}

func (s *settler) take(ctx context.Context, j *job, st step) error {
	switch st := st.(type) {
	case storeStep:
		return s.store(ctx, j, st.record)
	case publishStep:
		return s.publish(ctx, j, st)
	case effectStep:
		if call, ok := st.effect.(canvas.CallErrback); ok {
			s.errback(ctx, j, call)
			return nil
		}
		return s.effect(ctx, j, st.effect)
	case partStep:
		return s.part(ctx, j, st)
	case retriedStep:
		s.told.retried(j, st.out)
		return nil
	case insteadStep:
		j.instead = &st.out
		return nil
	case noteStep:
		s.log.Error(st.text, append(taskAttrs(j.task), "err", st.err)...)
		return nil
	case ackStep:
		return s.receipt(ctx, j, func(ctx context.Context) error { return j.delivery.Receipt.Ack(ctx) }, true)
	case rejectStep:
		return s.receipt(ctx, j, func(ctx context.Context) error { return j.delivery.Receipt.Reject(ctx, st.requeue) }, !st.requeue)
	case returnStep:
		return s.receipt(ctx, j, func(ctx context.Context) error { return transports.Return(ctx, j.delivery.Receipt) }, false)
	case moveStep:
		s.stats.quarantined.Add(1)
		s.log.Error("message set aside", append(messageAttrs(j), "quarantine", st.queue, "err", st.why)...)
		return s.move(ctx, j, st)
	}
	panic(fmt.Sprintf("worker: unknown step %T", st))
}

// store retries for as long as the store is away: a result is delayed, never lost.
func (s *settler) store(ctx context.Context, j *job, r resultbackend.Record) error {
	if s.cfg.Results == nil {
		return nil
	}
	for attempt := 0; ; attempt++ {
		err := s.attempt(ctx, func(ctx context.Context) error { return s.cfg.Results.Store(ctx, r) })
		if err == nil {
			if attempt > 0 {
				s.log.Info("result stored", append(taskAttrs(j.task), "state", r.Result.Status, "attempt", attempt+1)...)
			}
			return nil
		}
		var encode *protocol.EncodeError
		if errors.As(err, &encode) || errors.Is(err, resultbackend.ErrTooLarge) || errors.Is(err, resultbackend.ErrDamaged) {
			return fmt.Errorf("%w: %w", errReplace, err)
		}
		if attempt == 0 {
			s.log.Warn("result not stored yet", append(taskAttrs(j.task), "state", r.Result.Status, "err", err)...)
		}
		if !sleep(ctx, jitter(backoff(attempt, settleBase, settleMax))) {
			return fmt.Errorf("%w: %w", errEnd, err)
		}
	}
}

// unstorable is what the caller is told in place of a result the store cannot take.
func unstorable(err error) *protocol.Exception {
	var encode *protocol.EncodeError
	if errors.As(err, &encode) {
		return protocol.EncodeErr(encode)
	}
	return &protocol.Exception{Module: "celery.exceptions", Type: "BackendStoreError", Args: []protocol.Value{err.Error()}}
}

// publish waits out a broken connection and a broker that takes nothing for now; one that refuses is asked a few times more.
func (s *settler) publish(ctx context.Context, j *job, st publishStep) error {
	p, refused := st.publishing, 0
	for attempt := 0; ; attempt++ {
		err := s.attempt(ctx, func(ctx context.Context) error { return s.link.Publish(ctx, p) })
		switch {
		case err == nil:
			if st.fallback != "" { // a retry; else it is the message itself that went back
				s.told.sent(p)
			}
			return nil
		case errors.Is(err, transports.ErrBlocked): // by an alarm, which ends: running the task again would help nobody
		case errors.Is(err, transports.ErrRefused):
			if st.fallback != "" && (p.Exchange != "" || p.RoutingKey != st.fallback) {
				s.log.Warn("nothing takes the message at its own address; sending it to the queue it came from",
					append(taskAttrs(j.task), "exchange", p.Exchange, "key", p.RoutingKey, "queue", st.fallback, "err", err)...)
				p.Exchange, p.RoutingKey = "", st.fallback
				continue
			}
			if refused++; refused >= publishTries {
				return fmt.Errorf("%w: %w", errUnsafe, err)
			}
		}
		if attempt == 0 {
			s.log.Warn("not published yet", append(taskAttrs(j.task), "err", err)...)
		}
		if !sleep(ctx, jitter(backoff(attempt, settleBase, settleMax))) {
			return fmt.Errorf("%w: %w", errEnd, err)
		}
	}
}

// receipt settles the delivery. When that may not have arrived and the effects are safe (remember), the
// run is remembered, so that the copy the broker brings is acknowledged and not run again.
func (s *settler) receipt(ctx context.Context, j *job, call func(context.Context) error, remember bool) error {
	for attempt := 0; ; attempt++ {
		err := s.attempt(ctx, call)
		switch {
		case err == nil, errors.Is(err, transports.ErrSettled):
			return nil
		case errors.Is(err, transports.ErrLost) || j.lost():
			s.stats.lost.Add(1)
			s.log.Warn("the delivery was lost before it was settled", append(messageAttrs(j), "err", err)...)
			if remember && j.task != nil {
				s.ledger.ackLost(j.task, j.since)
			}
			return nil
		case errors.Is(err, errUnsafe):
			return err
		}
		if attempt == 0 {
			s.log.Warn("Couldn't ack", append(messageAttrs(j), "err", err)...)
		}
		if !sleep(ctx, jitter(backoff(attempt, settleBase, settleMax))) {
			return fmt.Errorf("%w: %w", errEnd, err)
		}
	}
}

// move puts the message into another queue. One that is refused there must not keep its place among those that settle for
// ever: it goes back, behind those that wait if it may.
func (s *settler) move(ctx context.Context, j *job, st moveStep) error {
	refused := 0
	return s.receipt(ctx, j, func(ctx context.Context) error {
		err := j.delivery.Receipt.Move(ctx, st.queue)
		if !errors.Is(err, transports.ErrRefused) || errors.Is(err, transports.ErrBlocked) {
			return err
		}
		if refused++; refused < publishTries {
			return err
		}
		if st.renew {
			_ = j.delivery.Receipt.Move(ctx, j.delivery.Queue) // else it is requeued, as what cannot be made safe always is
		}
		return fmt.Errorf("%w: %w", errUnsafe, err)
	}, false)
}

// requeue returns the message; failing that it returns with the connection.
func (s *settler) requeue(ctx context.Context, j *job, how func(context.Context) error) {
	if j.acked {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if err := s.receipt(ctx, j, how, false); err != nil {
		s.log.Warn("not requeued; the message returns with the connection", append(messageAttrs(j), "err", err)...)
	}
}

// attempt bounds one call.
func (s *settler) attempt(ctx context.Context, call func(context.Context) error) error {
	return call(s.limit.of(ctx))
}
