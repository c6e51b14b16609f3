package resultbackend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// The bounds of a group tuple, which anybody may have stored.
const (
	maxTupleDepth   = 64
	maxTupleMembers = 1 << 20
)

// A Join waits for the tasks of a saved group and rebuilds its shape: lists within lists. It is shared by
// the stores that implement Chords.
type Join struct {
	// Load reads what is there of these tasks, in their order; a zero Result where there is nothing.
	Load func(ctx context.Context, taskIDs []string) ([]protocol.Result, error)
	// Changed blocks until something may have changed, or for a moment. It ends with ctx, with an error.
	Changed func(ctx context.Context) error
	// Reported are the header's parts, by task. A task that has reported without leaving a record ignores
	// its results: its value is None, as Celery has it, but a failure is a failure.
	Reported map[string]protocol.Result
	// Timeout is how long the group's own members may take; 0: as long as ctx allows.
	Timeout time.Duration
	// Nested is how long the members of groups within it may take. Celery waits for these without end.
	Nested time.Duration
}

// Run returns the group's values. Errors are a *JoinError or those of Load and Changed.
func (j Join) Run(ctx context.Context, tuple protocol.Value) ([]protocol.Value, error) {
	left := maxTupleMembers
	root, err := readTuple(tuple, 0, &left)
	if err != nil {
		return nil, Unreadable(err)
	}
	if !root.group {
		return nil, Unreadable(errors.New("the saved group is a single task"))
	}
	var own, nested []string
	for _, c := range root.children {
		if c.group {
			nested = c.tasks(nested)
		} else {
			own = append(own, c.id)
		}
	}
	results := make(map[string]protocol.Result, len(own)+len(nested))
	if err := j.wait(ctx, own, j.Timeout, results); err != nil {
		return nil, err
	}
	if err := j.wait(ctx, nested, j.Nested, results); err != nil {
		return nil, err
	}
	return root.values(results).([]protocol.Value), nil
}

// wait adds the results of the tasks once all have ended. The first failure ends it, as with Celery's
// propagate.
func (j Join) wait(ctx context.Context, ids []string, timeout time.Duration, results map[string]protocol.Result) error {
	patience := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		patience, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	for len(ids) > 0 {
		found, err := j.Load(ctx, ids)
		if err != nil {
			return err
		}
		var missing []string
		for i, r := range found {
			if part, reported := j.Reported[ids[i]]; reported && !r.Status.Ready() {
				if r = part; r.Status == protocol.Success {
					r.Value = nil
				}
			}
			switch {
			case r.Status == protocol.Failure || r.Status == protocol.Revoked:
				return failedJoin(r)
			case r.Status.Ready():
				results[ids[i]] = r
			default:
				missing = append(missing, ids[i])
			}
		}
		if ids = missing; len(ids) == 0 {
			break
		}
		if err := j.Changed(patience); err != nil {
			if ctx.Err() == nil && patience.Err() != nil {
				return JoinTimeout()
			}
			return err
		}
	}
	return nil
}

// A node is one result tuple, read.
type node struct {
	id       string
	group    bool
	children []node
}

// readTuple reads [[id, parent], null] or [[gid, parent], [child, ...]]; a bare text for [id, parent] is
// what Celery also takes.
func readTuple(v protocol.Value, depth int, left *int) (node, error) {
	pair, ok := v.([]protocol.Value)
	if !ok || len(pair) != 2 {
		return node{}, fmt.Errorf("group record: %T is no result tuple", v)
	}
	if *left--; *left < 0 || depth > maxTupleDepth {
		return node{}, errors.New("group record: too large")
	}
	head := pair[0]
	if list, ok := head.([]protocol.Value); ok && len(list) == 2 {
		head = list[0]
	}
	id, ok := head.(string)
	if !ok || id == "" {
		return node{}, errors.New("group record: a result without id")
	}
	n := node{id: id}
	if pair[1] == nil {
		return n, nil
	}
	members, ok := pair[1].([]protocol.Value)
	if !ok {
		return node{}, fmt.Errorf("group record: members are a %T", pair[1])
	}
	n.group = true
	for _, m := range members {
		child, err := readTuple(m, depth+1, left)
		if err != nil {
			return node{}, err
		}
		n.children = append(n.children, child)
	}
	return n, nil
}

// tasks appends the ids of the tasks in n.
func (n node) tasks(ids []string) []string {
	if !n.group {
		return append(ids, n.id)
	}
	for _, c := range n.children {
		ids = c.tasks(ids)
	}
	return ids
}

// values is n's value, in its shape.
func (n node) values(results map[string]protocol.Result) protocol.Value {
	if !n.group {
		return results[n.id].Value
	}
	list := make([]protocol.Value, len(n.children))
	for i, c := range n.children {
		list[i] = c.values(results)
	}
	return list
}

func failedJoin(r protocol.Result) *JoinError {
	if r.Exception != nil {
		return &JoinError{r.Exception}
	}
	return Unreadable(fmt.Errorf("task %q is %s without an exception", r.TaskID, r.Status))
}
