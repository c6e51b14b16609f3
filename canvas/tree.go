package canvas

import (
	"slices"

	"github.com/stalkworker/stalk/protocol"
)

// The functions of this package are Celery's (celery/canvas.py of 5.7), and what they publish depends on
// which copies share which parts. So the working form of a signature shares and copies exactly where
// Python's does: sig is a Signature object or, with dict set, the plain dict of one; options and kwargs are
// references; list is a Python list of signatures. Values that are no signature are never changed in place.

// A class is the Python class of a signature.
type class uint8

const (
	taskClass class = iota
	chainClass
	groupClass
	chordClass
	mapClass
	starmapClass
	chunksClass
)

var classes = map[string]class{
	"": taskClass, "chain": chainClass, "group": groupClass, "chord": chordClass,
	"xmap": mapClass, "xstarmap": starmapClass, "chunks": chunksClass,
}

type sig struct {
	task      string
	args      []protocol.Value
	kwargs    *protocol.Object // may hold *sig and *list
	options   *protocol.Object // may hold *sig and lists of them
	kind      string           // subtask_type; "" null
	class     class
	immutable bool
	flagged   bool // immutable is written even if false, not left null
	listArgs  bool // args are a list, as in a message, and no tuple: matters to == alone
	dict      bool // its class's constructor has not run
	extra     []protocol.Member
}

type list struct{ items []protocol.Value }

// tasks are the steps of a chain or the members of a group.
func (s *sig) tasks() []*sig { return sigs(s.list("tasks")) }

// setTasks gives s a list of its own.
func (s *sig) setTasks(tasks []*sig) { s.kwargs.Set("tasks", listOf(tasks)) }

func (s *sig) list(key string) *list {
	v, _ := s.kwargs.Get(key)
	if l, ok := v.(*list); ok {
		return l
	}
	return &list{}
}

// sigs are the signatures of a list; whatever builds one puts nothing else in.
func sigs(l *list) []*sig {
	out := make([]*sig, 0, len(l.items))
	for _, v := range l.items {
		if s, ok := v.(*sig); ok {
			out = append(out, s)
		}
	}
	return out
}

func listOf(tasks []*sig) *list {
	l := &list{items: make([]protocol.Value, len(tasks))}
	for i, t := range tasks {
		l.items[i] = t
	}
	return l
}

// body is the body of a chord; parse refuses a chord without one.
func (s *sig) body() *sig {
	v, _ := s.kwargs.Get("body")
	b, _ := v.(*sig)
	return b
}

// headerTasks are the members of a chord's header, whichever form it has.
func (s *sig) headerTasks() []*sig {
	v, _ := s.kwargs.Get("header")
	switch h := v.(type) {
	case *list:
		return sigs(h)
	case *sig:
		return h.tasks()
	}
	return nil
}

// option is a text option; "" when it is missing, null or no text.
func (s *sig) option(key string) string { return text(s.options, key) }

func text(o *protocol.Object, key string) string {
	v, _ := o.Get(key)
	t, _ := v.(string)
	return t
}

func (s *sig) isEmptyGroup() bool { return s.class == groupClass && len(s.tasks()) == 0 }

// newSig is a live signature of the class.
func newSig(c class, task, kind string, kwargs, options *protocol.Object) *sig {
	return &sig{task: task, kind: kind, class: c, kwargs: kwargs, options: options, flagged: true}
}

func newChain(tasks []*sig, options *protocol.Object) *sig {
	return newSig(chainClass, "celery.chain", "chain", protocol.ObjectOf(protocol.Member{Key: "tasks", Value: listOf(tasks)}), options)
}

// newGroup shares the list, as Python does.
func newGroup(tasks *list, options *protocol.Object) *sig {
	return newSig(groupClass, "celery.group", "group", protocol.ObjectOf(protocol.Member{Key: "tasks", Value: tasks}), options)
}

// newChord is chord(header, body, **options): a header that is a group or a chain loses everything but its
// members.
func (r *run) newChord(header protocol.Value, body *sig, options *protocol.Object) *sig {
	kwargs := protocol.ObjectOf(
		protocol.Member{Key: "kwargs", Value: &protocol.Object{}},
		protocol.Member{Key: "header", Value: r.headerList(header)},
		protocol.Member{Key: "body", Value: r.live(body)},
	)
	return newSig(chordClass, "celery.chord", "chord", kwargs, options)
}

// headerList is _maybe_group.
func (r *run) headerList(v protocol.Value) *list {
	switch h := v.(type) {
	case *sig:
		if h.dict {
			h = r.live(h)
		} else {
			h = r.clone(h)
		}
		if h.class == groupClass || h.class == chainClass {
			return h.list("tasks")
		}
		return listOf([]*sig{h})
	case *list:
		out := make([]*sig, 0, len(h.items))
		for _, t := range sigs(h) {
			if t.dict {
				out = append(out, r.live(t))
			} else {
				out = append(out, r.clone(t))
			}
		}
		return listOf(out)
	}
	return &list{}
}

