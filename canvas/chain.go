package canvas

import (
	"errors"
	"slices"

	"github.com/stalkworker/stalk/protocol"
)

// unroll is maybe_unroll_group: a group of one is its member.
func unroll(s *sig) *sig {
	if s.class == groupClass {
		if tasks := s.tasks(); len(tasks) == 1 {
			return tasks[0]
		}
	}
	return s
}

// ledByTask reports whether the body of a chord is a chain whose first step is no group: such a chord can
// be cut after that step (Celery 5.7).
func ledByTask(body *sig) bool {
	if body == nil || body.class != chainClass {
		return false
	}
	tasks := body.tasks()
	return len(tasks) > 0 && tasks[0].class != groupClass
}

// prepare are the arguments of _chain.prepare_steps. The zero value of clone freezes in place.
type prepare struct {
	args      []protocol.Value
	kwargs    *protocol.Object
	root      string
	linkError []protocol.Value
	lastID    string
	group     string
	chord     protocol.Value
	index     int
	clone     bool
}

// prepareSteps is _chain.prepare_steps: the steps of the chain s flattened, groups before a task made into
// chords, everything with its ids. Both lists come last step first.
func (r *run) prepareSteps(s *sig, p prepare) ([]*sig, []*result) {
	var tasks []*sig
	var results []*result
	var prev *sig
	var prevRes *result
	steps := r.head(s.tasks(), p.clone)
	for i := 0; len(steps) > 0 && r.err == nil; {
		task := r.live(steps[len(steps)-1])
		steps = steps[:len(steps)-1]
		first, last := len(steps) == 0, i == 0
		if task = r.live(unroll(task)); task.isEmptyGroup() && (len(steps) > 0 || prev != nil) {
			continue
		}
		if p.clone && task.class == chordClass && ledByTask(task.body()) {
			steps = append(steps, r.unrollBody(task)...)
			continue
		}
		switch {
		case p.clone && first:
			task = r.cloneWith(task, p.args, p.kwargs, nil)
		case p.clone:
			task = r.clone(task)
		case first:
			task.args, task.listArgs = slices.Concat(p.args, task.args), false
		}
		if task.class == chainClass {
			steps = append(steps, task.tasks()...)
			continue
		}
		if task.class == groupClass && prev != nil {
			tasks = tasks[:len(tasks)-1]
			bodyRes := results[len(results)-1]
			results = results[:len(results)-1]
			o := &protocol.Object{}
			if !prevRes.group {
				o.Set("task_id", prevRes.id)
			}
			o.Set("root_id", orNull(p.root))
			task = r.newChord(task, prev, o)
			prev = nil
			if n := len(tasks); n > 0 {
				prev = tasks[n-1]
			}
			// The rest of the chain hangs on the body's result; it is to hang on the chord's.
			if n := len(results); n > 0 {
				node := results[n-1]
				for node != nil && node.parent != bodyRes {
					node = node.parent
				}
				if node != nil {
					node.parent, prevRes = nil, node
				}
			}
		}
		var res *result
		if last {
			res = r.freeze(task, frozen{id: p.lastID, rootID: p.root, group: p.group, chord: p.chord, index: p.index})
		} else {
			res = r.freeze(task, frozen{rootID: p.root, index: -1})
		}
		i++
		if prev != nil && prevRes != nil && (prevRes.id != "" || len(prevRes.results) > 0) && prevRes.parent == nil {
			prevRes.parent = res
		}
		for _, errback := range p.linkError {
			r.linkError(task, errback)
			if task.class == chordClass && truthy(task.body()) {
				r.linkError(task.body(), errback)
			}
		}
		tasks, results = append(tasks, task), append(results, res)
		if prev, prevRes = task, res; task.class == chordClass {
			prevRes = res.oldest()
		}
	}
	switch {
	case len(results) > 0:
		s.options.Set("task_id", results[0].id)
	default:
		s.options.Set("task_id", orNull(p.lastID))
	}
	if p.clone {
		for _, t := range tasks {
			stripHeader(t)
		}
	}
	return tasks, results
}

func orNull(s string) protocol.Value {
	if s == "" {
		return nil
	}
	return s
}

// head makes sure that the first step is the first real one, which gets the partial args: leading chains
// are spliced in, leading empty groups dropped unless nothing else is left.
func (r *run) head(steps []*sig, clone bool) []*sig {
	var stripped *sig
	for len(steps) > 0 && r.err == nil {
		h := r.live(steps[0])
		if h.class == chainClass {
			if clone {
				h = r.clone(h)
			}
			steps = append(h.tasks(), steps[1:]...)
			continue
		}
		h = r.live(unroll(h))
		steps[0] = h
		if h.isEmptyGroup() && len(steps) > 1 {
			stripped, steps = h, steps[1:]
			continue
		}
		break
	}
	if stripped != nil && len(steps) == 0 {
		steps = []*sig{stripped}
	}
	return steps
}

