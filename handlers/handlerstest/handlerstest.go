// Package handlerstest runs a handler in a unit test: no broker, no worker, no Python. Arguments and result
// take the way through JSON that they take in production, so a test sees what Python would send and receive.
//
// It applies no time limits and waits for nothing: a retry is reported, not made. A panic in the handler is
// left alone, for the test to show its stack.
package handlerstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// Kwargs are the keyword arguments of a Run, sent sorted by name.
type Kwargs map[string]any

// An Option among Run's arguments sets what the handler may know of its task.
type Option func(*handlers.Info)

// Retries says how often the task was retried before this run.
func Retries(n int) Option { return func(i *handlers.Info) { i.Retries = n } }

// Header adds a custom header. It panics on a value no message can carry.
func Header(name string, value any) Option {
	v := encoded("header "+name, value)
	return func(i *handlers.Info) {
		i.Headers = i.Headers.Clone()
		i.Headers.Set(name, v)
	}
}

// Redelivered says that the message was delivered before.
func Redelivered() Option { return func(i *handlers.Info) { i.Redelivered = true } }

// ID sets the task's id; it is "test" otherwise.
func ID(id string) Option { return func(i *handlers.Info) { i.ID = id } }

// An Ending is how a run ended.
type Ending string

// The endings, as the worker tells them apart.
const (
	Succeeded Ending = "succeeded" // Value
	Failed    Ending = "failed"    // Exception
	Retried   Ending = "retried"   // Countdown or ETA, Exception (may be nil)
	Rejected  Ending = "rejected"  // given up; Exception (may be nil)
	Requeued  Ending = "requeued"  // back to the queue
	Ignored   Ending = "ignored"   // no trace
	Replaced  Ending = "replaced"  // by another signature
	// The context ended with handlers.ErrShutdown, and the handler with it: it runs again elsewhere.
	Interrupted Ending = "interrupted"
)

// A Report is one state the handler reported.
type Report struct {
	State protocol.State
	Meta  protocol.Value // as Python reads it
}

// String is "PROGRESS {"done": 1}": the meta as JSON.
func (r Report) String() string { return string(r.State) + " " + jsonText(r.Meta) }

// A Result is what a run led to.
type Result struct {
	Ending    Ending
	Value     protocol.Value      // what .get() returns in Python, when it Succeeded
	Exception *protocol.Exception // what .get() raises in Python, or what a retry or reject gives as reason
	Err       error               // what the handler returned, for errors.Is
	Countdown time.Duration       // of a retry; with backoff the longest that jitter can draw
	ETA       time.Time           // of a retry that names a time
	Reports   []Report
	Spawned   []handlers.Signature // what the handler sent, in order
	Added     []handlers.Signature // what it added to its chord
	Replaced  handlers.Signature   // what takes its place, when it ended Replaced
}

// JSON is Value as the result document holds it, in the form of Python's json.dumps.
func (r Result) JSON() string { return jsonText(r.Value) }

// String is the ending and what came with it: "succeeded 3", "failed ValueError: boom", "retried Retry in 2s".
func (r Result) String() string {
	switch {
	case r.Ending == Succeeded:
		return string(r.Ending) + " " + r.JSON()
	case r.Ending == Retried && r.Err != nil:
		return string(r.Ending) + " " + r.Err.Error()
	case r.Exception != nil:
		return string(r.Ending) + " " + r.Exception.Error()
	}
	return string(r.Ending)
}

// Scan stores Value in the variable that into points to, as protocol.ToGo does. A run that did not succeed is
// an error that says how it ended.
func (r Result) Scan(into any) error {
	if r.Ending != Succeeded {
		return fmt.Errorf("handlerstest: the task %s: %w", r.Ending, cmp.Or(r.Err, errors.New("without an error")))
	}
	return protocol.ToGo(r.Value, into)
}

// Run calls h once. Each of args is a Kwargs (at most one), an Option, or a positional argument: anything
// protocol.FromGo takes and JSON can carry. A handler that NewRegistry would refuse, or an argument that no
// message could carry, is the test's mistake: Run panics and says which. Run ends when the handler returns.
//
// What outlives the handler is over: a later Report returns ErrOver.
func Run(ctx context.Context, h handlers.Handler, args ...any) Result {
	if _, err := handlers.NewRegistry(h); err != nil {
		panic("handlerstest: " + err.Error())
	}
	info := handlers.Info{ID: "test", Node: "celery@test", Queue: "celery", RoutingKey: "celery", Headers: &protocol.Object{}}
	info.Name = h.Name()
	info.Args, info.Kwargs = []protocol.Value{}, &protocol.Object{}
	keyed := false
	for i, arg := range args {
		switch arg := arg.(type) {
		case Option:
			arg(&info)
		case Kwargs:
			if keyed {
				panic("handlerstest: two Kwargs in one Run")
			}
			keyed = true
			info.Kwargs = encoded("kwargs", map[string]any(arg)).(*protocol.Object)
		default:
			info.Args = append(info.Args, encoded(fmt.Sprintf("argument %d", i+1), arg))
		}
	}
	info.RootID, info.CorrelationID = cmp.Or(info.RootID, info.ID), cmp.Or(info.CorrelationID, info.ID)
	task := &protocol.Task{
		ID: info.ID, Name: info.Name, Args: info.Args, Kwargs: info.Kwargs, RootID: info.RootID,
		Retries: info.Retries, Custom: info.Headers, CorrelationID: info.CorrelationID, RoutingKey: info.RoutingKey, Protocol: 2,
	}
	host := &recorder{}
	value, err := h.Invoke()(handlers.NewContext(ctx, info, host), task)
	result := end(info, h.Options().Retry, context.Cause(ctx), value, err)
	result.Reports = host.close()
	result.Spawned, result.Added = host.spawned, host.added
	return result
}