// live is maybe_signature: a live signature stays the object it is, a dict goes through its class's
// from_dict. A chain and a group lose their own args and immutable on the way, as in Celery.
func (r *run) live(s *sig) *sig {
	if !s.dict {
		return s
	}
	r.spend()
	switch s.class {
	case chainClass:
		tasks := s.tasks()
		for i, t := range tasks {
			tasks[i] = r.live(t)
		}
		return newChain(tasks, s.options.Clone())
	case groupClass:
		tasks := s.tasks()
		for i, t := range tasks {
			tasks[i] = r.live(t)
		}
		l := listOf(tasks)
		s.kwargs.Set("tasks", l)
		return newGroup(l, s.options.Clone())
	case chordClass:
		header, _ := s.kwargs.Get("header")
		rest := &protocol.Object{}
		for _, m := range s.kwargs.Members() {
			if m.Key != "header" && m.Key != "body" {
				rest.Set(m.Key, m.Value)
			}
		}
		if rest.Len() == 0 {
			rest.Set("kwargs", &protocol.Object{})
		}
		rest.Set("header", r.headerList(header))
		rest.Set("body", r.live(s.body()))
		return &sig{
			task: s.task, args: s.args, kind: "chord", class: chordClass, immutable: s.immutable, flagged: s.flagged,
			kwargs: rest, options: s.options.Clone(), extra: s.extra,
		}
	case mapClass, starmapClass, chunksClass:
		c := *s
		c.dict, c.immutable, c.flagged, c.kind, c.args = false, true, true, "", nil
		c.options = s.options.Clone()
		return &c
	}
	c := *s
	c.dict = false
	return &c
}

// clone is Signature.clone() and those of chain and chord.
func (r *run) clone(s *sig) *sig { return r.cloneWith(s, nil, nil, nil) }

func (r *run) cloneWith(s *sig, args []protocol.Value, kwargs, options *protocol.Object) *sig {
	a, k, o := s.args, s.kwargs, s.options
	if len(args) > 0 || kwargs.Len() > 0 || options.Len() > 0 {
		a, k, o = merge(s, args, kwargs, options)
	}
	if k == s.kwargs {
		k = k.Clone()
	}
	n := r.live(&sig{
		task: s.task, args: slices.Clone(a), kwargs: k, options: r.copyOptions(o), kind: s.kind, class: classes[s.kind],
		immutable: s.immutable, flagged: s.flagged, dict: true, extra: s.extra,
	})
	switch n.class {
	case chainClass:
		tasks := n.tasks()
		for i, t := range tasks {
			tasks[i] = r.clone(t)
		}
		n.setTasks(tasks)
	case chordClass:
		if b := n.body(); b != nil {
			n.kwargs.Set("body", r.clone(b))
		}
	}
	return n
}

// merge is Signature._merge: partial args first, kwargs and options of the call over the signature's own,
// except for the options that may not change.
func merge(s *sig, args []protocol.Value, kwargs, options *protocol.Object) ([]protocol.Value, *protocol.Object, *protocol.Object) {
	merged := s.options
	if options != nil {
		merged = mergeOptions(s, options, true)
	}
	if s.immutable {
		return s.args, s.kwargs, merged
	}
	a, k := s.args, s.kwargs
	if len(args) > 0 {
		a = slices.Concat(args, s.args)
	}
	if kwargs.Len() > 0 {
		k = s.kwargs.Clone()
		for _, m := range kwargs.Members() {
			k.Set(m.Key, m.Value)
		}
	}
	return a, k, merged
}

// mergeOptions overlays the signature's options with the call's; group_id, stamped_headers and, if asked
// for, each declared stamp keep the signature's value.
func mergeOptions(s *sig, options *protocol.Object, stamps bool) *protocol.Object {
	fixed := map[string]bool{"group_id": true, "stamped_headers": true}
	if stamps {
		names, _ := s.options.Get("stamped_headers")
		if l, ok := names.([]protocol.Value); ok {
			for _, n := range l {
				if t, ok := n.(string); ok {
					fixed[t] = true
				}
			}
		}
	}
	merged := s.options.Clone()
	for _, m := range options.Members() {
		if _, there := s.options.Get(m.Key); there && fixed[m.Key] {
			continue
		}
		merged.Set(m.Key, m.Value)
	}
	return merged
}

// copyOptions is deepcopy of options: a signature in them becomes a plain dict, with options of its own
// while args and kwargs stay shared (Signature.__deepcopy__).
func (r *run) copyOptions(o *protocol.Object) *protocol.Object {
	c := o.Clone()
	for _, m := range o.Members() {
		switch m.Value.(type) {
		case *sig, []protocol.Value:
			c.Set(m.Key, r.copyValue(m.Value))
		}
	}
	return c
}

func (r *run) copyValue(v protocol.Value) protocol.Value {
	switch v := v.(type) {
	case *sig:
		r.spend()
		if r.err != nil {
			return v
		}
		c := *v
		c.options = r.copyOptions(v.options)
		if v.dict {
			c.kwargs = v.kwargs.Clone()
			for _, key := range []string{"tasks", "header", "body"} {
				if inner, ok := c.kwargs.Get(key); ok {
					c.kwargs.Set(key, r.copyValue(inner))
				}
			}
		}
		c.dict = true
		return &c
	case *list:
		return &list{items: r.copyItems(v.items)}
	case []protocol.Value:
		for _, e := range v {
			if _, ok := e.(*sig); ok {
				return r.copyItems(v)
			}
		}
	}
	return v
}

func (r *run) copyItems(items []protocol.Value) []protocol.Value {
	out := make([]protocol.Value, len(items))
	for i, e := range items {
		out[i] = r.copyValue(e)
	}
	return out
}

func emptyOptions() *protocol.Object { return &protocol.Object{} }