// unrollBody is _chord._unroll_body: the chord with the first step of its body, then the other steps.
func (r *run) unrollBody(s *sig) []*sig {
	c := r.clone(s)
	body := c.body()
	steps := r.unchain(body)
	first := &protocol.Object{}
	for _, m := range body.options.Members() {
		if !chainOptions[m.Key] {
			first.Set(m.Key, m.Value)
		}
	}
	c.kwargs.Set("body", r.cloneWith(steps[0], nil, nil, first))
	return append([]*sig{c}, steps[1:]...)
}

// chainOptions are the options a chain acts on itself instead of passing them to its first step.
var chainOptions = map[string]bool{
	"chord": true, "group_id": true, "group_index": true, "link": true, "link_error": true,
	"parent_id": true, "root_id": true, "task_id": true,
}

// unchain is _chain.unchain_tasks: copies of the steps, the chain's links on the last, its errbacks on all.
func (r *run) unchain(s *sig) []*sig {
	tasks := s.tasks()
	for i, t := range tasks {
		tasks[i] = r.clone(t)
	}
	if len(tasks) == 0 {
		return tasks
	}
	for _, cb := range protocol.MaybeList(orNil(s.options, "link")) {
		r.link(tasks[len(tasks)-1], cb)
	}
	for _, cb := range protocol.MaybeList(orNil(s.options, "link_error")) {
		for _, t := range tasks {
			r.linkError(t, cb)
		}
	}
	return tasks
}

// unrollChords is _chain._unroll_chords: chords whose body can be cut are, before the chain is frozen as
// the body of a chord.
func (r *run) unrollChords(s *sig) {
	pending := s.tasks()
	var tasks []*sig
	for len(pending) > 0 && r.err == nil {
		task := r.live(pending[0])
		pending = pending[1:]
		if task.class == chainClass {
			task = r.clone(task)
			r.unrollChords(task)
		}
		if task.class == chordClass && ledByTask(task.body()) {
			pending = append(r.unrollBody(task), pending...)
		} else {
			tasks = append(tasks, task)
		}
		r.spend()
	}
	s.setTasks(tasks)
}

// stripHeader is _strip_chord_header_links: what is embedded in a message does not repeat the body of a
// chord in each of its header's members.
func stripHeader(s *sig) {
	switch s.class {
	case chordClass:
		v, _ := s.kwargs.Get("header")
		if g, ok := v.(*sig); ok {
			clearChord(g)
			stripHeader(g)
		}
		if b := s.body(); b != nil {
			stripHeader(b)
		}
	case groupClass, chainClass:
		for _, t := range s.tasks() {
			stripHeader(t)
		}
	}
}

func clearChord(s *sig) {
	s.options.Delete("chord")
	switch s.class {
	case groupClass:
		for _, t := range s.tasks() {
			clearChord(t)
		}
	case chainClass:
		if tasks := s.tasks(); len(tasks) > 0 {
			clearChord(tasks[len(tasks)-1])
		}
	case chordClass:
		if b := s.body(); b != nil {
			clearChord(b)
		}
	}
}

// applyChain is _chain.apply_async and run.
func (r *run) applyChain(s *sig, args []protocol.Value, kwargs, call *protocol.Object) *result {
	o := with(s.options, call.Members()...)
	p := &options{o: o, part: "celery.chain"}
	step := prepare{
		kwargs: kwargs, clone: true, index: -1,
		root: p.id("root_id"), group: p.id("group_id"), lastID: p.id("task_id"),
		chord: p.pop("chord"), linkError: protocol.MaybeList(p.pop("link_error")),
	}
	p.pop("parent_id")
	link := protocol.MaybeList(p.pop("link"))
	if !truthy(step.chord) {
		step.chord = nil
	}
	if n := p.whole("group_index"); n != nil {
		step.index = *n
	}
	if p.err != nil && r.err == nil {
		r.err = p.err
	}
	step.args = s.args
	if len(args) > 0 && !s.immutable {
		step.args = slices.Concat(args, s.args)
	}
	tasks, results := r.prepareSteps(s, step)
	if len(results) == 0 || r.err != nil {
		return nil
	}
	if len(link) > 0 {
		tasks[0].extend("link", link)
	}
	first := tasks[len(tasks)-1]
	rest := make([]protocol.Value, len(tasks)-1)
	for i, t := range tasks[:len(tasks)-1] {
		rest[i] = r.wire(t) // shared by all messages of a group
	}
	if outer, _ := o.Get("chain"); outer != nil {
		l, ok := outer.([]protocol.Value)
		if !ok {
			r.fail("celery.chain.options.chain", errors.New("is no list"))
			return nil
		}
		rest = slices.Concat(l, rest)
	}
	o.Set("chain", rest)
	res := r.apply(first, nil, nil, o)
	if len(tasks) == 1 {
		return res
	}
	return results[0]
}
