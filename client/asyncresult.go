package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// An AsyncResult is what a task that was sent will return: Python's AsyncResult, or GroupResult where
// Group is set. It holds no result: each method asks the store. It is safe for concurrent use.
type AsyncResult struct {
	ID string
	// Parent is the step before: of a chain's last step the one before it, of a chord's body the header.
	// nil: none.
	Parent *AsyncResult
	// Children are a group's members in order; nil for a task.
	Children []*AsyncResult
	Group    bool

	client  *Client
	ignored bool
}

// Result is a task by its id, whoever sent it.
func (c *Client) Result(id string) *AsyncResult { return &AsyncResult{ID: id, client: c} }

// The bounds of a result tuple, which may come from a record.
const (
	maxDepth = 100
	maxNodes = 1 << 20
	maxLine  = 100_000 // steps of a chain
)

// ResultOf reads a result tuple, such as a record's Children hold: [[id, parent], null] of a task,
// [[id, parent], [member, ...]] of a group.
func (c *Client) ResultOf(tuple protocol.Value) (*AsyncResult, error) {
	return c.resultOf(tuple, nil)
}

func (c *Client) resultOf(tuple protocol.Value, ignored map[string]bool) (*AsyncResult, error) {
	left := maxNodes
	return c.read(tuple, ignored, 0, &left)
}

func (c *Client) read(tuple protocol.Value, ignored map[string]bool, depth int, left *int) (*AsyncResult, error) {
	var last *AsyncResult
	end := &last // where the next parent goes: a long chain is a long line of them
	for n := 0; ; n++ {
		if *left--; *left < 0 || depth > maxDepth || n > maxLine {
			return nil, errors.New("client: result tuple: too large")
		}
		pair, ok := tuple.([]protocol.Value)
		if !ok || len(pair) != 2 {
			return nil, fmt.Errorf("client: %.200s is no result tuple", protocol.Repr(tuple))
		}
		res := &AsyncResult{client: c}
		var parent protocol.Value
		switch head := pair[0].(type) {
		case string:
			res.ID = head
		case []protocol.Value:
			if len(head) == 2 {
				res.ID, _ = head[0].(string)
				parent = head[1]
			}
		}
		if res.ID == "" {
			return nil, errors.New("client: result tuple: a result without id")
		}
		res.ignored = ignored[res.ID]
		members, isGroup := pair[1].([]protocol.Value)
		if pair[1] != nil && !isGroup {
			return nil, errors.New("client: result tuple: members that are no list")
		}
		res.Group = isGroup
		for _, m := range members {
			child, err := c.read(m, ignored, depth+1, left)
			if err != nil {
				return nil, err
			}
			res.Children = append(res.Children, child)
		}
		*end, end = res, &res.Parent
		if parent == nil {
			return last, nil
		}
		tuple = parent
	}
}

// tasks calls f with every task in r: itself, what came before it, and the members of groups.
func (r *AsyncResult) tasks(f func(*AsyncResult)) {
	for ; r != nil; r = r.Parent {
		if !r.Group {
			f(r)
		}
		for _, c := range r.Children {
			c.tasks(f)
		}
	}
}

// Record is what the store knows of the task now; PENDING when it knows nothing. A group has none.
func (r *AsyncResult) Record(ctx context.Context) (protocol.Result, error) {
	if r.Group {
		return protocol.Result{}, fmt.Errorf("client: group %q has no record of its own", r.ID)
	}
	res, err := r.client.results.load(ctx, r.ID)
	if err != nil {
		return res, fmt.Errorf("client: result of task %q: %w", r.ID, err)
	}
	return res, nil
}

// State is the task's state now. Of a group it is SUCCESS when all members succeeded, else the state of the
// first of them, in order, that failed or was revoked, else PENDING.
func (r *AsyncResult) State(ctx context.Context) (protocol.State, error) {
	if !r.Group {
		res, err := r.Record(ctx)
		return res.Status, err
	}
	all := protocol.Success
	for _, c := range r.Children {
		switch s, err := c.State(ctx); {
		case err != nil:
			return "", err
		case s.Ready() && s != protocol.Success:
			return s, nil
		case s != protocol.Success:
			all = protocol.Pending
		}
	}
	return all, nil
}

// Ready reports whether the task, or every member of the group, has ended.
func (r *AsyncResult) Ready(ctx context.Context) (bool, error) {
	if !r.Group {
		s, err := r.State(ctx)
		return s.Ready(), err
	}
	for _, c := range r.Children {
		if ready, err := c.Ready(ctx); err != nil || !ready {
			return false, err
		}
	}
	return true, nil
}

