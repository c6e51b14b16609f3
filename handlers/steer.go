package handlers

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// ErrIgnore ends a task without a trace: the message is acknowledged and nothing is stored (Celery's Ignore).
var ErrIgnore = errors.New("handlers: ignore")

// Causes with which the context of a handler ends (context.Cause).
var (
	ErrSoftLimit = errors.New("handlers: soft time limit exceeded") // returned uncaught: SoftTimeLimitExceeded()
	ErrShutdown  = errors.New("handlers: worker is shutting down")  // the task runs again elsewhere
	ErrLost      = errors.New("handlers: abandoned")                // hard limit passed: nobody waits for the result

	// ErrTerminated: the task was revoked with terminate. Its caller was told REVOKED; what the handler returns is dropped.
	ErrTerminated = errors.New("handlers: terminated")
)

// RetryError asks for another run of the task. It counts against Options.Retry.Max; past that the task fails
// with Cause, or with MaxRetriesExceededError when there is none.
type RetryError struct {
	Cause error         // nil: none (state RETRY stores null)
	In    time.Duration // negative: the policy's Delay
	ETA   time.Time     // when not zero, wins over In
	Max   *int          // in place of the policy's, for this retry; nil: the policy's

	// Args and Kwargs are what the next run is called with, each by itself; nil: as this run was called. Each
	// value is one that protocol.FromGo takes.
	Args   []any
	Kwargs map[string]any
}

// Error is what Celery's Retry prints: "Retry in 2s: ValueError('boom')", "Retry at 2026-11-21 07:28:25+00:00".
// With a negative In it speaks of Celery's default delay; who knows the policy sets In first.
func (e *RetryError) Error() string {
	when := "in " + pythonSeconds(e.In) + "s"
	switch {
	case !e.ETA.IsZero():
		when = "at " + pythonTime(e.ETA)
	case e.In < 0:
		when = "in " + pythonSeconds(DefaultRetryDelay) + "s"
	}
	if e.Cause == nil {
		return "Retry " + when
	}
	return "Retry " + when + ": " + causeRepr(e.Cause)
}

func (e *RetryError) Unwrap() error { return e.Cause }

// RejectError gives the message up or requeues it.
type RejectError struct {
	Cause   error
	Requeue bool
}

// Error is the repr of Celery's Reject: "reject requeue=False: boom".
func (e *RejectError) Error() string {
	requeue := "False"
	if e.Requeue {
		requeue = "True"
	}
	if e.Cause == nil {
		return "reject requeue=" + requeue + ": None"
	}
	return "reject requeue=" + requeue + ": " + e.Cause.Error()
}

func (e *RejectError) Unwrap() error { return e.Cause }

// Retry asks for another run after in; 0 is at once, negative means the policy's Delay. cause may be nil.
func Retry(cause error, in time.Duration) error { return &RetryError{Cause: cause, In: in} }

// RetryAt asks for another run at eta; a zero eta means at once. cause may be nil.
func RetryAt(cause error, eta time.Time) error { return &RetryError{Cause: cause, ETA: eta} }

// Reject gives the message up: it is rejected without requeue, and the task counts as failed. cause may be nil.
func Reject(cause error) error { return &RejectError{Cause: cause} }

// Requeue puts the message back to its queue and stores no state; it may come back at once. cause may be nil.
func Requeue(cause error) error { return &RejectError{Cause: cause, Requeue: true} }

// causeRepr is Python's repr of the exception the caller would see for err.
func causeRepr(err error) string {
	if errors.Is(err, ErrSoftLimit) {
		return "SoftTimeLimitExceeded()"
	}
	return protocol.FromError(err).Repr()
}

// pythonSeconds prints a countdown as Python prints the number it most likely was: 2, 2.5.
func pythonSeconds(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10)
	}
	f := d.Seconds()
	if math.Abs(f) < 1e-4 {
		// Python writes a two-digit exponent, as Go does, and drops the zeros of the mantissa, as Go does.
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// pythonTime is str(datetime): microseconds only when there are any.
func pythonTime(t time.Time) string {
	t = t.Truncate(time.Microsecond)
	layout := "2006-01-02 15:04:05"
	if t.Nanosecond() != 0 {
		layout = "2006-01-02 15:04:05.000000"
	}
	text := t.Format(layout + "-07:00")
	if t.Year() < 0 || t.Year() > 9999 {
		return fmt.Sprint(t) // Python has no such datetime
	}
	return text
}
