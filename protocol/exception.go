package protocol

import (
	"errors"
	"fmt"
	"strings"
)

// An Exception is a Python exception as a result document holds it. It is an error; returned from a
// handler it names the class the caller will see.
type Exception struct {
	Module    string // "builtins", "celery.exceptions", "myapp.errors"
	Type      string // qualified class name
	Args      []Value
	Traceback string // Python-shaped, "" for null
	Cause     error  // what it was made from, for Unwrap; not written
}

// NewException makes an exception of a builtins class with the args, each of which FromGo must take; of one
// it does not take the text is used. A class Python has no builtin exception of, or one that would end the
// caller's process (SystemExit), goes into a module of its own, where the caller sees a class of that name.
func NewException(class string, args ...any) *Exception {
	e := &Exception{Type: class, Args: make([]Value, len(args))}
	for i, arg := range args {
		v, err := FromGo(arg)
		if err != nil {
			v = fmt.Sprint(arg)
		}
		e.Args[i] = v
	}
	e.Module, e.Type = safeClass("builtins", class)
	return e
}

// FromError is the exception inside err, or RuntimeError with err's text. It is nil for nil.
func FromError(err error) *Exception {
	if err == nil {
		return nil
	}
	if e := (*Exception)(nil); errors.As(err, &e) && e != nil {
		return e
	}
	return &Exception{Module: "builtins", Type: "RuntimeError", Args: []Value{cleanText(err.Error())}, Cause: err}
}

// Error is "ValueError: boom", the last line of Python's traceback without the module.
func (e *Exception) Error() string {
	text := e.text()
	if text == "" {
		return e.Type
	}
	return e.Type + ": " + text
}

func (e *Exception) Unwrap() error { return e.Cause }

// text is Python's str(exc).
func (e *Exception) text() string {
	switch {
	case e.Module == "billiard.exceptions" && strings.HasSuffix(e.Type, "TimeLimitExceeded"):
		return e.Type + pyTuple(e.Args)
	case len(e.Args) == 0:
		return ""
	case len(e.Args) == 1:
		if s, ok := e.Args[0].(string); ok && e.Type != "KeyError" && e.Type != "NotRegistered" {
			return s
		}
		return pyRepr(e.Args[0])
	case osErrors[e.Type] && e.Module == "builtins" && len(e.Args) == 2:
		return fmt.Sprintf("[Errno %s] %s", pyStr(e.Args[0]), pyStr(e.Args[1]))
	}
	return pyTuple(e.Args)
}

// Repr is Python's repr: ValueError('boom', 3). Reject has one of its own in Celery, which events carry.
func (e *Exception) Repr() string {
	if e.Module == "celery.exceptions" && e.Type == "Reject" && len(e.Args) == 2 {
		return fmt.Sprintf("reject requeue=%s: %s", pyStr(e.Args[1]), pyStr(e.Args[0]))
	}
	name := e.Type[strings.LastIndexByte(e.Type, '.')+1:]
	if len(e.Args) == 1 {
		return name + "(" + pyRepr(e.Args[0]) + ")"
	}
	return name + pyTuple(e.Args)
}

// value is the exception as a result document holds it, with the args that serializer cannot write replaced
// by their repr (celery.utils.serialization.ensure_serializable).
func (e *Exception) value(serializer string) Value {
	args := make([]Value, len(e.Args))
	for i, arg := range e.Args {
		args[i] = arg
		if plain(arg) {
			continue
		}
		if _, _, _, err := Serialize(plainly(serializer), arg); err != nil {
			args[i] = pyRepr(arg)
		}
	}
	module, class := safeClass(cleanText(e.Module), cleanText(e.Type))
	return ObjectOf(Member{"exc_type", class}, Member{"exc_message", args}, Member{"exc_module", module})
}

// plainly is the serializer that turns values to bytes: what is signed is json.
func plainly(serializer string) string {
	if serializer == signedName {
		return inner
	}
	return serializer
}

// plain are the values every serializer writes.
func plain(v Value) bool {
	switch v.(type) {
	case nil, bool, int64, float64:
		return true
	}
	return false
}

// exceptionFrom reads what a result document holds for an exception; nil when it is none.
func exceptionFrom(v Value, traceback string) *Exception {
	o, ok := v.(*Object)
	if !ok {
		return nil
	}
	class, _ := o.Get("exc_type")
	name, ok := class.(string)
	if !ok || name == "" {
		return nil
	}
	e := &Exception{Type: name, Traceback: traceback}
	module, _ := o.Get("exc_module")
	e.Module, _ = module.(string)
	switch message, there := o.Get("exc_message"); list := message.(type) {
	case []Value:
		e.Args = list
	default: // Python calls the class with that one value, and with '' when there is none
		if !there {
			message = ""
		}
		e.Args = []Value{message}
	}
	return e
}
