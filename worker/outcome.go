package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

type outcomeKind int

const (
	succeeded    outcomeKind = iota
	failed                   // exception
	timedOut                 // exception; hard limit
	retried                  // exception (may be nil), eta
	ignored                  // nothing stored
	rejected                 // given up: FAILURE Reject, then reject without requeue
	requeued                 // back to the queue
	interrupted              // shutdown; not an attempt
	replaced                 // another signature takes the task's place: effects
	terminated               // revoked while it ran; signum
	outcomeKinds             // how many there are
)

// An outcome is how one run of a handler ended.
type outcome struct {
	kind      outcomeKind
	value     protocol.Value      // of succeeded
	exception *protocol.Exception // of failed, timedOut, rejected, retried (there nil means no cause)
	traceback string
	expected  bool            // failed with an error the handler declared as expected
	eta       time.Time       // of retried; zero: at once
	next      *protocol.Task  // of retried: what runs next, with its new arguments; nil: the same again
	wait      string          // of retried: "in 2s", for log and traceback
	effects   []canvas.Effect // of replaced
	err       error           // of requeued, interrupted: why
	signum    int             // of terminated
	took      time.Duration
}

// outcomeOf maps what the handler returned to one outcome. cause is why its context ended, nil if it did
// not. Encoding of the value is tried here, so a result that cannot be encoded is failed.
func outcomeOf(j *job, r returned, cause error, env func() *canvas.Env) outcome {
	if r.panic != nil { // fmt survives a value whose own methods panic
		exc := protocol.NewException("RuntimeError", cleanText(fmt.Sprintf("panic: %v", r.panic.value)))
		return outcome{kind: failed, exception: exc, traceback: panicTraceback(j.task.Name, r.panic, exc)}
	}
	if r.err == nil {
		v, err := protocol.FromGo(r.value)
		if err != nil {
			exc := protocol.EncodeErr(err)
			return outcome{kind: failed, exception: exc, traceback: traceback(j.task.Name, lastLine(exc))}
		}
		return outcome{kind: succeeded, value: v}
	}

	policy := j.handler.Options().Retry
	var retry *handlers.RetryError
	var reject *handlers.RejectError
	var replace *handlers.ReplaceError
	switch {
	case errors.Is(r.err, handlers.ErrIgnore):
		return outcome{kind: ignored}
	case errors.As(r.err, &replace):
		sig, err := signatureOf(replace.Signature)
		if err == nil {
			var p canvas.Plan
			if p, err = canvas.Replace(j.task, sig, env()); err == nil {
				return outcome{kind: replaced, effects: p.Effects}
			}
		}
		var named *protocol.Exception
		if !errors.As(err, &named) {
			named = protocol.NewException("ValueError", err.Error())
		}
		return failedWith(j, named)
	case errors.As(r.err, &retry):
		return retryOutcome(j, retry, policy)
	case errors.Is(cause, handlers.ErrShutdown) && (errors.Is(r.err, handlers.ErrShutdown) || errors.Is(r.err, context.Canceled)):
		return outcome{kind: interrupted, err: cause}
	case errors.Is(r.err, handlers.ErrSoftLimit),
		errors.Is(cause, handlers.ErrSoftLimit) && errors.Is(r.err, context.Canceled):
		limit := protocol.SoftTimeLimitExceeded()
		limit.Cause = r.err
		if !errors.Is(r.err, handlers.ErrSoftLimit) {
			limit.Cause = handlers.ErrSoftLimit // the handler said only "context canceled"
		}
		r.err = limit
	}
	if retriesItself(policy, r.err) { // before Reject, as Celery's autoretry covers it
		return retryOutcome(j, &handlers.RetryError{Cause: r.err, In: policy.Countdown(j.task.Retries, rand.Int64N)}, policy)
	}
	if errors.As(r.err, &reject) {
		if reject.Requeue {
			return outcome{kind: requeued, err: r.err}
		}
		reason := protocol.Value(nil)
		if reject.Cause != nil {
			reason = reject.Cause.Error()
		}
		return outcome{kind: rejected, exception: protocol.Reject(reason, false), err: r.err}
	}
	return failedWith(j, r.err)
}

// failedWith is the outcome of an error that is nothing else.
func failedWith(j *job, err error) outcome {
	exc := protocol.FromError(err)
	tb := exc.Traceback
	if tb == "" {
		tb = traceback(j.task.Name, lastLine(exc))
	}
	return outcome{kind: failed, exception: exc, traceback: tb, expected: isExpected(j.handler.Options(), err)}
}

func outOfRetries(t *protocol.Task) *protocol.Exception {
	return protocol.MaxRetriesExceeded(fmt.Sprintf("Can't retry %s[%s] args:%s kwargs:%s", t.Name, t.ID, protocol.ReprArgs(t.Args), protocol.Repr(t.Kwargs)))
}

// retryOutcome asks for another run, unless there were enough: then it is the cause that fails, or
// MaxRetriesExceededError when there is none (Task.retry in celery/app/task.py).
func retryOutcome(j *job, e *handlers.RetryError, p handlers.RetryPolicy) outcome {
	if e.Max != nil {
		p.Max = e.Max
	}
	if limit, unlimited := p.Limit(); !unlimited && j.task.Retries+1 > limit {
		if e.Cause != nil {
			return failedWith(j, e.Cause)
		}
		return failedWith(j, outOfRetries(j.task))
	}
	out := outcome{kind: retried}
	if e.Args != nil || e.Kwargs != nil {
		next, err := withArguments(j.task, e.Args, e.Kwargs)
		if err != nil {
			return failedWith(j, protocol.EncodeErr(err))
		}
		out.next = next
	}
	switch {
	case !e.ETA.IsZero():
		out.eta = e.ETA
	case e.In > 0:
		out.eta = time.Now().Add(e.In)
	case e.In < 0:
		out.eta = time.Now().Add(p.Wait())
		e = &handlers.RetryError{Cause: e.Cause, In: p.Wait()} // for its text
	}
	out.wait = e.Error()
	last := "celery.exceptions.Retry: " + out.wait
	if e.Cause != nil {
		out.exception = protocol.FromError(e.Cause)
		out.traceback = traceback(j.task.Name, lastLine(out.exception)) + "\n" +
			"During handling of the above exception, another exception occurred:\n\n" + traceback(j.task.Name, last)
	} else {
		out.traceback = traceback(j.task.Name, last)
	}
	return out
}

// signatureOf is a handler's signature as canvas knows it.
func signatureOf(s handlers.Signature) (canvas.Signature, error) {
	if err := handlers.Check(s); err != nil {
		return canvas.Signature{}, err
	}
	if known, ok := s.(canvas.Signature); ok {
		return known, nil
	}
	return canvas.Parse(s.Value())
}

// withArguments is t called with other arguments; what stays nil stays as it was.
func withArguments(t *protocol.Task, args []any, kwargs map[string]any) (*protocol.Task, error) {
	next := *t
	next.ArgsRepr, next.KwargsRepr = "", ""
	if args != nil {
		v, err := protocol.FromGo(args)
		if err != nil {
			return nil, err
		}
		next.Args = v.([]protocol.Value)
	}
	if kwargs != nil {
		v, err := protocol.FromGo(kwargs)
		if err != nil {
			return nil, err
		}
		next.Kwargs = v.(*protocol.Object)
	}
	return &next, nil
}
