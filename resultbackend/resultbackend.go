// Package resultbackend is the contract between the worker and the place where results are kept for
// AsyncResult to read.
//
// Implementations are redisresult, rpcresult and memresult; each passes the suite in resultbackendtest.
// A new store is a package that passes the suite and one case in dial.
package resultbackend

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

var (
	// ErrNotFound: no result is stored under that id (Celery's PENDING).
	ErrNotFound = errors.New("resultbackend: no such result")
	// ErrUnavailable: the store cannot be reached or cannot write now; the same Store may work later.
	ErrUnavailable = errors.New("resultbackend: store is away")
	// ErrUnfit: the store is of a kind that cannot be used, whatever is waited for.
	ErrUnfit = errors.New("resultbackend: not a store for Celery")
	// ErrTooLarge: this value will never fit the store; storing it again is useless.
	ErrTooLarge = errors.New("resultbackend: value too large")
	// ErrDamaged: what stands in the place is nothing of ours; trying again is useless until somebody removes it.
	ErrDamaged = errors.New("resultbackend: something else is stored there")
)

// A Backend stores results. It is safe for concurrent use.
type Backend interface {
	// Store makes one attempt. It never overwrites SUCCESS, wakes waiting clients, and sets the lifetime
	// that its own settings give the state. A write that a rule suppresses is not an error. Errors wrap
	// ErrUnavailable, ErrTooLarge or a *protocol.EncodeError (the document cannot be written).
	Store(ctx context.Context, r Record) error
	// String is the address without credentials, as Celery prints it.
	String() string
	Close() error
}

// A Record is one write.
type Record struct {
	Result  protocol.Result
	ReplyTo protocol.ReplyTo // used by rpc
	Over    []protocol.State // store only over these states (PENDING: no record), atomically; nil: over anything but SUCCESS
}

// Checker is implemented by backends that can tell before anything is stored that their store will never do.
type Checker interface {
	// Check looks once. An error that wraps ErrUnfit is final; any other says nothing of a later Store.
	Check(ctx context.Context) error
}

// Loader is implemented by backends that can be read. A missing result is ErrNotFound.
type Loader interface {
	Load(ctx context.Context, taskID string) (protocol.Result, error)
}

// Waiter is implemented by backends that tell when a task has ended, so that nobody needs to ask again and
// again.
type Waiter interface {
	// Wait blocks until the task is in a ready state and returns its record, as Load would; at once when it
	// is there already. It may be called by many at a time. An error wraps that of ctx when ctx has ended, or
	// ErrUnavailable when the store is found to be away or closed: waiting again later misses nothing.
	Wait(ctx context.Context, taskID string) (protocol.Result, error)
}

// ChordLifetimer is implemented by backends whose counters of a chord are forgotten after a time without a part.
type ChordLifetimer interface {
	// ChordLifetime is that time; 0 is for ever.
	ChordLifetime() time.Duration
}

// Forgetter is implemented by backends that can delete a record before its time.
type Forgetter interface {
	// Forget deletes what is stored for the task; nothing there is no error.
	Forget(ctx context.Context, taskID string) error
}

// StartCounter is implemented by backends that remember how often a run was begun without coming to an end: the worker asks about
// what the broker brought before, to know which runs end their process. What is remembered may be lost after some days.
type StartCounter interface {
	// Starts is how many starts are remembered.
	Starts(ctx context.Context, run string) (int, error)
	// AddStart remembers one more.
	AddStart(ctx context.Context, run string) error
	// ForgetStarts forgets them; none there is no error.
	ForgetStarts(ctx context.Context, run string) error
}

// Replier is implemented by backends that send results to whoever sent the task instead of storing them.
type Replier interface {
	// Replies is where a sender of tasks receives them; the same at each call.
	Replies() Replies
}

// Replies are the results sent to this process. Load tells the last state received; Wait, Load and Expect
// know only of tasks expected.
type Replies interface {
	Loader
	Waiter
	// Listen returns the name of the reply queue, and sees to it that the queue is there before the first
	// task is sent. It makes one attempt; an error wraps ErrUnavailable.
	Listen(ctx context.Context) (queue string, err error)
	// Expect keeps what comes for the task. It is called before the task is sent.
	Expect(taskID string)
}

// Allows reports whether the record may replace one of state old (PENDING: there is none): nothing
// replaces SUCCESS, and Over names what else it must be. A state alone decides; whoever stores must see
// to it that nobody writes in between.
func (r Record) Allows(old protocol.State) bool {
	return old != protocol.Success && (r.Over == nil || slices.Contains(r.Over, old))
}
