package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// results is the result store by what it can do; it is the one place that asks.
type results struct {
	loader  resultbackend.Loader    // nil: nothing can be read
	waiter  resultbackend.Waiter    // nil: the loader is polled
	forget  resultbackend.Forgetter // nil: nothing is stored that could be deleted
	replies resultbackend.Replies   // nil: results are stored, not sent
}

func resultsOf(b resultbackend.Backend) results {
	var r results
	if p, ok := b.(resultbackend.Replier); ok {
		r.replies = p.Replies()
		r.loader, r.waiter = r.replies, r.replies
		return r
	}
	r.loader, _ = b.(resultbackend.Loader)
	r.waiter, _ = b.(resultbackend.Waiter)
	r.forget, _ = b.(resultbackend.Forgetter)
	return r
}

// stored reports whether other processes can read the results too, as celery.chord_unlock must.
func (r results) stored() bool { return r.loader != nil && r.replies == nil }

// replyQueue is where workers are to send results; "" when they store them.
func (r results) replyQueue(ctx context.Context) (string, error) {
	if r.replies == nil {
		return "", nil
	}
	return r.replies.Listen(ctx)
}

// expect announces the tasks of res, so that their replies are kept until they are asked for.
func (r results) expect(res *AsyncResult) {
	if r.replies == nil {
		return
	}
	res.tasks(func(t *AsyncResult) { r.replies.Expect(t.ID) })
}

// load is the record, or one of state PENDING when there is none.
func (r results) load(ctx context.Context, id string) (protocol.Result, error) {
	if r.loader == nil {
		return protocol.Result{}, ErrNoResults
	}
	res, err := r.loader.Load(ctx, id)
	if errors.Is(err, resultbackend.ErrNotFound) {
		return protocol.Result{TaskID: id, Status: protocol.Pending}, nil
	}
	return res, err
}

// The pauses of polling, and between two tries to reach a store that is away.
const (
	pollBase = 20 * time.Millisecond
	pollMax  = time.Second
)

// wait blocks until the task has ended. A store that is away is asked again until ctx ends.
func (r results) wait(ctx context.Context, id string) (protocol.Result, error) {
	if r.loader == nil {
		return protocol.Result{}, ErrNoResults
	}
	var last error
	for d := pollBase; ; d = min(2*d, pollMax) {
		res, err := r.once(ctx, id)
		if err == nil && res.Status.Ready() || err != nil && (ctx.Err() != nil || !errors.Is(err, resultbackend.ErrUnavailable)) {
			return res, waited(ctx, id, err, last)
		}
		last = err
		if !pause(ctx, d) {
			return res, waited(ctx, id, ctx.Err(), last)
		}
	}
}

// once waits, or looks.
func (r results) once(ctx context.Context, id string) (protocol.Result, error) {
	if r.waiter != nil {
		return r.waiter.Wait(ctx, id)
	}
	return r.load(ctx, id)
}

// waited says why waiting ended without a result; last is why the store could not be reached before.
func waited(ctx context.Context, id string, err, last error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil:
		return fmt.Errorf("client: result of task %q: %w", id, err)
	case last != nil:
		return fmt.Errorf("client: waiting for task %q: %w (%v)", id, ctx.Err(), last)
	}
	return fmt.Errorf("client: waiting for task %q: %w", id, ctx.Err())
}
