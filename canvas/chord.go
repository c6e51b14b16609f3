package canvas

import (
	"slices"

	"github.com/stalkworker/stalk/protocol"
)

// bodyOptions are the call's options for the body: its parent will be the part that completes the header.
func bodyOptions(o *protocol.Object) *protocol.Object {
	c := o.Clone()
	c.Delete("parent_id")
	return c
}

// applyChord is _chord.apply_async.
func (r *run) applyChord(s *sig, args []protocol.Value, kwargs, call *protocol.Object) *result {
	p := &options{o: call.Clone(), part: "celery.chord"}
	id := p.id("task_id")
	if !s.immutable && len(args) > 0 {
		args = slices.Concat(args, s.args)
	} else {
		args = s.args
	}
	body := s.body()
	if given, ok := kwargs.Get("body"); ok {
		kwargs = kwargs.Clone()
		kwargs.Delete("body")
		if b, ok := given.(*sig); ok {
			body = b
		}
	}
	own, _ := s.kwargs.Get("kwargs")
	if o, ok := own.(*protocol.Object); ok {
		kwargs = with(o, kwargs.Members()...)
	}
	delay := &protocol.Object{}
	for _, key := range []string{"countdown", "eta"} {
		if v, _ := p.o.Get(key); v != nil {
			delay.Set(key, p.pop(key))
		}
	}
	callbacks := &protocol.Object{}
	for _, key := range []string{"link", "link_error"} {
		if v, there := p.o.Get(key); there {
			callbacks.Set(key, v)
			p.o.Delete(key)
		}
	}
	body = r.cloneWith(body, nil, nil, bodyOptions(p.o))
	header, _ := s.kwargs.Get("header")
	var group *sig
	if g, ok := header.(*sig); ok {
		group = r.clone(g)
	} else {
		l := s.list("header")
		gid := r.newID(s.option("task_id"))
		group = newGroup(&list{items: slices.Clone(l.items)}, protocol.ObjectOf(protocol.Member{Key: "task_id", Value: gid}))
	}
	merged := with(with(s.options, p.o.Members()...), callbacks.Members()...)
	merged.Delete("countdown")
	merged.Delete("eta")
	m := &options{o: merged, part: "celery.chord"}
	if optionID := m.id("task_id"); id == "" {
		id = optionID
	}
	if p.err == nil {
		p.err = m.err
	}
	if p.err != nil && r.err == nil {
		r.err = p.err
	}
	return r.runChord(s, group, body, args, kwargs, id, delay, merged)
}

// runChord is _chord.run.
func (r *run) runChord(s, header, body *sig, args []protocol.Value, kwargs *protocol.Object, id string, delay, call *protocol.Object) *result {
	if r.err != nil {
		return nil
	}
	p := &options{o: call, part: "celery.chord"}
	unlock := protocol.ObjectOf(
		protocol.Member{Key: "interval", Value: p.pop("interval")},
		protocol.Member{Key: "max_retries", Value: p.pop("max_retries")},
	)
	p.pop("eager")
	gid := r.newID(header.option("task_id"))
	root := body.option("root_id")
	o := with(s.options, call.Members()...)
	for _, key := range []string{"countdown", "eta"} {
		v, _ := o.Get(key)
		if _, set := delay.Get(key); !set && v != nil {
			delay.Set(key, v)
		}
		o.Delete(key)
	}
	if o.Len() > 0 {
		o.Delete("task_id")
		body = r.addBodyCallbacks(body, o)
		for _, m := range bodyOptions(o).Members() {
			body.options.Set(m.Key, m.Value)
		}
	}
	if body.class == chainClass {
		r.unrollChords(body)
	}
	bodyRes := r.freeze(body, frozen{id: r.newID(id), group: gid, rootID: root, index: -1})
	stripHeader(body)
	o.Delete("chain")
	o.Delete("chord")
	o.Delete("task_id")
	header.options.Set("task_id", gid)
	gid, results := r.freezeGroup(header, frozen{group: gid, chord: body, rootID: root, index: -1})
	headerRes := &result{id: gid, group: true, results: results}
	if len(header.tasks()) > 0 {
		r.announce(headerRes, body, unlock)
		apply := with(o, delay.Members()...)
		apply.Set("task_id", gid)
		headerRes = r.applyGroup(header, args, kwargs, apply)
	} else {
		r.apply(body, []protocol.Value{[]protocol.Value{}}, nil, nil)
	}
	if bodyRes != nil {
		bodyRes.parent = headerRes
	}
	return bodyRes
}

