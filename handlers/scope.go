package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// ErrNoTask: the context does not belong to a running task.
var ErrNoTask = errors.New("handlers: not inside a task: pass on the context that the handler was given")

// Info is what a handler may know of its task. Its pointers and slices are shared with the task's message:
// read them, do not change them.
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
	SoftLimit, HardLimit              time.Duration // of this run: the message's, else the handler's, else the worker's; 0: none
	Nesting                           int           // how often the task was replaced on its way here
	Properties                        protocol.Properties
}

// A Host is what the worker lends to a running handler; handlerstest has a fake. Its methods may be called
// from many goroutines.
type Host interface {
	// Report stores a state of the running task. It returns an error once the task is over.
	Report(ctx context.Context, s protocol.State, meta protocol.Value) error
	// Spawn sends the signature as a child of the running task.
	Spawn(ctx context.Context, s Signature) (Sent, error)
	// AddToChord sends the signature as one more part of the chord header that the running task is part of.
	AddToChord(ctx context.Context, s Signature) (Sent, error)
}

// scope is what a task's context carries.
type scope struct {
	info Info
	host Host
}

type scopeKey struct{}

// NewContext returns a context in which InfoFrom, Progress and Report work. The worker calls it; host may be
// nil, and then reports are refused with ErrNoTask.
func NewContext(ctx context.Context, info Info, host Host) context.Context {
	return context.WithValue(ctx, scopeKey{}, &scope{info: info, host: host})
}

// InfoFrom returns what is known of the task running in ctx, and whether there is one.
func InfoFrom(ctx context.Context) (Info, bool) {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		return s.info, true
	}
	return Info{}, false
}

// HostFrom returns the Host of the task running in ctx, and whether it has one. It is for who runs a handler in another
// place than the worker's own process; handlers use Report, Spawn and AddToChord.
func HostFrom(ctx context.Context) (Host, bool) {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok && s.host != nil {
		return s.host, true
	}
	return nil, false
}

// Logger is where a handler writes what its users should find in the worker's log: lines bear the task's name and id
// and have the format worker_task_log_format, as those of Celery's get_task_logger. Outside a task, or where the Host
// has no log, it is slog.Default.
func Logger(ctx context.Context) *slog.Logger {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		if h, ok := s.host.(interface{ Logger() *slog.Logger }); ok {
			return h.Logger()
		}
	}
	return slog.Default()
}

// Progress stores the state PROGRESS with meta, which AsyncResult.info shows. It is Report with that state.
func Progress(ctx context.Context, meta any) error { return Report(ctx, protocol.Progress, meta) }

// Report stores a state of the caller's own making with meta, anything protocol.FromGo takes. It returns when
// the result store has it, or why not; a handler may go on either way. Outside a task the error is ErrNoTask.
//
// The states that end a task or hold an exception (SUCCESS, FAILURE, REVOKED, RETRY) are refused: a waiting
// caller would take the first for the result and could not read the rest. Return from the handler instead.
func Report(ctx context.Context, s protocol.State, meta any) error {
	sc, ok := ctx.Value(scopeKey{}).(*scope)
	if !ok || sc.host == nil {
		return ErrNoTask
	}
	switch {
	case s == "":
		return errors.New("handlers: Report: the state is empty")
	case s.Ready() || s.Exceptional():
		return fmt.Errorf("handlers: Report: state %q is set by how the handler returns", s)
	}
	value, err := protocol.FromGo(meta)
	if err != nil {
		return fmt.Errorf("handlers: Report: state %q: %w", s, err)
	}
	return sc.host.Report(ctx, s, value)
}
