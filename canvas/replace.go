package canvas

import (
	"errors"
	"slices"

	"github.com/stalkworker/stalk/protocol"
)

// ErrNoChord: the task is not part of a chord's header.
var ErrNoChord = errors.New("canvas: the task is no part of a chord")

func accumulate() *sig {
	return newSig(taskClass, "celery.accumulate", "", protocol.ObjectOf(protocol.Member{Key: "index", Value: int64(0)}), emptyOptions())
}

// Replace is Task.replace: s takes the place of the running task t, under its id, with its callbacks, its
// errbacks, its place in a chord and the rest of its chain. The task then ends without a state.
func Replace(t *protocol.Task, s Signature, env *Env) (Plan, error) {
	if err := s.Err(); err != nil {
		return Plan{}, err
	}
	r := newRun(onBehalf(t, env))
	self := r.live(r.parse(s.Value(), named(s.name()), 0))
	if _, there := self.options.Get("chord"); there {
		r.fail(s.name(), errors.New("a signature that replaces a task must not be part of a chord"))
	}
	if self.class == chainClass && len(self.tasks()) == 0 {
		r.fail(s.name(), &protocol.Exception{
			Module: "celery.exceptions", Type: "ImproperlyConfigured", Args: []protocol.Value{"Cannot replace with an empty chain"},
		})
	}
	if self.class == groupClass {
		self = r.or(self, accumulate())
	}
	if self.class == chainClass {
		tasks := self.tasks()
		if n := len(tasks); n > 0 && tasks[n-1].class == groupClass {
			tasks[n-1] = r.or(tasks[n-1], accumulate())
			self.setTasks(tasks)
		}
	}
	for i, cb := range t.Callbacks {
		r.link(self, r.parse(cb, named("callbacks").at(i), 0))
	}
	for i, eb := range t.Errbacks {
		r.linkError(self, r.parse(eb, named("errbacks").at(i), 0))
	}
	if r.err != nil {
		return Plan{}, r.err
	}
	if links := protocol.MaybeList(orNil(self.options, "link")); self.class == chainClass && len(links) > 0 {
		tasks := self.tasks()
		tasks[len(tasks)-1].extend("link", links)
		self.options.Delete("link")
	}
	r.freeze(self, frozen{id: t.ID, index: -1})
	nesting := int64(t.Nesting) + 1
	self.options.Set("chord", t.Chord)
	self.options.Set("group_id", orNull(t.Group))
	self.options.Set("group_index", t.GroupIndex)
	self.options.Set("root_id", orNull(t.RootID))
	self.options.Set("replaced_task_nesting", nesting)
	if self.class == chainClass {
		for _, step := range self.tasks() {
			step.options.Set("replaced_task_nesting", nesting)
		}
	}
	rest := make([]*sig, 0, len(t.Chain))
	for i, v := range slices.Backward(t.Chain) {
		next := r.live(r.parse(v, named("chain").at(i), 0))
		next.options.Set("replaced_task_nesting", nesting)
		rest = append(rest, next)
	}
	return r.plan(r.apply(r.followedBy(self, rest), nil, nil, nil))
}

// followedBy is s | next | ... for each of the rest.
func (r *run) followedBy(s *sig, rest []*sig) *sig {
	for i, next := range rest {
		s = r.or(s, next)
		if s.class == chainClass && s.options.Len() == 0 && i+1 < len(rest) {
			// A chain without options: | copies it for every step, folding does not.
			steps := s.tasks()
			for k, next := range rest[i+1:] {
				if res := r.mergeStep(&steps, next, false); res != nil {
					return r.followedBy(res, rest[i+2+k:])
				}
			}
			return newChain(steps, emptyOptions())
		}
	}
	return s
}

// AddToChord is Task.add_to_chord: s becomes one more part of the header that the running task t is part
// of. The error is ErrNoChord when there is none. Only result stores that count parts can do it.
func AddToChord(t *protocol.Task, s Signature, env *Env) (Plan, error) {
	if err := s.Err(); err != nil {
		return Plan{}, err
	}
	part, ok := PartOf(t)
	if !ok {
		return Plan{}, ErrNoChord
	}
	r := newRun(onBehalf(t, env))
	self := r.live(r.parse(s.Value(), named(s.name()), 0))
	self.options.Set("group_id", part.GroupID)
	self.options.Set("group_index", part.Index)
	self.options.Set("chord", part.Body)
	self.options.Set("root_id", orNull(t.RootID))
	r.freeze(self, frozen{index: -1})
	r.emit(ChordGrow{GroupID: part.GroupID})
	return r.plan(r.apply(self, nil, nil, nil))
}
