package canvas

import (
	"errors"

	"github.com/stalkworker/stalk/protocol"
)

// A result is what Celery's AsyncResult (group false) and GroupResult are for the children of a record: an
// id, what came before it, and for a group its members.
type result struct {
	id      string
	parent  *result
	group   bool
	results []*result
}

// tuple is as_tuple: [[id, parent], null] for a task, [[id, parent], [member, ...]] for a group.
func (r *run) tuple(res *result) protocol.Value {
	return r.tupleAt(res, 0)
}

func (r *run) tupleAt(res *result, depth int) protocol.Value {
	r.spend()
	if depth > 4*maxDepth {
		r.fail("canvas", errors.New("the results are nested too deeply"))
	}
	if res == nil || r.err != nil {
		return nil
	}
	// A long chain is a long line of parents.
	var line []*result
	for n := res; n != nil && len(line) < maxLine; n = n.parent {
		line = append(line, n)
	}
	var parent protocol.Value
	for i := len(line) - 1; i >= 0; i-- {
		r.spend()
		var members protocol.Value
		if n := line[i]; n.group {
			tuples := make([]protocol.Value, len(n.results))
			for k, m := range n.results {
				tuples[k] = r.tupleAt(m, depth+1)
			}
			members = tuples
		}
		parent = []protocol.Value{[]protocol.Value{line[i].id, parent}, members}
	}
	return parent
}

// maxLine is how many parents a tuple shows. Each is a level of nesting in the record, and Python cannot
// write or read a record of a thousand; what is left out is only the way back from a result to the
// beginning of its chain.
const maxLine = 100

// oldest is the first of the line of parents that ends in res.
func (res *result) oldest() *result {
	for res.parent != nil {
		res = res.parent
	}
	return res
}
