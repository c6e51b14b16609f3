package handlers

// TEMPORARY: the frozen API of the handlers lane. Replace each with its real file, then delete this file.

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A Handler is one Celery task served by Go. It is immutable.
type Handler struct {
	name    string
	options Options
	invoke  Invoke
}

// Func: see architecture.md section 3.
func Func[In, Out any](name string, fn func(context.Context, In) (Out, error)) Handler {
	panic("unwritten")
}

// Raw makes a task that takes its arguments as they came: Python's def f(*args, **kwargs).
func Raw(name string, fn func(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error)) Handler {
	panic("unwritten")
}

func (h Handler) Name() string           { return h.name }
func (h Handler) Options() Options       { return h.options }
func (h Handler) With(o Options) Handler { panic("unwritten") } // replaces the options
func (h Handler) As(name string) Handler { panic("unwritten") } // the same task under another name
func (h Handler) Params() []Param        { panic("unwritten") } // schema
func (h Handler) Invoke() Invoke         { return h.invoke }    // binds and calls; errors as described at Invoke

// A Param is one parameter as data.
type Param struct {
	Name     string
	Type     string // Python's name for it: "int", "str", "list[int]"
	Optional bool
	Default  protocol.Value
}

// Options: every zero value means Celery's (or the worker's) default.
type Options struct {
	SoftLimit, HardLimit time.Duration // 0: the worker's; the message's header wins over both
	Retry                RetryPolicy
	EarlyAck             bool             // ack when execution starts; default is late (architecture section 12)
	AckOnFailure         *bool            // nil: the worker's setting (Celery: true). false: reject without requeue
	AckOnTimeout         *bool            // nil: the worker's setting (true). false: reject with requeue
	Rate                 string           // "10/m", "100/h", "5", "": none
	IgnoreResult         bool             // when the message does not say
	StoreErrors          bool             // store_errors_even_if_ignored
	TrackStarted         *bool            // nil: the worker's setting (false)
	Expected             func(error) bool // Celery's throws: logged at INFO, without traceback; nil: none
}

// A RetryPolicy says what handlers.Retry and On do.
type RetryPolicy struct {
	Max        *int             // retries after the first run; nil: 3; negative: no limit
	Delay      time.Duration    // when Retry names none; 0: 180 s (default_retry_delay)
	On         func(error) bool // autoretry_for: which errors are retried by themselves; nil: none
	Backoff    time.Duration    // autoretry only: min(BackoffMax, Backoff*2^retries); 0: Delay
	BackoffMax time.Duration    // 0: 600 s
	NoJitter   bool             // default: a whole number of seconds drawn from [0, countdown]
}

// Countdown is the delay before the next run of an automatic retry; random returns an int in [0, n).
func (p RetryPolicy) Countdown(retries int, random func(n int64) int64) time.Duration {
	panic("unwritten")
}

// A Registry is immutable.
type Registry struct{}

func NewRegistry(hs ...Handler) (*Registry, error)     { panic("unwritten") }
func (r *Registry) Lookup(name string) (Handler, bool) { panic("unwritten") }
func (r *Registry) All() iter.Seq[Handler]             { panic("unwritten") } // by name
func (r *Registry) Len() int                           { panic("unwritten") }

// Invoke runs a task. Its error is one of: a *RetryError, a *RejectError, ErrIgnore (all possibly
// wrapped), a *protocol.Exception, or any other error (the worker makes RuntimeError of it).
type Invoke func(ctx context.Context, t *protocol.Task) (any, error)

// Middleware is the only extension point around execution.
type Middleware func(next Invoke) Invoke

// RetryError asks for another run.
type RetryError struct {
	Cause error         // nil: none (state RETRY stores null)
	In    time.Duration // negative: the policy's Delay
	ETA   time.Time     // when not zero, wins over In
}

func (e *RetryError) Error() string { panic("unwritten") } // as Celery: "Retry in 2s: ValueError('boom')"
func (e *RetryError) Unwrap() error { return e.Cause }

// RejectError gives the message up or requeues it.
type RejectError struct {
	Cause   error
	Requeue bool
}

func (e *RejectError) Error() string { panic("unwritten") }
func (e *RejectError) Unwrap() error { return e.Cause }

func Retry(cause error, in time.Duration) error { panic("unwritten") }
func RetryAt(cause error, eta time.Time) error  { panic("unwritten") }
func Reject(cause error) error                  { panic("unwritten") }
func Requeue(cause error) error                 { panic("unwritten") }

var ErrIgnore = errors.New("handlers: ignore")

// Causes with which the context of a handler ends (context.Cause).
var (
	ErrSoftLimit = errors.New("handlers: soft time limit exceeded") // returned uncaught: SoftTimeLimitExceeded()
	ErrShutdown  = errors.New("handlers: worker is shutting down")  // the task runs again elsewhere
	ErrLost      = errors.New("handlers: abandoned")                // hard limit passed or revoked with terminate: nobody waits for the result
)

// Info is what a handler may know of its task.
type Info struct {
	ID, Name, RootID, ParentID, Group string
	Queue, Exchange, RoutingKey       string
	Node                              string
	Retries                           int
	Redelivered                       bool
	ETA, Expires                      time.Time
	Priority                          *int
	ReplyTo, CorrelationID            string
	Headers                           *protocol.Object // custom headers
	Args                              []protocol.Value
	Kwargs                            *protocol.Object
}

func InfoFrom(ctx context.Context) (Info, bool)                    { panic("unwritten") }
func Progress(ctx context.Context, meta any) error                 { panic("unwritten") } // state PROGRESS
func Report(ctx context.Context, s protocol.State, meta any) error { panic("unwritten") }

// A Host is what the worker lends to a running handler; handlerstest has a fake.
type Host interface {
	Report(ctx context.Context, s protocol.State, meta protocol.Value) error
}

func NewContext(ctx context.Context, info Info, host Host) context.Context { panic("unwritten") }
