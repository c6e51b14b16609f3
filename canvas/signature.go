package canvas

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A Signature is a call that can be stored, sent along and applied: a task with its arguments and options,
// or a chain, group or chord of such. It is a value: every method returns a changed copy and leaves its
// receiver as it was. What Args, Kwargs and Options hold is shared between copies and must not be changed.
//
// A mistake, such as an argument that Python has no form for, is kept and comes out when the signature is
// applied, or from Err.
type Signature struct {
	Task      string
	Args      []protocol.Value
	Kwargs    *protocol.Object // nil: none
	Options   *protocol.Object // publish options and canvas state; nil: none
	Type      string           // "" a task, "chain", "group", "chord"
	Immutable bool             // takes no result of what ran before it

	extra []protocol.Member // keys nobody here knows
	errs  []error
}

// New is a call of the task with the arguments, each of which protocol.FromGo must take; a Signature among
// them is passed on as one.
func New(task string, args ...any) Signature {
	s := Signature{Task: task}
	if task == "" {
		s.errs = append(s.errs, errors.New("canvas: a signature needs the name of a task"))
	}
	for i, arg := range args {
		v, err := protocol.FromGo(arg)
		if err != nil {
			s.errs = append(s.errs, fmt.Errorf("canvas: %s: argument %d: %w", task, i, err))
		}
		s.Args = append(s.Args, v)
	}
	return s
}

// Parse reads a signature as it travels in messages, with all it holds; unknown keys and options are kept.
// The error is a *SignatureError.
func Parse(v protocol.Value) (Signature, error) {
	r := newRun(scratch)
	r.parse(v, named("signature"), 0)
	if r.err != nil {
		return Signature{}, r.err
	}
	return read(v), nil
}

// scratch is the environment of building: nothing gets an id there.
var scratch = &Env{NewID: func() string { return "" }}

// read is the Signature of what parse has found to be one.
func read(v protocol.Value) Signature {
	var s Signature
	o, _ := v.(*protocol.Object)
	for _, m := range o.Members() {
		switch m.Key {
		case "task":
			s.Task, _ = m.Value.(string)
		case "args":
			s.Args, _ = m.Value.([]protocol.Value)
		case "kwargs":
			s.Kwargs, _ = m.Value.(*protocol.Object)
		case "options":
			s.Options, _ = m.Value.(*protocol.Object)
		case "subtask_type":
			s.Type, _ = m.Value.(string)
		case "immutable":
			s.Immutable = truthy(m.Value)
		default:
			s.extra = append(s.extra, m)
		}
	}
	return s
}

// Value is the signature as it travels: an object of six keys, and the unknown ones it came with.
func (s Signature) Value() protocol.Value {
	args, kwargs, options := s.Args, s.Kwargs, s.Options
	if args == nil {
		args = []protocol.Value{}
	}
	if kwargs == nil {
		kwargs = emptyOptions()
	}
	if options == nil {
		options = emptyOptions()
	}
	var kind protocol.Value
	if s.Type != "" {
		kind = s.Type
	}
	o := protocol.ObjectOf(
		protocol.Member{Key: "task", Value: s.Task},
		protocol.Member{Key: "args", Value: args},
		protocol.Member{Key: "kwargs", Value: kwargs},
		protocol.Member{Key: "options", Value: options},
		protocol.Member{Key: "subtask_type", Value: kind},
		protocol.Member{Key: "immutable", Value: s.Immutable},
	)
	for _, m := range s.extra {
		o.Set(m.Key, m.Value)
	}
	return o
}

// MarshalJSON is the signature as it travels, so that one can be an argument or a result.
func (s Signature) MarshalJSON() ([]byte, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	return protocol.AppendJSON(nil, s.Value())
}

// Err is every mistake made in building the signature, or nil.
func (s Signature) Err() error { return errors.Join(s.errs...) }

// ID is the task id the signature will run under, if it was given one.
func (s Signature) ID() string { return text(s.Options, "task_id") }

