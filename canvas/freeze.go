package canvas

import (
	"errors"
	"slices"

	"github.com/stalkworker/stalk/protocol"
)

// frozen are the arguments of Signature.freeze: what a signature gets before it is sent, unless it has it.
type frozen struct {
	id       string
	group    string
	chord    protocol.Value // signature of the body; nil: none
	rootID   string
	parentID string
	index    int // of the group; -1: none
}

func (r *run) newID(want string) string {
	if want != "" {
		return want
	}
	return r.env.NewID()
}

// freeze gives s and what is within it their ids, in place, and returns what its result will be.
func (r *run) freeze(s *sig, f frozen) *result {
	if r.err != nil {
		return &result{}
	}
	r.spend()
	switch s.class {
	case chainClass:
		_, results := r.prepareSteps(s, prepare{args: s.args, root: f.rootID, lastID: f.id, group: f.group, chord: f.chord, index: f.index})
		if len(results) == 0 {
			r.fail("celery.chain", errors.New("an empty chain has no result"))
			return &result{}
		}
		return results[0]
	case groupClass:
		gid, results := r.freezeGroup(s, f)
		return &result{id: gid, group: true, results: results}
	case chordClass:
		return r.freezeChord(s, f)
	}
	id := s.option("task_id")
	if id == "" {
		id = r.newID(f.id)
		s.options.Set("task_id", id)
	}
	s.set("root_id", f.rootID)
	s.set("parent_id", f.parentID)
	if _, there := s.options.Get("reply_to"); !there {
		s.options.Set("reply_to", r.env.ReplyTo)
	}
	if _, there := s.options.Get("group_id"); !there {
		s.set("group_id", f.group)
	}
	if truthy(f.chord) {
		s.options.Set("chord", f.chord)
	}
	if f.index >= 0 {
		s.options.Set("group_index", int64(f.index))
	}
	return &result{id: id}
}

// set sets a text option if there is a text.
func (s *sig) set(key, value string) {
	if value != "" {
		s.options.Set(key, value)
	}
}

// freezeGroup is group._freeze_group_tasks: nested groups are flattened, empty chains dropped, and the
// list of members is replaced in place.
func (r *run) freezeGroup(s *sig, f frozen) (string, []*result) {
	gid := s.option("task_id")
	if gid == "" {
		gid = r.env.NewID()
		s.options.Set("task_id", gid)
	}
	s.set("group_id", f.group)
	if truthy(f.chord) {
		s.options.Set("chord", f.chord)
	}
	if f.index >= 0 {
		s.options.Set("group_index", int64(f.index))
	}
	orDefault := func(key, value string) string {
		if v, there := s.options.Get(key); there {
			t, _ := v.(string)
			return t
		}
		var v protocol.Value
		if value != "" {
			v = value
		}
		s.options.Set(key, v)
		return value
	}
	root, parent := orDefault("root_id", f.rootID), orDefault("parent_id", f.parentID)
	stack := slices.Clone(s.tasks())
	slices.Reverse(stack) // the next one last
	var members []protocol.Value
	var results []*result
	for len(stack) > 0 && r.err == nil {
		task := r.clone(r.live(stack[len(stack)-1]))
		stack = stack[:len(stack)-1]
		switch {
		case task.class == groupClass:
			// As Celery's extendleft: the members of a nested group come out in reverse order.
			stack = append(stack, task.tasks()...)
		case task.class == chainClass && len(task.tasks()) == 0:
		default:
			results = append(results, r.freeze(task, frozen{group: f.group, chord: f.chord, rootID: root, parentID: parent, index: len(members)}))
			members = append(members, task)
		}
	}
	s.list("tasks").items = members
	return gid, results
}

func (r *run) freezeChord(s *sig, f frozen) *result {
	group := r.chordGroup(s)
	header := r.freeze(group, frozen{parentID: f.parentID, rootID: f.rootID, chord: s.body(), index: -1})
	s.options.Set("task_id", group.option("task_id"))
	body := r.freeze(s.body(), frozen{id: f.id, rootID: f.rootID, chord: f.chord, group: f.group, index: f.index})
	seen := map[string]bool{}
	for node := body; ; node = node.parent {
		if seen[node.id] {
			r.fail("celery.chord", errors.New("two tasks of the canvas have the same id"))
			break
		}
		seen[node.id] = true
		if node.parent == nil {
			node.parent = header
			break
		}
	}
	return body
}

// chordGroup is the header of a chord as a group, which it becomes when it is a list.
func (r *run) chordGroup(s *sig) *sig {
	v, _ := s.kwargs.Get("header")
	if g, ok := v.(*sig); ok {
		return g
	}
	l, _ := v.(*list)
	if l == nil {
		l = &list{}
	}
	g := newGroup(l, &protocol.Object{})
	s.kwargs.Set("header", g)
	return g
}
