package canvas

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/stalkworker/stalk/protocol"
)

// AfterFailure is what the failure of a task causes after its own record is stored
// (celery/backends/base.py, mark_as_failure): the part of its chord, then FAILURE for every step that was
// still to come, with the parts of those that belong to a chord, then the errbacks. Without storeResults
// the steps are not marked, while parts and errbacks stay.
//
// Parts are left out where the result store counts none (Env.NativeChords).
//
// Celery enters the body of a chord step; this enters chains and groups as well, so that whoever waits for
// a member of one is told.
//
// An error names what could not be read; the effects are everything else and are to be done all the same.
func AfterFailure(t *protocol.Task, exc *protocol.Exception, traceback string, env *Env, storeResults bool) ([]Effect, error) {
	f := newFailing(onBehalf(t, env), exc, traceback, storeResults)
	f.seen[t.ID] = true
	if part, ok := PartOf(t); ok && f.env != nil && f.env.NativeChords {
		part.State, part.Exception = protocol.Failure, exc
		f.effects = append(f.effects, part)
	}
	f.chain(t.Chain)
	f.errbacks(t.Errbacks, t.ID, cmp.Or(t.RootID, t.ID))
	return f.effects, errors.Join(f.errs...)
}

// AfterRevoked is what follows a task that was revoked or expired, where the result store counts parts: the
// part of its chord, and those of the chords that the rest of its chain was to reach, which Celery leaves
// hanging. The steps of the chain themselves and the errbacks are left alone, as Celery leaves them.
func AfterRevoked(t *protocol.Task, exc *protocol.Exception, env *Env) []Effect {
	if env == nil || !env.NativeChords {
		return nil
	}
	f := newFailing(onBehalf(t, env), exc, "", false)
	f.seen[t.ID] = true
	if part, ok := PartOf(t); ok {
		part.State, part.Exception = protocol.Revoked, exc
		f.effects = append(f.effects, part)
	}
	f.chain(t.Chain) // what of it cannot be read has nobody to tell
	return f.effects
}

// AfterUnknown is what follows a task whose name nobody here serves: its chord, and who waits for the rest of
// its chain, are told. Celery leaves both hanging. Its errbacks are left alone, as Celery leaves them.
func AfterUnknown(t *protocol.Task, exc *protocol.Exception, env *Env) ([]Effect, error) {
	without := *t
	without.Errbacks = nil
	return AfterFailure(&without, exc, "", env, true)
}

// failing collects what one failure causes.
type failing struct {
	env       *Env
	exc       *protocol.Exception
	traceback string
	store     bool
	effects   []Effect
	errs      []error
	trail     []protocol.Value // what the running task has sent, errbacks included
	seen      map[string]bool  // ids that were told
	parts     map[string]bool
	work      int
}

func newFailing(env *Env, exc *protocol.Exception, traceback string, store bool) *failing {
	var trail []protocol.Value
	if env != nil {
		trail = slices.Clone(env.Trail)
	}
	return &failing{trail: trail, env: env, exc: exc, traceback: traceback, store: store, seen: map[string]bool{}, parts: map[string]bool{}}
}

// step is what is told of a step that will not run.
type step struct {
	v       *protocol.Object
	options *protocol.Object
	kwargs  *protocol.Object
	id      string
	kind    string
}

func stepOf(v protocol.Value) (step, bool) {
	o, ok := v.(*protocol.Object)
	if !ok {
		return step{}, false
	}
	s := step{v: o, id: protocol.SignatureID(v), kind: text(o, "subtask_type")}
	options, _ := o.Get("options")
	s.options, _ = options.(*protocol.Object)
	kwargs, _ := o.Get("kwargs")
	s.kwargs, _ = kwargs.(*protocol.Object)
	return s, true
}

// maxSteps bounds how many steps one failure tells.
const maxSteps = 200_000

