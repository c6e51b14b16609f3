package canvas

import (
	"github.com/stalkworker/stalk/protocol"
)

// A Plan is what applying a signature comes to.
type Plan struct {
	Effects []Effect
	// Result is the tuple of what the caller may wait for: [[id, parent], null] of a task,
	// [[id, parent], [member, ...]] of a group; nil when nothing was applied.
	Result protocol.Value
	// Children are the tuples that the running task records, in the order sent; empty without Env.Parent.
	Children []protocol.Value
}

// ID is the id of the result.
func (p Plan) ID() string {
	tuple, _ := p.Result.([]protocol.Value)
	if len(tuple) == 0 {
		return ""
	}
	head, _ := tuple[0].([]protocol.Value)
	if len(head) == 0 {
		return ""
	}
	id, _ := head[0].(string)
	return id
}

func (r *run) plan(res *result) (Plan, error) {
	p := Plan{Effects: r.effects, Children: r.children()}
	if res != nil {
		p.Result = r.tuple(res)
	}
	if r.err != nil {
		return Plan{}, r.err
	}
	return p, nil
}

// Apply is apply_async: what sending s now with args before its own arguments, kwargs over its own and
// options over its own publishes. Each of them may be nil. Null options of the call mean not given.
func Apply(s Signature, args []protocol.Value, kwargs, options *protocol.Object, env *Env) (Plan, error) {
	if err := s.Err(); err != nil {
		return Plan{}, err
	}
	r := newRun(env)
	res := r.apply(r.parse(s.Value(), named(s.name()), 0), args, kwargs, options)
	return r.plan(res)
}
