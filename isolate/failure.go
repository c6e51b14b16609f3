package isolate

import (
	"context"
	"errors"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// sentinels are the errors that stay themselves on the other side, for errors.Is, by the names they cross under.
var sentinels = []struct {
	name string
	err  error
}{
	{"ignore", handlers.ErrIgnore},
	{"soft", handlers.ErrSoftLimit},
	{"shutdown", handlers.ErrShutdown},
	{"lost", handlers.ErrLost},
	{"terminated", handlers.ErrTerminated},
	{"no task", handlers.ErrNoTask},
	{"budget", handlers.ErrBudget},
	{"canceled", context.Canceled},
	{"deadline", context.DeadlineExceeded},
}

// A Failure is an error that came from the other side. It has the error's text, is (errors.Is) those of the errors of
// package handlers and of context's two that the error was, and holds (errors.As) the *protocol.Exception and the
// *handlers.RetryError, RejectError or ReplaceError that were in it.
type Failure struct {
	text    string
	parts   []error
	retries bool
	awaited bool
}

func (f *Failure) Error() string   { return f.text }
func (f *Failure) Unwrap() []error { return f.parts }

// Retries is what the handler's Options.Retry.On said of the error in the child, where it still was itself.
func (f *Failure) Retries() bool { return f.retries }

// Expected is what the handler's Options.Expected said of it there.
func (f *Failure) Expected() bool { return f.awaited }

// packError is err as it crosses; o are the options whose predicates are asked. It runs code of the handler's author.
func packError(err error, o handlers.Options) protocol.Value {
	if err == nil {
		return nil
	}
	out := &protocol.Object{}
	out.Set("text", err.Error())
	var is []protocol.Value
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			is = append(is, s.name)
		}
	}
	out.Set("is", is)
	if o.Retry.On != nil {
		out.Set("retries", o.Retry.On(err))
	}
	if o.Expected != nil {
		out.Set("expected", o.Expected(err))
	}
	if retry := (*handlers.RetryError)(nil); errors.As(err, &retry) && retry != nil {
		out.Set("retry", packRetry(retry, o))
	}
	if reject := (*handlers.RejectError)(nil); errors.As(err, &reject) && reject != nil {
		out.Set("reject", protocol.ObjectOf(
			protocol.Member{Key: "cause", Value: packError(reject.Cause, o)}, protocol.Member{Key: "requeue", Value: reject.Requeue},
		))
	}
	if replace := (*handlers.ReplaceError)(nil); errors.As(err, &replace) && replace != nil {
		out.Set("replace", packSignature(replace.Signature))
	}
	if exc := (*protocol.Exception)(nil); errors.As(err, &exc) && exc != nil {
		out.Set("exception", packException(exc))
	}
	return out
}

// packResult is packError for what a handler returned. As in the worker's own process the soft limit is what the
// predicates see when its end was all the handler knew.
func packResult(err, cause error, o handlers.Options) protocol.Value {
	if errors.Is(err, handlers.ErrSoftLimit) || errors.Is(cause, handlers.ErrSoftLimit) && errors.Is(err, context.Canceled) {
		if steers(err) {
			return packError(err, o)
		}
		limit := protocol.SoftTimeLimitExceeded()
		limit.Cause = errors.Join(err, handlers.ErrSoftLimit)
		packed := packError(err, handlers.Options{}).(*protocol.Object)
		asked := packError(limit, o).(*protocol.Object)
		for _, key := range []string{"retries", "expected"} {
			packed.Set(key, yes(asked, key))
		}
		return packed
	}
	return packError(err, o)
}

// steers reports whether err is one of the ways to end a task other than to fail.
func steers(err error) bool {
	var retry *handlers.RetryError
	var replace *handlers.ReplaceError
	return errors.Is(err, handlers.ErrIgnore) || errors.As(err, &retry) || errors.As(err, &replace)
}

func packException(e *protocol.Exception) protocol.Value {
	args := make([]protocol.Value, len(e.Args))
	for i, arg := range e.Args {
		v, err := protocol.FromGo(arg)
		if err != nil {
			v = protocol.FromError(err).Repr()
		}
		args[i] = v
	}
	return protocol.ObjectOf(
		protocol.Member{Key: "module", Value: e.Module}, protocol.Member{Key: "type", Value: e.Type},
		protocol.Member{Key: "args", Value: args}, protocol.Member{Key: "traceback", Value: e.Traceback},
	)
}

