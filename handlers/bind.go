package handlers

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// bind fills the struct in from a call's arguments. The error is a *protocol.Exception, a TypeError that
// speaks of called. Whether the call fits the parameters comes first, then the values in field order: Python
// would not have begun to run a function that was called wrongly.
func (s *shape) bind(called string, in reflect.Value, args []protocol.Value, kwargs *protocol.Object) error {
	call, err := s.match(called, args, kwargs)
	if err != nil {
		return err
	}
	for i, f := range s.fields {
		target := f.of(in)
		switch {
		case call.given[i].bound:
			err = f.store(called, target, call.given[i].value)
		case f.hasDefault:
			err = f.store(called, target, f.fallback)
		}
		if err != nil {
			return err
		}
	}
	if s.rest != nil && len(call.rest) > 0 {
		if err := s.rest.storeRest(called, s.rest.of(in), call.rest); err != nil {
			return err
		}
	}
	if s.others != nil {
		return s.others.storeOthers(called, s.others.of(in), call.others)
	}
	return nil
}

// A call is the arguments of one call, each at its parameter.
type call struct {
	given  []argument // by field
	rest   []protocol.Value
	others *protocol.Object // not nil when the task has **kwargs
}

// An argument is what one parameter is given; not bound: nothing, which is not None.
type argument struct {
	value protocol.Value
	bound bool
}

// match looks at a call as Python 3.11 does, in its order (Python/ceval.c, initialize_locals): which of several
// mistakes is reported depends on it.
func (s *shape) match(called string, args []protocol.Value, kwargs *protocol.Object) (call, error) {
	c := call{given: make([]argument, len(s.fields))}
	if s.others != nil {
		c.others = &protocol.Object{}
	}
	taken := min(s.positional, len(args))
	for i, v := range args[:taken] {
		c.given[i] = argument{value: v, bound: true}
	}
	c.rest = args[taken:]
	for _, m := range kwargs.Members() {
		i, known := s.byName[m.Key]
		switch {
		case !known && s.others == nil:
			return call{}, typeError(called, "got an unexpected keyword argument '%s'", m.Key)
		case !known:
			c.others.Set(m.Key, m.Value)
		case c.given[i].bound:
			return call{}, typeError(called, "got multiple values for argument '%s'", m.Key)
		default:
			c.given[i] = argument{value: m.Value, bound: true}
		}
	}
	if len(c.rest) > 0 && s.rest == nil {
		return call{}, s.tooMany(called, len(args), c.given)
	}
	for _, kind := range []struct {
		word   string
		fields []*field
		given  []argument
	}{
		{"positional", s.fields[:s.positional], c.given[:s.positional]},
		{"keyword-only", s.fields[s.positional:], c.given[s.positional:]},
	} {
		var missing []string
		for i, f := range kind.fields {
			if !kind.given[i].bound && !f.optional {
				missing = append(missing, "'"+f.name+"'")
			}
		}
		if n := len(missing); n > 0 {
			return call{}, typeError(called, "missing %d required %s argument%s: %s", n, kind.word, plural(n), listed(missing))
		}
	}
	return c, nil
}

// tooMany is Python's too_many_positional.
func (s *shape) tooMany(called string, given int, to []argument) error {
	optional, keywords := 0, 0
	for i, f := range s.fields {
		switch {
		case i < s.positional && f.optional:
			optional++
		case i >= s.positional && to[i].bound:
			keywords++
		}
	}
	takes := fmt.Sprintf("%d positional argument%s", s.positional, plural(s.positional))
	if optional > 0 {
		takes = fmt.Sprintf("from %d to %d positional arguments", s.positional-optional, s.positional)
	}
	were := "were"
	if given == 1 && keywords == 0 {
		were = "was"
	}
	also := ""
	if keywords > 0 {
		also = fmt.Sprintf(" positional argument%s (and %d keyword-only argument%s)", plural(given), keywords, plural(keywords))
	}
	return typeError(called, "takes %s but %d%s %s given", takes, given, also, were)
}

// listed joins names as Python does: 'a' / 'a' and 'b' / 'a', 'b', and 'c'.
func listed(names []string) string {
	last := len(names) - 1
	switch last {
	case 0:
		return names[0]
	case 1:
		return names[0] + " and " + names[1]
	}
	return strings.Join(names[:last], ", ") + ", and " + names[last]
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

func typeError(called, format string, args ...any) *protocol.Exception {
	text := called + "() " + fmt.Sprintf(format, args...)
	return &protocol.Exception{Module: "builtins", Type: "TypeError", Args: []protocol.Value{text}}
}

// store puts one argument into its field.
func (f *field) store(called string, target reflect.Value, v protocol.Value) error {
	if v == nil && f.optional && !f.hasDefault && !takesNone(f.typ) {
		return nil // None is what Python would have put there: the parameter's default
	}
	return store(called, f.name, target, v)
}

// storeRest fills the *args field.
func (f *field) storeRest(called string, target reflect.Value, values []protocol.Value) error {
	list := reflect.MakeSlice(f.typ, len(values), len(values))
	for i, v := range values {
		if err := store(called, fmt.Sprintf("%s[%d]", f.name, i), list.Index(i), v); err != nil {
			return err
		}
	}
	target.Set(list)
	return nil
}

// storeOthers fills the **kwargs field, which is never nil afterwards.
func (f *field) storeOthers(called string, target reflect.Value, values *protocol.Object) error {
	if f.typ == objectType {
		return store(called, f.name, target, values) // a copy of its own
	}
	target.Set(reflect.MakeMapWithSize(f.typ, values.Len()))
	for _, m := range values.Members() {
		element := reflect.New(f.typ.Elem()).Elem()
		if err := store(called, m.Key, element, m.Value); err != nil {
			return err
		}
		target.SetMapIndex(reflect.ValueOf(m.Key).Convert(f.typ.Key()), element)
	}
	return nil
}

// store puts v into target, or says which argument it did not fit.
func store(called, name string, target reflect.Value, v protocol.Value) error {
	// ToGo has a nil slice or map for None, which a parameter annotated list or dict does not mean.
	if v == nil && !takesNone(target.Type()) {
		return typeError(called, "argument '%s': want %s, got NoneType", name, typeWord(target.Type(), nil))
	}
	err := protocol.ToGo(v, target.Addr().Interface())
	if err == nil {
		return nil
	}
	why := err
	if e, ok := errors.AsType[*protocol.DecodeError](err); ok {
		name, why = name+e.Part, e.Err
	}
	misfit := typeError(called, "argument '%s': %v", name, why)
	misfit.Cause = err
	return misfit
}