// ErrOver is what reporting returns once Run has ended.
var ErrOver = errors.New("handlerstest: the task is over")

// end tells the endings apart as the worker does. cause is why the context ended, nil if it did not.
func end(info handlers.Info, policy handlers.RetryPolicy, cause error, value any, err error) Result {
	if err == nil {
		v, err := roundTrip(value)
		if err != nil {
			return Result{Ending: Failed, Exception: protocol.EncodeErr(err), Err: err}
		}
		return Result{Ending: Succeeded, Value: v}
	}
	retry, retried := errors.AsType[*handlers.RetryError](err)
	reject, rejected := errors.AsType[*handlers.RejectError](err)
	replace, replaced := errors.AsType[*handlers.ReplaceError](err)
	cut := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	failure := protocol.FromError(err)
	switch {
	case errors.Is(err, handlers.ErrIgnore):
		return Result{Ending: Ignored, Err: err}
	case replaced:
		return Result{Ending: Replaced, Replaced: replace.Signature, Err: err}
	case retried:
		return again(info, policy, retry, err)
	case errors.Is(cause, handlers.ErrShutdown) && (cut || errors.Is(err, handlers.ErrShutdown)):
		return Result{Ending: Interrupted, Err: err}
	case errors.Is(err, handlers.ErrSoftLimit), cut && errors.Is(cause, handlers.ErrSoftLimit):
		failure = protocol.SoftTimeLimitExceeded()
	}
	if policy.On != nil && policy.On(err) { // before Reject: Celery's autoretry covers it
		most := func(n int64) int64 { return n - 1 }
		return again(info, policy, &handlers.RetryError{Cause: err, In: policy.Countdown(info.Retries, most)}, err)
	}
	switch {
	case rejected && reject.Requeue:
		return Result{Ending: Requeued, Exception: protocol.FromError(reject.Cause), Err: err}
	case rejected:
		return Result{Ending: Rejected, Exception: protocol.FromError(reject.Cause), Err: err}
	}
	return Result{Ending: Failed, Exception: failure, Err: err}
}

// again is another run, or the end of them.
func again(info handlers.Info, policy handlers.RetryPolicy, retry *handlers.RetryError, err error) Result {
	cause := protocol.FromError(retry.Cause)
	if limit, unlimited := policy.Limit(); !unlimited && info.Retries >= limit {
		if cause == nil {
			cause = protocol.MaxRetriesExceeded(fmt.Sprintf("Can't retry %s[%s] args:%s kwargs:%s",
				info.Name, info.ID, protocol.ReprArgs(info.Args), protocol.Repr(info.Kwargs)))
		}
		return Result{Ending: Failed, Exception: cause, Err: err}
	}
	r := Result{Ending: Retried, Exception: cause, Err: err, Countdown: retry.In, ETA: retry.ETA}
	if retry.In < 0 {
		r.Countdown = policy.Wait()
	}
	return r
}

// encoded is v as a message carries it.
func encoded(what string, v any) protocol.Value {
	value, err := roundTrip(v)
	if err != nil {
		panic(fmt.Sprintf("handlerstest: %s (%T): %v", what, v, err))
	}
	return value
}

// roundTrip is v as it arrives at the other side.
func roundTrip(v any) (protocol.Value, error) {
	value, err := protocol.FromGo(v)
	if err != nil {
		return nil, err
	}
	data, err := protocol.AppendJSON(nil, value)
	if err != nil {
		return nil, err
	}
	return protocol.ParseJSON(data, protocol.Limits{})
}

func jsonText(v protocol.Value) string {
	data, err := protocol.AppendJSON(nil, v)
	if err != nil {
		return err.Error() // a Result made by hand: Run's values came from JSON
	}
	return string(data)
}

// A recorder is the Host of one run.
type recorder struct {
	mu      sync.Mutex
	reports []Report // guarded by mu, as all below
	spawned []handlers.Signature
	added   []handlers.Signature
	over    bool
}

var _ handlers.Host = (*recorder)(nil)

func (r *recorder) Report(ctx context.Context, s protocol.State, meta protocol.Value) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	meta, err := roundTrip(meta)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return ErrOver
	}
	r.reports = append(r.reports, Report{State: s, Meta: meta})
	return nil
}

// Spawn records the signature. Its id is the one it names, or a made-up one.
func (r *recorder) Spawn(ctx context.Context, s handlers.Signature) (handlers.Sent, error) {
	return r.send(ctx, s, &r.spawned)
}

// AddToChord records the signature, as Spawn.
func (r *recorder) AddToChord(ctx context.Context, s handlers.Signature) (handlers.Sent, error) {
	return r.send(ctx, s, &r.added)
}

func (r *recorder) send(ctx context.Context, s handlers.Signature, to *[]handlers.Signature) (handlers.Sent, error) {
	if err := ctx.Err(); err != nil {
		return handlers.Sent{}, context.Cause(ctx)
	}
	if err := handlers.Check(s); err != nil {
		return handlers.Sent{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return handlers.Sent{}, ErrOver
	}
	*to = append(*to, s)
	id := protocol.SignatureID(s.Value())
	if id == "" {
		id = fmt.Sprintf("sent-%d", len(r.spawned)+len(r.added))
	}
	return handlers.Sent{ID: id, Tuple: []protocol.Value{[]protocol.Value{id, nil}, nil}}, nil
}

func (r *recorder) close() []Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	return slices.Clone(r.reports)
}