func packRetry(r *handlers.RetryError, o handlers.Options) protocol.Value {
	out := protocol.ObjectOf(
		protocol.Member{Key: "cause", Value: packError(r.Cause, o)}, protocol.Member{Key: "in", Value: int64(r.In)},
		protocol.Member{Key: "eta", Value: packTime(r.ETA)},
	)
	if r.Max != nil {
		out.Set("max", int64(*r.Max))
	}
	// What no message can carry is refused by the worker, in its own words.
	if r.Args != nil {
		if v, err := protocol.FromGo(r.Args); err != nil {
			out.Set("unsendable", err.Error())
		} else {
			out.Set("args", v)
		}
	}
	if r.Kwargs != nil {
		if v, err := protocol.FromGo(r.Kwargs); err != nil {
			out.Set("unsendable", err.Error())
		} else {
			out.Set("kwargs", v)
		}
	}
	return out
}

func packTime(t time.Time) protocol.Value {
	if t.IsZero() {
		return nil
	}
	return protocol.DateTime{Time: t}
}

func unpackTime(v protocol.Value) time.Time {
	t, _ := v.(protocol.DateTime)
	return t.Time
}

func packSignature(s handlers.Signature) protocol.Value {
	if err := handlers.Check(s); err != nil {
		return protocol.ObjectOf(protocol.Member{Key: "err", Value: packError(err, handlers.Options{})})
	}
	return protocol.ObjectOf(protocol.Member{Key: "value", Value: s.Value()})
}

// A signature is one that came from the other side.
type signature struct {
	value protocol.Value
	err   error
}

func (s signature) Value() protocol.Value { return s.value }
func (s signature) Err() error            { return s.err }

func unpackSignature(o *protocol.Object) handlers.Signature {
	v, _ := o.Get("value")
	failed, _ := o.Get("err")
	return signature{v, unpackError(failed)}
}

// An unsendable is an argument of a retry that no message can carry: encoding it is refused with the child's words.
type unsendable struct{ text string }

// unpackError is the error on this side: nil, or a *Failure.
func unpackError(v protocol.Value) error {
	o, ok := v.(*protocol.Object)
	if !ok {
		return nil
	}
	f := &Failure{text: text(o, "text"), retries: yes(o, "retries"), awaited: yes(o, "expected")}
	for _, name := range list(o, "is") {
		for _, s := range sentinels {
			if s.name == name {
				f.parts = append(f.parts, s.err)
			}
		}
	}
	if r := sub(o, "retry"); r != nil {
		f.parts = append(f.parts, unpackRetry(r))
	}
	if r := sub(o, "reject"); r != nil {
		cause, _ := r.Get("cause")
		f.parts = append(f.parts, &handlers.RejectError{Cause: unpackError(cause), Requeue: yes(r, "requeue")})
	}
	if s := sub(o, "replace"); s != nil {
		f.parts = append(f.parts, &handlers.ReplaceError{Signature: unpackSignature(s)})
	}
	if e := sub(o, "exception"); e != nil {
		f.parts = append(f.parts, &protocol.Exception{Module: text(e, "module"), Type: text(e, "type"), Args: list(e, "args"), Traceback: text(e, "traceback"), Cause: errors.New(f.text)})
	}
	return f
}

func unpackRetry(o *protocol.Object) *handlers.RetryError {
	cause, _ := o.Get("cause")
	eta, _ := o.Get("eta")
	r := &handlers.RetryError{Cause: unpackError(cause), In: time.Duration(number(o, "in")), ETA: unpackTime(eta)}
	if n, ok := o.Get("max"); ok {
		most, _ := n.(int64)
		limit := int(most)
		r.Max = &limit
	}
	if args, ok := o.Get("args"); ok {
		r.Args, _ = args.([]protocol.Value)
	}
	if kwargs, ok := o.Get("kwargs"); ok {
		r.Kwargs = map[string]any{}
		if k, ok := kwargs.(*protocol.Object); ok {
			for _, m := range k.Members() {
				r.Kwargs[m.Key] = m.Value
			}
		}
	}
	if why := text(o, "unsendable"); why != "" {
		r.Args = []any{unsendable{why}}
	}
	return r
}

// MarshalJSON refuses.
func (u unsendable) MarshalJSON() ([]byte, error) { return nil, errors.New(u.text) }