// chain is Backend._fail_chain.
func (f *failing) chain(steps []protocol.Value) {
	pending := steps[:len(steps):len(steps)]
	for i := 0; i < len(pending); i++ {
		if f.work++; f.work > maxSteps {
			f.errs = append(f.errs, &SignatureError{Part: "chain", Err: fmt.Errorf("%w: more than %d steps fail with it", ErrTooLarge, maxSteps)})
			return
		}
		s, ok := stepOf(pending[i])
		if !ok {
			f.errs = append(f.errs, &SignatureError{Part: fmt.Sprintf("chain[%d]", i), Err: fmt.Errorf("is %s, want a signature", describe(pending[i]))})
			continue
		}
		members := s.members()
		f.record(s)
		if len(members) == 0 || s.kind == "chord" {
			// The parts of a group are those of its members.
			f.part(s)
		}
		pending = append(pending, members...)
	}
}

// members is what inside a step somebody may wait for: the body of a chord, every step of a chain and every
// member of a group.
func (s step) members() []protocol.Value {
	switch s.kind {
	case "chord":
		if body, _ := s.kwargs.Get("body"); body != nil {
			return []protocol.Value{body}
		}
	case "chain", "group":
		v, _ := s.kwargs.Get("tasks")
		tasks, _ := v.([]protocol.Value)
		return tasks
	}
	return nil
}

// record stores the failure under the step's id, once.
func (f *failing) record(s step) {
	if s.id == "" || f.seen[s.id] {
		return
	}
	f.seen[s.id] = true
	if !f.store {
		return
	}
	x := &protocol.Extended{Name: protocol.SignatureName(s.v), Kwargs: s.kwargs}
	args, _ := s.v.Get("args")
	x.Args, _ = args.([]protocol.Value)
	if n, ok := s.options.Get("retries"); ok {
		i, _ := n.(int64)
		x.Retries = int(min(max(i, 0), 1<<31))
	}
	f.effects = append(f.effects, StoreFailure{
		TaskID: s.id, GroupID: text(s.options, "group_id"), ParentID: text(s.options, "parent_id"),
		ReplyTo: text(s.options, "reply_to"), Exception: f.exc, Traceback: f.traceback, Extended: x,
	})
}

// part reports the step's part of its chord, once.
func (f *failing) part(s step) {
	if f.env == nil || !f.env.NativeChords {
		return // nobody counts
	}
	body, there := s.options.Get("chord")
	gid := text(s.options, "group_id")
	if !there || !truthy(body) || gid == "" || s.id == "" || f.parts[gid+"\x00"+s.id] {
		return
	}
	f.parts[gid+"\x00"+s.id] = true
	index, _ := s.options.Get("group_index")
	if _, ok := number(index); !ok {
		index = nil
	}
	f.effects = append(f.effects, Part{
		TaskID: s.id, GroupID: gid, Index: index, Body: body, State: protocol.Failure, Exception: f.exc, NeverRan: true,
	})
}

// errbacks is Backend._call_task_errbacks: those of the new style are called here, all others leave as one
// group with the failed id.
func (f *failing) errbacks(errbacks []protocol.Value, id, root string) {
	if len(errbacks) == 0 {
		return
	}
	r := newRun(f.env)
	tasks := make([]*sig, 0, len(errbacks))
	for i, eb := range errbacks {
		one := newRun(f.env)
		s := one.live(one.parse(eb, named("errbacks").at(i), 0))
		switch {
		case one.err != nil:
			f.errs = append(f.errs, one.err)
		case s.class == taskClass && f.env != nil && f.env.Errback != nil && f.env.Errback(s.task, s.args, s.kwargs, s.immutable):
			f.effects = append(f.effects, CallErrback{
				Task: s.task, Args: s.args, Kwargs: s.kwargs, Immutable: s.immutable,
				FailedID: id, RootID: root, Exception: f.exc, Traceback: f.traceback,
			})
		default:
			tasks = append(tasks, s)
		}
	}
	if len(tasks) == 0 {
		return
	}
	call := protocol.ObjectOf(
		protocol.Member{Key: "parent_id", Value: id},
		protocol.Member{Key: "root_id", Value: root},
	)
	r.apply(newGroup(listOf(tasks), emptyOptions()), []protocol.Value{id}, nil, call)
	p, err := r.plan(nil)
	if err != nil {
		f.errs = append(f.errs, err)
		return
	}
	f.effects = append(f.effects, p.Effects...)
	f.trail = append(f.trail, p.Children...)
}
