package handlers

import (
	"context"

	"github.com/stalkworker/stalk/protocol"
)

// Invoke runs a task. Its error is one of: a *RetryError, a *RejectError, ErrIgnore (all possibly
// wrapped), a *protocol.Exception, or any other error (the worker makes RuntimeError of it).
type Invoke func(ctx context.Context, t *protocol.Task) (any, error)

// Middleware is the only extension point around execution. It runs in the task's own goroutine, once per run,
// between the worker's limits and the handler: it may look at the task, change the context, and change the
// value or the error. It must not keep or change the task. A panic, its own too, is caught by the worker.
type Middleware func(next Invoke) Invoke

// Wrap returns the handler with m around its Invoke. Handler.As undoes it: call As first.
func (h Handler) Wrap(m Middleware) Handler {
	h.invoke = m(h.invoke)
	return h
}

// Chain makes one middleware of many; the first is the outermost. Nil members are left out, and a Chain of
// nothing returns next itself.
func Chain(ms ...Middleware) Middleware {
	return func(next Invoke) Invoke {
		for i := len(ms) - 1; i >= 0; i-- {
			if ms[i] != nil {
				next = ms[i](next)
			}
		}
		return next
	}
}