func (s Signature) name() string {
	if s.Type != "" {
		return s.Type
	}
	return s.Task
}

func (s Signature) wrong(format string, args ...any) Signature {
	err := fmt.Errorf("canvas: %s: %w", s.name(), fmt.Errorf(format, args...))
	s.errs = append(slices.Clip(s.errs), err)
	return s
}

// Kw adds keyword arguments.
func (s Signature) Kw(kwargs map[string]any) Signature {
	k := s.Kwargs.Clone()
	for _, key := range slices.Sorted(maps.Keys(kwargs)) {
		v, err := protocol.FromGo(kwargs[key])
		if err != nil {
			s = s.wrong("argument %q: %w", key, err)
		}
		k.Set(key, v)
	}
	s.Kwargs = k
	return s
}

// Set sets any option by Celery's name for it. A nil value is null, which means not given.
func (s Signature) Set(option string, value any) Signature {
	v, err := protocol.FromGo(value)
	if err != nil {
		return s.wrong("option %q: %w", option, err)
	}
	o := s.Options.Clone()
	o.Set(option, v)
	s.Options = o
	return s
}

// Queue names the queue to send to.
func (s Signature) Queue(name string) Signature { return s.Set("queue", name) }

// Address names exchange and routing key to publish to.
func (s Signature) Address(exchange, routingKey string) Signature {
	return s.Set("exchange", exchange).Set("routing_key", routingKey)
}

// Countdown delays the task.
func (s Signature) Countdown(d time.Duration) Signature { return s.Set("countdown", seconds(d)) }

// ETA holds the task until t.
func (s Signature) ETA(t time.Time) Signature { return s.Set("eta", t) }

// ExpiresIn lets the task not be started any more when d has passed since it was sent.
func (s Signature) ExpiresIn(d time.Duration) Signature { return s.Set("expires", seconds(d)) }

// ExpiresAt lets the task not be started any more after t.
func (s Signature) ExpiresAt(t time.Time) Signature { return s.Set("expires", t) }

// Priority is 0 to 255; brokers differ in what is first.
func (s Signature) Priority(n int) Signature {
	if n < 0 || n > 255 {
		return s.wrong("priority %d is not between 0 and 255", n)
	}
	return s.Set("priority", n)
}

// TaskID makes the task run under this id; of a chain it is the last step's.
func (s Signature) TaskID(id string) Signature {
	if id == "" || len(id) > protocol.MaxIDBytes {
		return s.wrong("a task id has 1 to %d bytes, not %d", protocol.MaxIDBytes, len(id))
	}
	return s.Set("task_id", id)
}

// TimeLimit sets the hard and the soft limit; 0 leaves one to the worker.
func (s Signature) TimeLimit(hard, soft time.Duration) Signature {
	if hard < 0 || soft < 0 || hard > 0 && soft > hard {
		return s.wrong("time limits of %v (hard) and %v (soft)", hard, soft)
	}
	if hard > 0 {
		s = s.Set("time_limit", seconds(hard))
	}
	if soft > 0 {
		s = s.Set("soft_time_limit", seconds(soft))
	}
	return s
}

// IgnoreResult says whether the result is to be dropped.
func (s Signature) IgnoreResult(ignore bool) Signature { return s.Set("ignore_result", ignore) }

// Serializer and Compression say how the message is written.
func (s Signature) Serializer(name string) Signature { return s.Set("serializer", name) }

// Compression names the compression of the message.
func (s Signature) Compression(name string) Signature { return s.Set("compression", name) }

// Headers are custom headers of the message.
func (s Signature) Headers(h map[string]any) Signature { return s.Set("headers", h) }

// Stamp adds a stamp (Celery's stamped headers) to this signature, not to what is within it.
func (s Signature) Stamp(name string, value any) Signature {
	var names []protocol.Value
	if v, _ := s.Options.Get("stamped_headers"); v != nil {
		l, _ := v.([]protocol.Value)
		names = slices.DeleteFunc(slices.Clone(l), func(n protocol.Value) bool { return n == protocol.Value(name) })
	}
	o := s.Options.Clone()
	o.Set("stamped_headers", append(names, name))
	s.Options = o
	return s.Set(name, value)
}

