package canvas

import (
	"errors"

	"github.com/stalkworker/stalk/protocol"
)

// apply is apply_async of whatever s is. call are the options of the call; a null one that a composite gets
// is passed on as null, as in Celery.
func (r *run) apply(s *sig, args []protocol.Value, kwargs, call *protocol.Object) *result {
	if r.err != nil {
		return nil
	}
	r.spend()
	s = r.live(s)
	switch s.class {
	case chainClass:
		return r.applyChain(s, args, kwargs, call)
	case groupClass:
		return r.applyGroup(s, args, kwargs, call)
	case chordClass:
		return r.applyChord(s, args, kwargs, call)
	}
	return r.applyTask(s, args, kwargs, call)
}

var errGroupLink = errors.New("a group takes no link: use a chord, or link its members")

// applyGroup is group.apply_async.
func (r *run) applyGroup(s *sig, args []protocol.Value, kwargs, call *protocol.Object) *result {
	p := &options{o: call.Clone(), part: "celery.group"}
	addToParent, told := p.o.Get("add_to_parent")
	p.pop("add_to_parent")
	if p.pop("link") != nil || p.pop("link_error") != nil {
		r.fail("celery.group", errGroupLink)
		return nil
	}
	if len(s.tasks()) == 0 {
		return r.freeze(s, frozen{index: -1})
	}
	p.o = mergeOptions(s, p.o, false)
	gid := p.id("task_id")
	gid = r.newID(gid)
	p.o.Set("group_id", gid)
	root := text(p.o, "root_id")
	chord := p.pop("chord")
	p.pop("group_index")
	if p.err != nil && r.err == nil {
		r.err = p.err
	}

	members, results := r.prepareMembers(s, gid, root, nil, nil, 0)
	size := 0
	var shared sharedBody
	for i, m := range members {
		if r.err != nil {
			return nil
		}
		body := chord
		if body == nil {
			body, _ = m.options.Get("chord")
		}
		if s, ok := body.(*sig); ok {
			body = shared.wire(r, s)
		}
		size += r.descend(m, 0)
		if body != nil && i == len(members)-1 && r.env.NativeChords {
			r.emit(ChordSize{GroupID: gid, N: size})
		}
		each := protocol.ObjectOf(protocol.Member{Key: "add_to_parent", Value: false}, protocol.Member{Key: "chord", Value: body})
		r.apply(m, args, kwargs, with(each, p.o.Members()...))
	}
	res := &result{id: gid, group: true, results: results}
	if len(results) == 1 && results[0].group {
		res = results[0]
	}
	if !told || truthy(addToParent) {
		r.record(res)
	}
	return res
}

// A sharedBody is the body of a chord in the messages of its header: members hold a copy each, and as long as
// the copies are equal the messages share one value. Otherwise a header of thousands with a long body would
// take their product in memory.
type sharedBody struct {
	from    *sig
	options *protocol.Object
	value   protocol.Value
}

func (b *sharedBody) wire(r *run, s *sig) protocol.Value {
	options := r.wireMembers(s.options)
	if b.from == nil || b.from.kwargs != s.kwargs || b.from.task != s.task || b.from.kind != s.kind ||
		b.from.immutable != s.immutable || !equal(b.from.args, s.args) || !equal(b.options, options) {
		b.from, b.options, b.value = s, options, r.wire(s)
	}
	return b.value
}

// prepareMembers is group._prepared: copies of the members with their ids, nested groups flattened, each
// with an index of its own kind.
func (r *run) prepareMembers(s *sig, gid, root string, members []*sig, results []*result, depth int) ([]*sig, []*result) {
	if depth > maxDepth {
		r.fail("celery.group", ErrTooLarge)
		return members, results
	}
	for index, task := range s.tasks() {
		if r.err != nil {
			break
		}
		if task.dict {
			task = r.live(task)
		} else {
			task = r.clone(task)
		}
		switch {
		case task.class == groupClass:
			members, results = r.prepareMembers(task, gid, root, members, results, depth+1)
		case task.class == chainClass && len(task.tasks()) == 0:
		default:
			results = append(results, r.freeze(task, frozen{group: gid, rootID: root, index: index}))
			members = append(members, task)
		}
	}
	return members, results
}

// descend is _chord._descend: how many parts a member of a chord's header reports.
func (r *run) descend(s *sig, depth int) int {
	r.spend()
	if s == nil || r.err != nil || depth > maxDepth {
		return 0
	}
	switch s.class {
	case groupClass:
		n := 0
		for _, t := range s.tasks() {
			n += r.descend(t, depth+1)
		}
		return n
	case chainClass:
		tasks := s.tasks()
		for i := len(tasks) - 1; i >= 0; i-- {
			if n := r.descend(tasks[i], depth+1); n > 0 {
				return n
			}
		}
		return 0
	case chordClass:
		return r.descend(s.body(), depth+1)
	}
	return 1
}