// Get waits until the task has ended and stores what it returned where into points to, as protocol.ToGo
// does; nil: only waits. Of a group that is the list of what the members returned, in order.
//
// A task that failed or was revoked, in r or in a step before it, is a *protocol.Exception; of a group it
// is the first noticed. A store that is away is asked again until ctx ends; give ctx a deadline. Other
// errors are ErrIgnored, ErrNoResults, a *protocol.DecodeError, or wrap that of ctx.
func (r *AsyncResult) Get(ctx context.Context, into any) error {
	v, err := r.Value(ctx)
	if err != nil || into == nil {
		return err
	}
	if err := protocol.ToGo(v, into); err != nil {
		return fmt.Errorf("client: result of %q: %w", r.ID, err)
	}
	return nil
}

// Value is Get for those who take what comes.
func (r *AsyncResult) Value(ctx context.Context) (protocol.Value, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil) // before the Wait
	if r.Parent != nil {
		done := map[string]bool{}
		if err := r.parentError(ctx, done); err != nil {
			return nil, err
		}
		watch.Go(func() { r.watchParents(ctx, cancel, done) })
	}
	v, err := r.value(ctx)
	if failed, ok := errors.AsType[*parentFailed](context.Cause(ctx)); ok && err != nil {
		return nil, failed.exception
	}
	return v, err
}

func (r *AsyncResult) value(ctx context.Context) (protocol.Value, error) {
	if r.Group {
		return r.join(ctx)
	}
	if r.ignored {
		return nil, fmt.Errorf("%w: task %q", ErrIgnored, r.ID)
	}
	res, err := r.client.results.wait(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if exc := exceptionOf(res); exc != nil {
		return nil, exc
	}
	return res.Value, nil
}

// exceptionOf is why the task failed; nil unless it did.
func exceptionOf(r protocol.Result) *protocol.Exception {
	switch {
	case r.Status != protocol.Failure && r.Status != protocol.Revoked:
		return nil
	case r.Exception != nil:
		return r.Exception
	}
	return &protocol.Exception{Module: "builtins", Type: "Exception", Args: []protocol.Value{r.Value}, Traceback: r.Traceback}
}

// joinAtOnce bounds how many members of a group are waited for at a time.
const joinAtOnce = 1024

// join waits for all members and ends with the first failure, wherever in the group it is noticed.
func (r *AsyncResult) join(ctx context.Context) (protocol.Value, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	values := make([]protocol.Value, len(r.Children))
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error // guarded by mu
	)
	slots := make(chan struct{}, joinAtOnce)
	for i, c := range r.Children {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			v, err := c.Value(ctx) // one goroutine writes one element
			if values[i] = v; err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = err
			}
			cancel()
		})
	}
	wg.Wait()
	if first != nil {
		return nil, first
	}
	return values, nil
}

// A parentFailed ends a Get because a step before it failed: its own end may never come.
type parentFailed struct{ exception *protocol.Exception }

func (e *parentFailed) Error() string { return e.exception.Error() }

// parentsEvery is how often the steps before are looked at, as often as Celery does.
const parentsEvery = time.Second

// watchParents ends ctx when a step before has failed.
func (r *AsyncResult) watchParents(ctx context.Context, cancel context.CancelCauseFunc, done map[string]bool) {
	for pause(ctx, parentsEvery) {
		err := r.parentError(ctx, done)
		if exc, ok := errors.AsType[*protocol.Exception](err); ok {
			cancel(&parentFailed{exc})
			return
		}
	}
}

// parentError is the failure of the oldest step that failed. A store that cannot be read now is no failure.
// done are the tasks that are known to have succeeded.
func (r *AsyncResult) parentError(ctx context.Context, done map[string]bool) error {
	var failed *protocol.Exception
	for p := r.Parent; p != nil; p = p.Parent {
		p.each(func(t *AsyncResult) bool {
			if t.ignored || done[t.ID] {
				return true
			}
			res, err := r.client.results.load(ctx, t.ID)
			if err != nil {
				return false
			}
			if exc := exceptionOf(res); exc != nil {
				failed = exc
				return false
			}
			done[t.ID] = res.Status.Ready()
			return true
		})
	}
	if failed == nil {
		return nil
	}
	return failed
}

// each calls f with r, or the tasks of the group r is, until f returns false.
func (r *AsyncResult) each(f func(*AsyncResult) bool) bool {
	if !r.Group {
		return f(r)
	}
	for _, c := range r.Children {
		if !c.each(f) {
			return false
		}
	}
	return true
}

// Forget deletes what is stored for the task and the steps before it; of a group for its members. What is
// still to come is stored all the same. Where nothing is stored it does nothing.
func (r *AsyncResult) Forget(ctx context.Context) error {
	f := r.client.results.forget
	if f == nil {
		return nil
	}
	var errs []error
	r.tasks(func(t *AsyncResult) {
		if err := f.Forget(ctx, t.ID); err != nil && len(errs) == 0 {
			errs = append(errs, fmt.Errorf("client: %w", err))
		}
	})
	return errors.Join(errs...)
}
