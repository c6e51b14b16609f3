package canvas

import (
	"errors"
	"fmt"

	"github.com/stalkworker/stalk/protocol"
)

// The tasks that every Celery worker serves (celery/app/builtins.py), as far as they are decisions.

// argument is a parameter of a built-in task, given by place or by name.
func argument(t *protocol.Task, i int, name string) protocol.Value {
	if i < len(t.Args) {
		return t.Args[i]
	}
	v, _ := t.Kwargs.Get(name)
	return v
}

// Accumulate is celery.accumulate: its arguments, or the one of that index. The error is the exception that
// Python raises.
func Accumulate(t *protocol.Task) (protocol.Value, error) {
	index, _ := t.Kwargs.Get("index")
	if index == nil {
		return append([]protocol.Value{}, t.Args...), nil
	}
	n, ok := index.(int64)
	if !ok {
		return nil, protocol.NewException("TypeError", "tuple indices must be integers or slices")
	}
	if n < 0 {
		n += int64(len(t.Args))
	}
	if n < 0 || n >= int64(len(t.Args)) {
		return nil, protocol.NewException("IndexError", "tuple index out of range")
	}
	return t.Args[n], nil
}

// A MapCall is what celery.map and celery.starmap do: the named task is called in this process once per
// element of Calls, in order; the result is the list of results, and the first error fails the whole.
type MapCall struct {
	Task  string
	Calls [][]protocol.Value // the positional arguments of each call
}

// ParseMap reads a call of celery.map or celery.starmap. Arguments and options of the signature in it do
// not count. The error is a *SignatureError.
func ParseMap(t *protocol.Task) (MapCall, error) {
	inner := argument(t, 0, "task")
	m := MapCall{Task: protocol.SignatureName(inner)}
	if s, ok := inner.(string); ok {
		m.Task = s
	}
	if m.Task == "" {
		return m, &SignatureError{Part: t.Name + ".task", Err: fmt.Errorf("is %s, want a signature", describe(inner))}
	}
	it := argument(t, 1, "it")
	items, ok := it.([]protocol.Value)
	if !ok {
		return m, &SignatureError{Part: t.Name + ".it", Err: fmt.Errorf("is %s, want a list", describe(it))}
	}
	for i, item := range items {
		args := []protocol.Value{item}
		if t.Name == "celery.starmap" {
			if args, ok = item.([]protocol.Value); !ok {
				return m, &SignatureError{Part: fmt.Sprintf("%s.it[%d]", t.Name, i), Err: fmt.Errorf("is %s, want a list of arguments", describe(item))}
			}
		}
		m.Calls = append(m.Calls, args)
	}
	return m, nil
}

// ApplyBuiltin is what celery.chunks, celery.group and celery.chord publish when they are called as tasks;
// the value of the task is the plan's Result. ok is false for any other task. celery.chain, which Celery
// registers as well, cannot run: its error is the NotImplementedError of Python.
func ApplyBuiltin(t *protocol.Task, env *Env) (p Plan, ok bool, err error) {
	r := newRun(onBehalf(t, env))
	var res *result
	switch t.Name {
	case "celery.chain":
		return Plan{}, true, protocol.NewException("NotImplementedError", "chain is not a real task")
	case "celery.chunks":
		s := newSig(chunksClass, t.Name, "", protocol.ObjectOf(
			protocol.Member{Key: "task", Value: argument(t, 0, "task")},
			protocol.Member{Key: "it", Value: argument(t, 1, "it")},
			protocol.Member{Key: "n", Value: argument(t, 2, "n")}), emptyOptions())
		res = r.applyChunks(s, nil, nil, nil)
	case "celery.group":
		return r.legacyGroup(t)
	case "celery.chord":
		res = r.legacyChord(t)
	default:
		return Plan{}, false, nil
	}
	p, err = r.plan(res)
	return p, true, err
}

// legacyGroup is the task celery.group, which clients of long ago sent.
func (r *run) legacyGroup(t *protocol.Task) (Plan, bool, error) {
	tasks, _ := argument(t, 0, "tasks").([]protocol.Value)
	given := argument(t, 1, "result")
	gid, _ := argument(t, 2, "group_id").(string)
	partial, _ := argument(t, 3, "partial_args").([]protocol.Value)
	call := protocol.ObjectOf(
		protocol.Member{Key: "group_id", Value: orNull(gid)},
		protocol.Member{Key: "add_to_parent", Value: false},
	)
	for i, v := range tasks {
		s := r.live(r.parse(v, named(t.Name+".tasks").at(i), 0))
		r.apply(r.cloneWith(s, partial, nil, nil), nil, nil, call)
	}
	p, err := r.plan(nil)
	if p.Result = given; err == nil && len(t.Args) < 5 {
		if v, told := t.Kwargs.Get("add_to_parent"); !told || truthy(v) {
			p.Children = append(p.Children, given)
		}
	}
	return p, true, err
}

// legacyChord is the task celery.chord.
func (r *run) legacyChord(t *protocol.Task) *result {
	v := argument(t, 0, "header")
	if o, ok := v.(*protocol.Object); ok { // a group
		kwargs, _ := o.Get("kwargs")
		k, _ := kwargs.(*protocol.Object)
		v, _ = k.Get("tasks")
	}
	items, ok := v.([]protocol.Value)
	if !ok {
		r.fail(t.Name+".header", errors.New("is no list of signatures"))
		return nil
	}
	header := newGroup(r.parseList(items, named(t.Name+".header"), 0), emptyOptions())
	body := r.clone(r.live(r.parse(argument(t, 1, "body"), named(t.Name+".body"), 0)))
	partial, _ := argument(t, 2, "partial_args").([]protocol.Value)
	call := emptyOptions()
	for i, name := range []string{"header", "body", "partial_args", "interval", "countdown", "max_retries", "eager"} {
		if i >= 3 {
			call.Set(name, argument(t, i, name))
		}
	}
	call.Delete("countdown")
	call.Delete("eager")
	if r.err != nil {
		return nil
	}
	s := newSig(chordClass, "celery.chord", "chord", emptyOptions(), emptyOptions())
	return r.runChord(s, header, body, partial, emptyOptions(), "", emptyOptions(), call)
}
