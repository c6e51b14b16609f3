package canvas

import (
	"errors"
	"fmt"

	"github.com/stalkworker/stalk/protocol"
)

// A SignatureError says that something that ought to be a signature is none, or one that cannot run, and
// where it stands: "callbacks[0]", "chain[2].kwargs.tasks[1]". A worker fails the task that brought it; its
// text may be shown to the caller.
type SignatureError struct {
	Part string
	Err  error
}

func (e *SignatureError) Error() string { return "canvas: " + e.Part + ": " + e.Err.Error() }
func (e *SignatureError) Unwrap() error { return e.Err }

// ErrTooLarge is wrapped by the error for a canvas past the limits (see the package comment).
var ErrTooLarge = errors.New("the canvas is too large")

// The limits of one call.
const (
	maxDepth = 200       // signatures within signatures
	maxWork  = 2_000_000 // signatures read, copied or written
	maxBytes = 512 << 20 // of the messages together, about
)

func describe(v protocol.Value) string {
	switch v := v.(type) {
	case nil:
		return "missing or null"
	case string:
		return "a text"
	case []protocol.Value:
		return fmt.Sprintf("a list of %d", len(v))
	case *protocol.Object:
		return "an object"
	}
	return fmt.Sprintf("%T", v)
}

// parse reads a signature as it travels: an object with task, args, kwargs and options; subtask_type and
// immutable may be missing, args, kwargs and options null. The steps of a chain, the members of a group, the
// header and body of a chord are read as well, and it is an error if they are not there or if nobody knows
// the subtask_type. Signatures in options (link, link_error, chain, chord) are handed on as they came and
// read when it is their turn.
func (r *run) parse(v protocol.Value, part place, depth int) *sig {
	if r.err != nil {
		return &sig{kwargs: &protocol.Object{}, options: &protocol.Object{}}
	}
	r.spend()
	s := &sig{dict: true, listArgs: r.env != scratch, kwargs: &protocol.Object{}, options: &protocol.Object{}}
	bad := func(at, format string, args ...any) *sig {
		if at != "" {
			at = "." + at
		}
		r.fail(part.String()+at, fmt.Errorf(format, args...))
		s.class = taskClass // it may lack what its class needs
		return s
	}
	o, ok := v.(*protocol.Object)
	if !ok {
		return bad("", "is %s, want a signature", describe(v))
	}
	if depth >= maxDepth {
		return bad("", "%w: more than %d signatures within each other", ErrTooLarge, maxDepth)
	}
	for _, key := range []string{"task", "args", "kwargs", "options"} {
		if _, there := o.Get(key); !there {
			return bad("", "is no signature: it has no %q", key)
		}
	}
	for _, m := range o.Members() {
		ok := true
		switch m.Key {
		case "task":
			s.task, ok = m.Value.(string)
			ok = ok && s.task != ""
		case "args":
			if m.Value != nil {
				s.args, ok = m.Value.([]protocol.Value)
			}
		case "kwargs", "options":
			own := s.kwargs
			if m.Key == "options" {
				own = s.options
			}
			if m.Value != nil {
				var given *protocol.Object
				if given, ok = m.Value.(*protocol.Object); ok {
					*own = *given.Clone()
				}
			}
		case "subtask_type":
			if m.Value != nil {
				s.kind, ok = m.Value.(string)
			}
		case "immutable":
			s.immutable, s.flagged = truthy(m.Value), m.Value != nil
		default:
			s.extra = append(s.extra, m)
		}
		if !ok {
			return bad(m.Key, "is %s", describe(m.Value))
		}
	}
	if s.class, ok = classes[s.kind]; !ok {
		return bad("subtask_type", "%q is not known", s.kind)
	}
	switch s.class {
	case chainClass, groupClass:
		tasks, ok := s.kwargs.Get("tasks")
		items, isList := tasks.([]protocol.Value)
		if !ok || !isList {
			return bad("kwargs.tasks", "is %s, want a list of signatures", describe(tasks))
		}
		s.kwargs.Set("tasks", r.parseList(items, part.in(".kwargs.tasks"), depth+1))
	case chordClass:
		header, _ := s.kwargs.Get("header")
		switch h := header.(type) {
		case []protocol.Value:
			s.kwargs.Set("header", r.parseList(h, part.in(".kwargs.header"), depth+1))
		case *protocol.Object:
			s.kwargs.Set("header", r.parse(h, part.in(".kwargs.header"), depth+1))
		default:
			return bad("kwargs.header", "is %s, want signatures", describe(header))
		}
		body, _ := s.kwargs.Get("body")
		s.kwargs.Set("body", r.parse(body, part.in(".kwargs.body"), depth+1))
	case mapClass, starmapClass, chunksClass:
		for _, key := range []string{"task", "it"} {
			if _, ok := s.kwargs.Get(key); !ok {
				return bad("kwargs", "has no %q", key)
			}
		}
	}
	if id, there := s.options.Get("task_id"); there && id != nil {
		if t, ok := id.(string); !ok || len(t) > protocol.MaxIDBytes {
			return bad("options.task_id", "is no id")
		}
	}
	return s
}

