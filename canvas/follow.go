package canvas

import (
	"github.com/stalkworker/stalk/protocol"
)

// Followed reports whether anything is to be sent when the task has succeeded. Most tasks are not, and need no Env.
func Followed(t *protocol.Task) bool { return len(t.Callbacks) > 0 || len(t.Chain) > 0 }

// AfterSuccess is what a task that returned value causes before its result is stored: its callbacks, then
// the next step of its chain (celery/app/trace.py, _dispatch_callbacks_and_chain). children are to be added
// to those the task made itself. An error is a *SignatureError: the task then fails with it, nothing is sent.
//
// env.Parent should be ParentOf(t); a nil one is taken to be that.
func AfterSuccess(t *protocol.Task, value protocol.Value, env *Env) (effects []Effect, children []protocol.Value, err error) {
	if !Followed(t) {
		return nil, nil, nil
	}
	r := newRun(onBehalf(t, env))
	args := []protocol.Value{value}
	call := r.followOptions(t)
	callbacks := make([]*sig, len(t.Callbacks))
	for i, cb := range t.Callbacks {
		callbacks[i] = r.live(r.parse(cb, named("callbacks").at(i), 0))
	}
	if len(callbacks) == 1 {
		r.apply(callbacks[0], args, nil, call)
	} else {
		var rest []*sig
		for _, cb := range callbacks {
			if cb.class == groupClass {
				r.apply(cb, args, nil, call)
			} else {
				rest = append(rest, cb)
			}
		}
		if len(rest) > 0 {
			r.apply(newGroup(listOf(rest), emptyOptions()), args, nil, call)
		}
	}
	if n := len(t.Chain); n > 0 {
		next := r.parse(t.Chain[n-1], named("chain").at(n-1), 0)
		o := protocol.ObjectOf(protocol.Member{Key: "chain", Value: t.Chain[: n-1 : n-1]})
		r.apply(next, args, nil, with(o, call.Members()...))
	}
	p, err := r.plan(nil)
	return p.Effects, p.Children, err
}

// onBehalf is env with t as the parent where none is given.
func onBehalf(t *protocol.Task, env *Env) *Env {
	if env == nil || env.Parent != nil {
		return env
	}
	e := *env
	e.Parent = ParentOf(t)
	return &e
}

// followOptions are those of every follow-up of t.
func (r *run) followOptions(t *protocol.Task) *protocol.Object {
	root := t.RootID
	if root == "" {
		root = t.ID
	}
	var priority protocol.Value
	if r.env.InheritPriority {
		priority = intValue(t.Priority)
	}
	return protocol.ObjectOf(
		protocol.Member{Key: "parent_id", Value: t.ID},
		protocol.Member{Key: "root_id", Value: root},
		protocol.Member{Key: "priority", Value: priority},
	)
}