// announce is Backend.apply_chord: what a chord needs before its header is sent.
func (r *run) announce(header *result, body *sig, unlock *protocol.Object) {
	if !r.env.NativeChords {
		r.sendUnlock(header, body, unlock)
		return
	}
	begin := ChordBegin{GroupID: header.id}
	for _, m := range header.results {
		if m.group {
			begin.Record = r.tuple(header)
			break
		}
	}
	r.emit(begin)
}

// sendUnlock is Backend.fallback_chord_unlock: the task that polls the header goes where the body goes.
func (r *run) sendUnlock(header *result, body *sig, kwargs *protocol.Object) {
	tuples := make([]protocol.Value, len(header.results))
	for i, m := range header.results {
		tuples[i] = r.tuple(m)
	}
	kwargs.Set("result", tuples)
	known, _ := r.env.defaults(body.task)
	o := protocol.ObjectOf(protocol.Member{Key: "countdown", Value: int64(1)})
	queue := body.option("queue")
	if queue == "" {
		queue = known.Queue
	}
	if queue == "" {
		dest, err := r.env.Routes.Route(body.task, nil)
		if err != nil {
			r.fail(body.task, err)
			return
		}
		if dest.Queue != nil {
			queue = dest.Queue.Name
		}
	}
	o.Set("queue", queue)
	priority, set := body.options.Get("priority")
	if !set {
		if _, registered := r.env.defaults(body.task); registered {
			priority = intValue(known.Priority)
		} else {
			priority = int64(0)
		}
	}
	o.Set("priority", priority)
	stamps := map[string]bool{}
	if names, _ := body.options.Get("stamped_headers"); names != nil {
		l, _ := names.([]protocol.Value)
		for _, n := range l {
			if t, ok := n.(string); ok {
				stamps[t] = true
			}
		}
	}
	for _, key := range []string{"exchange", "exchange_type", "routing_key", "headers"} {
		if v, _ := body.options.Get(key); v != nil && !stamps[key] {
			o.Set(key, v)
		}
	}
	if _, set := o.Get("exchange_type"); !set {
		if q, ok := r.env.Routes.Queue(queue); ok {
			o.Set("exchange_type", q.ExchangeType)
		}
	}
	if kind, set := o.Get("exchange_type"); set {
		kwargs.Set("_chord_unlock_exchange_type", kind)
	}
	r.sendTask("celery.chord_unlock", "celery.chord_unlock", []protocol.Value{header.id, r.wire(body)}, kwargs, o)
}

// addBodyCallbacks is _chord._add_body_callbacks: link and link_error of a chord's options go to its body,
// of which a copy is returned when there are any.
func (r *run) addBodyCallbacks(body *sig, o *protocol.Object) *sig {
	link, _ := o.Get("link")
	linkError, _ := o.Get("link_error")
	o.Delete("link")
	o.Delete("link_error")
	callbacks, errbacks := protocol.MaybeList(link), protocol.MaybeList(linkError)
	if len(callbacks) > 0 || len(errbacks) > 0 {
		body = r.cloneMembers(body)
	}
	for _, v := range callbacks {
		cb := r.cloneMembers(r.callback(v))
		if body.isEmptyGroup() {
			r.addTo(body, "link", cb)
		} else {
			r.link(body, cb)
		}
	}
	for _, eb := range errbacks {
		if body.class == groupClass {
			r.linkErrorToBody(body, r.callback(eb), true)
		} else {
			r.addTo(body, "link_error", eb)
		}
	}
	return body
}

// cloneMembers is _clone_with_members: clone shares the members of a group, and linking changes them.
func (r *run) cloneMembers(s *sig) *sig {
	s = r.clone(r.live(s))
	if r.err != nil {
		return s
	}
	switch s.class {
	case groupClass:
		tasks := s.tasks()
		for i, t := range tasks {
			tasks[i] = r.cloneMembers(t)
		}
		s.setTasks(tasks)
	case chordClass:
		s.kwargs.Set("body", r.cloneMembers(s.body()))
	}
	return s
}

// linkErrorToBody is _link_error_to_body_tasks.
func (r *run) linkErrorToBody(s, errback *sig, asGroup bool) {
	if r.err != nil {
		return
	}
	switch s.class {
	case groupClass:
		if own, _ := s.options.Get("link_error"); asGroup && own != nil {
			r.addTo(s, "link_error", r.clone(errback))
			return
		}
		for _, t := range s.tasks() {
			r.linkErrorToBody(t, errback, false)
		}
	case chordClass:
		r.linkErrorToBody(s.body(), errback, true)
	default:
		r.linkError(s, r.clone(errback))
	}
}
