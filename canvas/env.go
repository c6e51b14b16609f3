package canvas

import (
	"errors"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// An Env is what applying a signature needs to know of the world. It is only read. The zero Env, with a
// NewID, publishes as a client does: everything to the queue celery.
type Env struct {
	NewID  func() string // a new id, such as a UUID; required
	Now    time.Time     // countdown and expires count from it
	Routes *Routes       // nil: everything without a queue option to the queue "celery"

	// Tasks are the publishing defaults of tasks known by name, as a Python worker that has the task
	// registered applies them. A name that is not here is published as one nobody knows: no defaults.
	// Celery's own tasks (celery.accumulate ...) need no entry.
	Tasks map[string]TaskDefaults

	Parent          *Parent // the task that runs or just ended; nil: publishing from outside any task
	ReplyTo         string  // of this process, for what has none: where replies over rpc go
	Origin          string  // header origin
	InheritPriority bool    // task_inherit_parent_priority

	// Errback reports whether an errback is called in this process, by CallErrback, and not sent: its task is
	// served here and takes more than the failed id beside its own arguments. nil: none is.
	Errback func(task string, args []protocol.Value, kwargs *protocol.Object, immutable bool) bool
	// Trail is what the running or finished task has sent so far, as result tuples.
	Trail []protocol.Value

	// NativeChords: the result store counts the parts of a chord. If not, celery.chord_unlock polls.
	NativeChords bool
	// AllowErrbackOnHeader is task_allow_error_cb_on_chord_header.
	AllowErrbackOnHeader bool
	// NativeDelay: a message with an eta goes through RabbitMQ's delay exchanges if its own exchange is not direct
	// and its queue is known (Send.Delay). Celery does so on RabbitMQ when any queue it knows is a quorum queue
	// (Routes.Quorum).
	NativeDelay bool
}

// A Parent is the task on whose behalf something is published.
type Parent struct {
	ID       string
	RootID   string // "": ID
	Priority *int   // of its delivery
}

// ParentOf is the Parent for follow-ups of t.
func ParentOf(t *protocol.Task) *Parent {
	return &Parent{ID: t.ID, RootID: t.RootID, Priority: t.Priority}
}

// TaskDefaults are what publishing a task of a known name falls back to, where neither the call nor its
// signature says otherwise.
type TaskDefaults struct {
	Queue, Exchange, RoutingKey string // "": by routing
	Priority                    *int
	Expires                     time.Duration // 0: none
	Serializer, Compression     string
	DeliveryMode                int           // 1 transient, 2 persistent, 0: the default
	HardLimit, SoftLimit        time.Duration // 0: none
	IgnoreResult                *bool         // nil: the receiving worker decides
}

// builtins are the tasks every Celery worker has registered, so it never publishes them as unknown.
var builtins = map[string]TaskDefaults{
	"celery.accumulate":      {IgnoreResult: new(bool)},
	"celery.backend_cleanup": {IgnoreResult: new(bool)},
	"celery.chain":           {IgnoreResult: new(bool)},
	"celery.chord":           {IgnoreResult: new(bool)},
	"celery.chord_unlock":    {IgnoreResult: yes()},
	"celery.chunks":          {IgnoreResult: new(bool)},
	"celery.group":           {IgnoreResult: new(bool)},
	"celery.map":             {IgnoreResult: new(bool)},
	"celery.starmap":         {IgnoreResult: new(bool)},
}

func yes() *bool { b := true; return &b }

func (e *Env) defaults(name string) (TaskDefaults, bool) {
	d, ok := e.Tasks[name]
	if !ok {
		d, ok = builtins[name]
	}
	return d, ok
}

// A run is one call of this package: what it has published so far, what it may still cost, and its first
// error. After an error everything goes on harmlessly to its end, and the caller drops the result.
type run struct {
	env     *Env
	effects []Effect
	trail   []*result // what a running task records as its children
	work    int
	bytes   int
	err     error
}

var errNoID = errors.New("canvas: Env.NewID is required")

func newRun(env *Env) *run {
	r := &run{env: env}
	switch {
	case env == nil:
		r.err, r.env = errors.New("canvas: no Env"), &Env{NewID: func() string { return "" }}
	case env.NewID == nil:
		e := *env
		e.NewID = func() string { return "" }
		r.err, r.env = errNoID, &e
	}
	return r
}

func (r *run) fail(part string, err error) {
	if r.err == nil {
		r.err = &SignatureError{Part: part, Err: err}
	}
}

// spend counts one signature read, copied or written.
func (r *run) spend() {
	if r.work++; r.work > maxWork {
		r.fail("canvas", fmt.Errorf("%w: more than %d copies of signatures", ErrTooLarge, maxWork))
	}
}

func (r *run) emit(e Effect) {
	if r.err == nil {
		r.effects = append(r.effects, e)
	}
}

// children are the trail as a result document lists it.
func (r *run) children() []protocol.Value {
	out := make([]protocol.Value, len(r.trail))
	for i, res := range r.trail {
		out[i] = r.tuple(res)
	}
	return out
}
