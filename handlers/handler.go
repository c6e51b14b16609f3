// Package handlers turns plain Go functions into Celery tasks: it binds a message's arguments to a struct
// as Python would bind them to a function's parameters, and gives a running function its words for Celery's
// ways to end (Retry, Reject, Requeue, ErrIgnore) and to speak (Progress, Report).
//
// It holds no connection and starts nothing: worker/ calls it, and so does a unit test through
// handlerstest. Nobody outside needs to implement its interfaces; Host is the worker's side.
package handlers

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// A Handler is one Celery task served by Go. It is immutable: With and As return changed copies. Make one
// with Func or Raw; what is wrong with it is reported by NewRegistry, all of it at once.
type Handler struct {
	name    string
	options Options
	invoke  Invoke

	build func(name string) Invoke // nil only in a Handler nobody made
	shape *shape                   // the parameters; errs in it are the construction's mistakes
}

// Func makes a task of a plain function.
//
// In is a struct, or a pointer to one (then every call gets a fresh one, never nil); struct{} takes no
// arguments. Positional arguments fill its exported fields in order and keyword arguments by json name, so
// field order is part of the task's signature. An embedded struct's fields stand in its place.
//
//	json:"x"                 required
//	json:"x,omitzero"        optional (omitempty too): Python's x=None; None and absence give the zero value
//	json:"x" default:"200"   optional with a value: JSON, or the bare text for a string
//	json:"-"                 not a parameter
//	celery:"keyword"         keyword-only, as are all fields after *args
//	celery:"*args"           a slice: the positional arguments left over
//	celery:"**kwargs"        *protocol.Object or a map with string keys: the keyword arguments left over
//
// A pointer field tells None, or absence, from zero. A field of type protocol.Value (any) gets the argument as
// it came: an int stays an int64 or *big.Int, a float a float64. Lists and objects the task was sent are shared
// with its message: a handler may keep but not change them.
//
// Arguments that do not fit are a TypeError in Python's own words, and fn is not called. What fn returns is
// encoded by protocol.FromGo; an Out of struct{} is None.
func Func[In, Out any](name string, fn func(context.Context, In) (Out, error)) Handler {
	s := shapeOf(reflect.TypeFor[In]())
	if fn == nil {
		s.fault("", "the function is nil")
	}
	out := reflect.TypeFor[Out]()
	if reason := refuse(out, nil); reason != "" {
		s.fault("", fmt.Sprintf("result type %v: %s", out, reason))
	}
	none := out == reflect.TypeFor[struct{}]()
	build := func(name string) Invoke {
		called := lastPart(name)
		return func(ctx context.Context, t *protocol.Task) (any, error) {
			var in In
			target := reflect.ValueOf(&in).Elem()
			if target.Kind() == reflect.Pointer {
				target.Set(reflect.New(target.Type().Elem()))
				target = target.Elem()
			}
			if err := s.bind(called, target, t.Args, t.Kwargs); err != nil {
				return nil, err
			}
			value, err := fn(ctx, in)
			if err != nil {
				return nil, err
			}
			if none {
				return nil, nil
			}
			return value, nil
		}
	}
	return newHandler(name, s, build)
}

// Raw makes a task that takes its arguments as they came: Python's def f(*args, **kwargs). They are
// copies: fn may change them, and a retry still sends what came. Neither is nil.
func Raw(name string, fn func(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error)) Handler {
	s := rawShape()
	if fn == nil {
		s.fault("", "the function is nil")
	}
	return newHandler(name, s, func(string) Invoke {
		return func(ctx context.Context, t *protocol.Task) (any, error) {
			args, kwargs := []protocol.Value{}, &protocol.Object{}
			err := protocol.ToGo(t.Args, &args)
			if t.Kwargs != nil {
				err = errors.Join(err, protocol.ToGo(t.Kwargs, &kwargs))
			}
			if err != nil {
				return nil, fmt.Errorf("handlers: task %q: %w", t.Name, err) // no decoded message has such values
			}
			return fn(ctx, args, kwargs)
		}
	})
}

// newHandler gives a handler its Invoke. One that was built wrongly gets an Invoke that says so: a test may
// run a handler that no registry has checked.
func newHandler(name string, s *shape, build func(string) Invoke) Handler {
	h := Handler{name: name, build: build, shape: s}
	h.invoke = build(name)
	if len(s.faults) > 0 {
		h.invoke = func(context.Context, *protocol.Task) (any, error) { return nil, errors.Join(h.mistakes()...) }
	}
	return h
}

// Name is the task's name on the wire.
func (h Handler) Name() string { return h.name }

// Options are the task's options; the zero Options means all of Celery's (or the worker's) defaults.
func (h Handler) Options() Options { return h.options }

// Invoke binds a task's arguments and calls the function; its errors are described at Invoke. It is nil
// only in a zero Handler. It does not catch panics and applies no limits: the worker does.
func (h Handler) Invoke() Invoke { return h.invoke }

// With returns the handler with o in place of its options (all of them: the result is not a merge).
func (h Handler) With(o Options) Handler {
	h.options = o
	return h
}

// As returns the same task under another name. A TypeError then speaks of the new name.
func (h Handler) As(name string) Handler {
	if h.build == nil {
		h.name = name
		return h
	}
	c := newHandler(name, h.shape, h.build)
	c.options = h.options
	return c
}

// mistakes is everything wrong with the handler itself, each line naming the task and the part.
func (h Handler) mistakes() []error {
	if h.build == nil {
		return []error{fmt.Errorf("handlers: task %q: an empty Handler; make it with Func or Raw", h.name)}
	}
	var errs []error
	if reason := badName(h.name); reason != "" {
		errs = append(errs, fmt.Errorf("handlers: task %q: the name %s", h.name, reason))
	}
	for _, f := range h.shape.faults {
		errs = append(errs, fmt.Errorf("handlers: task %q: %s", h.name, f))
	}
	for _, f := range h.options.faults() {
		errs = append(errs, fmt.Errorf("handlers: task %q: %s", h.name, f))
	}
	return errs
}

// lastPart is the function's name as Python would show it: the part of a task name after its last dot.
func lastPart(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
