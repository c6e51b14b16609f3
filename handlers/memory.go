package handlers

import (
	"context"
	"errors"
	"fmt"
)

// ErrBudget is wrapped by Reserve's error when a task asks for more than all tasks together may have. Returned uncaught it
// fails the task with a MemoryError that names both figures.
var ErrBudget = errors.New("handlers: more memory than the worker's budget")

// Reserve tells the worker that the running task is about to need so many bytes, and waits until the tasks that run beside it
// leave them free: tasks of very different sizes then share one process (or container) without ending it. The figure
// is an estimate of the peak; nothing measures whether the task keeps to it.
//
// It replaces what the task had reserved before, which is free for others while this one waits: so no two tasks wait for each
// other. What is reserved is given back when the handler returns, and by Reserve(ctx, 0).
//
// The error is context.Cause(ctx) when the context ended first, and wraps ErrBudget when bytes is more than the budget. A worker without a
// budget, handlerstest, and code outside a task reserve nothing and return nil at once.
func Reserve(ctx context.Context, bytes int64) error {
	if bytes < 0 {
		return fmt.Errorf("handlers: Reserve: %d bytes, want 0 or more", bytes)
	}
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		if h, ok := s.host.(Reserver); ok {
			return h.Reserve(ctx, bytes)
		}
	}
	return nil
}

// A Reserver is a Host of a worker that has a memory budget.
type Reserver interface {
	Reserve(ctx context.Context, bytes int64) error
}
