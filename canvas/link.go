package canvas

import (
	"bytes"
	"errors"
	"math/big"
	"slices"

	"github.com/stalkworker/stalk/protocol"
)

// linked are the callbacks under an option, one or a list of them.
func (s *sig) linked(key string) []*sig {
	v, _ := s.options.Get(key)
	switch v := v.(type) {
	case *sig:
		return []*sig{v}
	case []protocol.Value:
		return sigs(&list{items: v})
	}
	return nil
}

// listOption is _with_list_option.
func (s *sig) listOption(key string) []protocol.Value {
	v, _ := s.options.Get(key)
	switch v := v.(type) {
	case nil:
		return nil
	case []protocol.Value:
		return slices.Clone(v)
	}
	return []protocol.Value{v}
}

// extend appends to a list option.
func (s *sig) extend(key string, more []*sig) {
	items := s.listOption(key)
	for _, m := range more {
		items = append(items, m)
	}
	s.options.Set(key, items)
}

// addTo is append_to_list_option: what is in the list already is not added again.
func (r *run) addTo(s *sig, key string, callback *sig) {
	items := s.listOption(key)
	for _, have := range items {
		r.spend()
		if h, ok := have.(*sig); ok && equal(h, callback) {
			s.options.Set(key, items)
			return
		}
	}
	s.options.Set(key, append(items, callback))
}

// link is link() of each class: a group passes it to its first member, a chord to its body.
func (r *run) link(s, callback *sig) {
	switch s.class {
	case groupClass:
		c := r.clone(r.live(callback))
		r.setImmutable(c)
		tasks := s.tasks()
		if len(tasks) == 0 {
			r.fail("celery.group", errors.New("an empty group takes no callback"))
			return
		}
		r.link(tasks[0], c)
	case chordClass:
		r.link(s.body(), callback)
	default:
		r.addTo(s, "link", callback)
	}
}

// linkError is link_error() of each class: a group passes it to every member, a chord to its body, to chords
// in its header, and to the header's members if the app allows that.
func (r *run) linkError(s, errback *sig) {
	if r.err != nil {
		return
	}
	r.spend()
	switch s.class {
	case groupClass:
		for _, t := range s.tasks() {
			r.linkError(t, r.clone(r.live(errback)))
		}
	case chordClass:
		errback = r.live(errback)
		for _, t := range s.headerTasks() {
			if r.env.AllowErrbackOnHeader {
				// clone(immutable=True) sets an option of that name, not the flag.
				r.linkError(t, r.cloneWith(errback, nil, nil, protocol.ObjectOf(protocol.Member{Key: "immutable", Value: true})))
			}
		}
		for _, t := range s.headerTasks() {
			if t.class == chordClass {
				r.linkError(t, errback)
			}
		}
		r.linkError(s.body(), errback)
	default:
		r.addTo(s, "link_error", errback)
	}
}

// setImmutable is set_immutable() of each class.
func (r *run) setImmutable(s *sig) {
	switch s.class {
	case groupClass:
		for _, t := range s.tasks() {
			r.setImmutable(t)
		}
	case chordClass:
		for _, t := range s.headerTasks() {
			r.setImmutable(t)
		}
	default:
		s.immutable = true
	}
}

// equal is Python's == of what signatures hold.
func equal(a, b protocol.Value) bool { return equalAt(a, b, 0) }

func equalAt(a, b protocol.Value, depth int) bool {
	if depth > 4*maxDepth {
		return false
	}
	depth++
	switch a := a.(type) {
	case *sig:
		b, ok := b.(*sig)
		return ok && (a == b || a.task == b.task && a.kind == b.kind && a.immutable == b.immutable &&
			equalAt(a.args, b.args, depth) && equalAt(a.kwargs, b.kwargs, depth) && equalAt(a.options, b.options, depth))
	case *list:
		b, ok := b.(*list)
		return ok && equalAt(a.items, b.items, depth)
	case []protocol.Value:
		b, ok := b.([]protocol.Value)
		return ok && slices.EqualFunc(a, b, func(x, y protocol.Value) bool { return equalAt(x, y, depth) })
	case *protocol.Object:
		b, ok := b.(*protocol.Object)
		if !ok || a.Len() != b.Len() {
			return false
		}
		for _, m := range a.Members() {
			v, there := b.Get(m.Key)
			if !there || !equalAt(m.Value, v, depth) {
				return false
			}
		}
		return true
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case *big.Int:
		b, ok := b.(*big.Int)
		return ok && a.Cmp(b) == 0
	case protocol.Set:
		b, ok := b.(protocol.Set)
		return ok && equalAt([]protocol.Value(a), []protocol.Value(b), depth)
	case nil, bool, int64, float64, string, protocol.DateTime, protocol.Date, protocol.Decimal, protocol.UUID:
		return comparable(b) && a == b
	}
	return false
}

func comparable(v protocol.Value) bool {
	switch v.(type) {
	case nil, bool, int64, float64, string, protocol.DateTime, protocol.Date, protocol.Decimal, protocol.UUID:
		return true
	}
	return false
}