func (r *run) parseItems(items []protocol.Value, part place, depth int) []protocol.Value {
	out := make([]protocol.Value, len(items))
	for i, v := range items {
		out[i] = r.parse(v, part.at(i), depth)
		if r.err != nil {
			break
		}
	}
	return out
}

func (r *run) parseList(items []protocol.Value, part place, depth int) *list {
	return &list{items: r.parseItems(items, part, depth)}
}

// A place is where a signature stands. It becomes a text only when there is something wrong with it.
type place struct {
	outer *place
	name  string // before the index
	index int    // -1: none
}

func named(name string) place { return place{name: name, index: -1} }

func (p place) in(name string) place { return place{outer: &p, name: name, index: -1} }

func (p place) at(i int) place {
	p.index = i
	return p
}

func (p place) String() string {
	s := p.name
	if p.index >= 0 {
		s += fmt.Sprintf("[%d]", p.index)
	}
	if p.outer != nil {
		s = p.outer.String() + s
	}
	return s
}

// truthy is Python's bool(v) for what a signature may hold.
func truthy(v protocol.Value) bool {
	if s, ok := v.(*sig); ok { // a group has a length
		return !s.isEmptyGroup()
	}
	return protocol.Truthy(v)
}

// wire is the signature as it travels now: a copy that later changes do not reach.
func (r *run) wire(v protocol.Value) protocol.Value {
	switch v := v.(type) {
	case *sig:
		return r.wireSig(v)
	case *list:
		return r.wireItems(v.items)
	case []protocol.Value:
		for _, e := range v {
			switch e.(type) {
			case *sig, *list:
				return r.wireItems(v)
			}
		}
	}
	return v
}

func (r *run) wireSig(s *sig) protocol.Value {
	r.spend()
	if r.err != nil {
		return nil
	}
	var kind protocol.Value
	if s.kind != "" {
		kind = s.kind
	}
	var flag protocol.Value
	if s.immutable || s.flagged {
		flag = s.immutable
	}
	args := s.args
	if args == nil {
		args = []protocol.Value{}
	}
	o := protocol.ObjectOf(
		protocol.Member{Key: "task", Value: s.task},
		protocol.Member{Key: "args", Value: args},
		protocol.Member{Key: "kwargs", Value: r.wireMembers(s.kwargs)},
		protocol.Member{Key: "options", Value: r.wireMembers(s.options)},
		protocol.Member{Key: "subtask_type", Value: kind},
		protocol.Member{Key: "immutable", Value: flag},
	)
	for _, m := range s.extra {
		o.Set(m.Key, m.Value)
	}
	return o
}

func (r *run) wireMembers(o *protocol.Object) *protocol.Object {
	c := o.Clone()
	for _, m := range o.Members() {
		switch m.Value.(type) {
		case *sig, *list, []protocol.Value:
			c.Set(m.Key, r.wire(m.Value))
		}
	}
	return c
}

func (r *run) wireItems(items []protocol.Value) []protocol.Value {
	out := make([]protocol.Value, len(items))
	for i, e := range items {
		out[i] = r.wire(e)
	}
	return out
}