// SI makes the signature immutable: it gets its own arguments only. Of a group and of a chord's header it
// makes every member so, as Celery does.
func (s Signature) SI() Signature {
	if s.Type == "group" || s.Type == "chord" {
		return s.edit(func(r *run, self *sig) { r.setImmutable(self) })
	}
	s.Immutable = true
	return s
}

// Link calls each callback with the result once the task succeeded. Of a chain it is the last step's, of a
// chord the body's; of a group it is the first member's, which tells nothing about the others.
func (s Signature) Link(callbacks ...Signature) Signature {
	return s.linking("callback", callbacks, (*run).link)
}

// LinkError calls each errback with the id of the task that failed. Of a chain it is every step's, of a
// group every member's, of a chord the body's.
func (s Signature) LinkError(errbacks ...Signature) Signature {
	return s.linking("errback", errbacks, (*run).linkError)
}

func (s Signature) linking(what string, links []Signature, link func(r *run, self *sig, callback protocol.Value)) Signature {
	for i, l := range links {
		if err := l.Err(); err != nil {
			s = s.wrong("%s %d: %w", what, i, err)
			continue
		}
		s = s.edit(func(r *run, self *sig) { link(r, self, r.live(r.parse(l.Value(), named(what), 0))) })
	}
	return s
}

// edit changes a copy of the signature in its working form.
func (s Signature) edit(change func(r *run, self *sig)) Signature {
	if len(s.errs) > 0 {
		return s
	}
	r := newRun(scratch)
	self := r.parse(s.Value(), named(s.name()), 0)
	if self = r.live(self); r.err == nil {
		change(r, self)
	}
	v := r.wire(self)
	if r.err != nil {
		s.errs = append(slices.Clip(s.errs), r.err)
		return s
	}
	return read(v)
}

// Chain runs one step after the other, each with the result of the one before it in front of its own
// arguments. As in Celery a group of several followed by a task becomes a chord, and what follows a chord
// follows its body.
func Chain(steps ...Signature) Signature {
	return build("chain", steps, func(r *run, tasks []*sig) *sig {
		if len(tasks) < 2 { // Python folds two and more
			return newChain(tasks, emptyOptions())
		}
		return r.foldChain(tasks)
	})
}

// Group runs its members side by side.
func Group(members ...Signature) Signature {
	return build("group", members, func(r *run, tasks []*sig) *sig { return newGroup(listOf(tasks), emptyOptions()) })
}

// Chord runs the header side by side, and then body with the list of the header's results, in order.
func Chord(header []Signature, body Signature) Signature {
	return build("chord", append(slices.Clone(header), body), func(r *run, tasks []*sig) *sig {
		n := len(tasks) - 1
		return r.newChord(listOf(tasks[:n]), tasks[n], emptyOptions())
	})
}

func build(what string, parts []Signature, make func(*run, []*sig) *sig) Signature {
	out := Signature{Task: "celery." + what, Type: what}
	r := newRun(scratch)
	tasks := []*sig{}
	for i, p := range parts {
		if err := p.Err(); err != nil {
			out.errs = append(out.errs, fmt.Errorf("canvas: %s: part %d: %w", what, i, err))
			continue
		}
		tasks = append(tasks, r.live(r.parse(p.Value(), named(what+": part").at(i), 0)))
	}
	if r.err != nil {
		out.errs = append(out.errs, r.err)
	}
	if len(out.errs) > 0 {
		return out
	}
	v := r.wire(make(r, tasks))
	if r.err != nil {
		out.errs = append(out.errs, r.err)
		return out
	}
	return read(v)
}

// seconds is a whole number where it is one, as a Python caller would write it.
func seconds(d time.Duration) any {
	if s := d.Seconds(); s == math.Trunc(s) {
		return int64(s)
	}
	return d.Seconds()
}
