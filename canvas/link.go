package canvas

import (
	"bytes"
	"errors"
	"math/big"
	"slices"

	"github.com/stalkworker/stalk/protocol"
)

// Callbacks are kept as they came, a plain value or a signature that this package made, and read only where
// Celery reads them.

// callback is maybe_signature of a callback.
func (r *run) callback(v protocol.Value) *sig {
	if s, ok := v.(*sig); ok {
		return r.live(s)
	}
	return r.live(r.parse(v, named("callback"), 0))
}

func orNil(o *protocol.Object, key string) protocol.Value {
	v, _ := o.Get(key)
	return v
}

// extend is extend_list_option.
func (s *sig) extend(key string, more []protocol.Value) {
	s.options.Set(key, slices.Concat(protocol.MaybeList(orNil(s.options, key)), more))
}

// addTo is append_to_list_option: what is in the list already is not added again.
func (r *run) addTo(s *sig, key string, callback protocol.Value) {
	items := protocol.MaybeList(orNil(s.options, key))
	if !r.contains(items, callback) {
		items = append(slices.Clip(items), callback)
	}
	s.options.Set(key, items)
}

// contains is Python's in: a list holds something equal.
func (r *run) contains(items []protocol.Value, v protocol.Value) bool {
	if len(items) == 0 {
		return false
	}
	r.work += len(items)
	r.spend()
	if r.err != nil {
		return true
	}
	return slices.ContainsFunc(items, func(have protocol.Value) bool { return r.same(have, v) })
}

// same is == of two callbacks. In Python one that came in a message and one that was copied since differ even
// if they say the same: the arguments are a list here and a tuple there.
func (r *run) same(a, b protocol.Value) bool {
	s, ok := a.(*sig)
	t, ok2 := b.(*sig)
	switch {
	case r.env == scratch: // nothing has been in a message yet
		return equal(r.wire(a), r.wire(b))
	case ok && !ok2:
		return s.listArgs && equal(r.wire(s), b)
	case ok2 && !ok:
		return t.listArgs && equal(r.wire(t), a)
	}
	return equal(a, b)
}

// link is link() of each class: a group passes it to its first member, a chord to its body.
func (r *run) link(s *sig, callback protocol.Value) {
	switch s.class {
	case groupClass:
		c := r.clone(r.callback(callback))
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
func (r *run) linkError(s *sig, errback protocol.Value) {
	if r.err != nil {
		return
	}
	r.spend()
	switch s.class {
	case groupClass:
		for _, t := range s.tasks() {
			r.linkError(t, r.clone(r.callback(errback)))
		}
	case chordClass:
		eb := r.callback(errback)
		header := s.headerTasks()
		if v, _ := s.kwargs.Get("header"); v != nil {
			if g, ok := v.(*sig); ok { // a group is one thing to Celery here, so chords in it are passed over
				header = []*sig{g}
			}
		}
		for _, t := range header {
			if r.env.AllowErrbackOnHeader {
				// clone(immutable=True) sets an option of that name, not the flag.
				r.linkError(t, r.cloneWith(eb, nil, nil, protocol.ObjectOf(protocol.Member{Key: "immutable", Value: true})))
			}
		}
		for _, t := range header {
			if t.class == chordClass {
				r.linkError(t, eb)
			}
		}
		r.linkError(s.body(), eb)
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

// equal is Python's == of plain values.
func equal(a, b protocol.Value) bool { return equalAt(a, b, 0) }

func equalAt(a, b protocol.Value, depth int) bool {
	if depth > 4*maxDepth {
		return false
	}
	depth++
	switch a := a.(type) {
	case *sig:
		b, ok := b.(*sig)
		return ok && (a == b || a.task == b.task && a.kind == b.kind && a.immutable == b.immutable && a.listArgs == b.listArgs &&
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
