package canvas

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// PartOf is where the task reports that it ended, and false when it is no part of a chord's header: a group
// alone does not make it one.
func PartOf(t *protocol.Task) (Part, bool) {
	if !truthy(t.Chord) || t.Group == "" || t.ID == "" {
		return Part{}, false
	}
	return Part{TaskID: t.ID, GroupID: t.Group, Index: t.GroupIndex, Body: t.Chord}, true
}

// Body is what a completed chord publishes: its body with the list of results. env.Parent is the task that
// reported the last part. An error means that the chord has failed: tell it by ChordFailed with
// CallbackErrorText.
func Body(p Part, results []protocol.Value, env *Env) (Plan, error) {
	r := newRun(env)
	if results == nil {
		results = []protocol.Value{}
	}
	res := r.apply(r.parse(p.Body, named("chord"), 0), []protocol.Value{results}, nil, nil)
	return r.plan(res)
}

// DependencyText is why a chord fails when the part id of its header ended with exc, as Redis workers word
// it; PollDependencyText is celery.chord_unlock's wording.
func DependencyText(id string, exc *protocol.Exception) string {
	return "Dependency " + id + " raised " + PollDependencyText(exc)
}

// PollDependencyText is why a chord fails that celery.chord_unlock watches.
func PollDependencyText(exc *protocol.Exception) string {
	if exc == nil {
		return "None" // a record may tell of a failure and not of its exception
	}
	return exc.Repr()
}

// CallbackErrorText is why a chord fails whose body cannot be published.
func CallbackErrorText(err error) string { return "Callback error: " + reprError(err) }

// JoinErrorText is why a chord fails whose results cannot be read.
func JoinErrorText(err error) string { return "Join error: " + reprError(err) }

// UnlockErrorText is why a chord fails that celery.chord_unlock gives up.
func UnlockErrorText(err error) string {
	return "chord_unlock could not be retried: " + reprError(err)
}

func reprError(err error) string {
	if err == nil {
		return "None"
	}
	return protocol.FromError(err).Repr()
}

// ChordFailed is what the failure of a chord causes, once the last part has arrived
// (celery/backends/base.py, chord_error_from_stack): the errbacks of its body, FAILURE with ChordError(text)
// under the body's id, and FAILURE for every step that was to follow the body. cause is what the part
// failed with; nil: nothing but text is known. The members of a group body fail with cause itself.
//
// Where Celery leaves somebody waiting for ever this goes further: of a body that is a chain every step is
// told and of a chord the innermost body, and if the body is a part of an outer chord, that part is reported.
//
// An error names what could not be read; the effects are everything else and are to be done all the same.
func ChordFailed(p Part, text string, cause *protocol.Exception, env *Env) ([]Effect, error) {
	exc := &protocol.Exception{Module: "celery.exceptions", Type: "ChordError", Args: []protocol.Value{text}}
	if cause != nil {
		exc.Cause = cause
	}
	f := newFailing(env, exc, chordTraceback(exc, cause), true)
	r := newRun(env)
	body := r.live(r.parse(p.Body, named("chord"), 0))
	if r.err != nil {
		// The body cannot be read as a signature; its id may still be there.
		f.errs = append(f.errs, r.err)
		if s, ok := stepOf(p.Body); ok {
			f.record(s)
		}
		return f.effects, errors.Join(f.errs...)
	}
	if body.class == groupClass {
		f.failGroup(r, body, exc, cause)
	} else {
		id := body.option("task_id")
		if id == "" {
			id = r.env.NewID()
			body.options.Set("task_id", id)
		}
		f.errbacks(r.errbacksOf(body), id, id)
		f.bare(id, body.option("reply_to"))
		f.ends(r, body, nil)
	}
	if r.err != nil {
		f.errs = append(f.errs, r.err)
	}
	// What follows the body fails with it, without a traceback and without errbacks.
	f.traceback = ""
	if v, _ := body.options.Get("chain"); v != nil {
		if steps, ok := v.([]protocol.Value); ok {
			f.chain(steps)
		}
	}
	return f.effects, errors.Join(f.errs...)
}

// errbacksOf are the errbacks of a failed chord's body. An errback of a nested chord stands on the body of the
// chord around it as well: that one fails in turn, and calls it then.
func (r *run) errbacksOf(body *sig) []protocol.Value {
	var outer []protocol.Value
	switch c := orNil(body.options, "chord").(type) {
	case *sig:
		outer = r.wireList(orNil(c.options, "link_error"))
	case *protocol.Object: // as it came
		if options, ok := orNil(c, "options").(*protocol.Object); ok {
			outer = r.wireList(orNil(options, "link_error"))
		}
	}
	var out []protocol.Value
	for _, eb := range r.wireList(orNil(body.options, "link_error")) {
		if !slices.ContainsFunc(outer, func(o protocol.Value) bool { return equal(o, eb) }) {
			out = append(out, eb)
		}
	}
	return out
}

// bare stores the failure of something of which only the id is known, as Celery does for a body: no group,
// no parent.
func (f *failing) bare(id, replyTo string) {
	if id == "" || f.seen[id] {
		return
	}
	f.seen[id] = true
	f.effects = append(f.effects, StoreFailure{
		TaskID: id, ReplyTo: replyTo, Exception: f.exc, Traceback: f.traceback, Children: slices.Clone(f.trail),
	})
}

// failGroup is Backend._handle_group_chord_error, less its revoke: nothing was published that could run.
func (f *failing) failGroup(r *run, body *sig, exc, cause *protocol.Exception) {
	if cause == nil {
		cause = exc
	}
	defer func(exc *protocol.Exception, tb string) { f.exc, f.traceback = exc, tb }(f.exc, f.traceback)
	f.exc, f.traceback = cause, plainTraceback(cause)
	_, results := r.freezeGroup(body, frozen{index: -1})
	own := protocol.MaybeList(orNil(body.options, "link_error"))
	for i, member := range body.tasks() {
		if r.err != nil || i >= len(results) {
			return
		}
		id := results[i].id
		var errbacks []protocol.Value
		for _, eb := range slices.Concat(resultErrbacks(member, 0), own) {
			if !r.contains(errbacks, eb) {
				errbacks = append(errbacks, r.wire(eb))
			}
		}
		f.errbacks(errbacks, id, id)
		f.bare(id, "")
		f.ends(r, member, nil)
	}
	f.traceback = ""
	f.bare(body.option("task_id"), "")
}

// resultErrbacks is _result_errbacks: the errbacks of what the result of s stands for.
func resultErrbacks(s *sig, depth int) []protocol.Value {
	var out []protocol.Value
	for s.class == chordClass && s.body() != nil {
		out = append(out, protocol.MaybeList(orNil(s.options, "link_error"))...)
		s = s.body()
	}
	out = append(out, protocol.MaybeList(orNil(s.options, "link_error"))...)
	if s.class == groupClass && depth < maxDepth {
		for _, t := range s.tasks() {
			out = append(out, resultErrbacks(t, depth+1)...)
		}
	}
	return out
}

// ends tells the tasks inside something that will not run, and reports their parts of outer chords. An
// end whose own options name no chord has that of what is around it.
func (f *failing) ends(r *run, s *sig, outer *protocol.Object) {
	if f.work++; f.work > maxSteps || r.err != nil {
		return
	}
	if c, _ := s.options.Get("chord"); truthy(c) {
		outer = s.options
	}
	switch s.class {
	case chainClass:
		if tasks := s.tasks(); len(tasks) > 0 {
			n := len(tasks) - 1
			for _, t := range tasks[:n] {
				f.ends(r, t, nil)
			}
			f.ends(r, tasks[n], outer)
			return
		}
	case groupClass:
		for _, t := range s.tasks() {
			f.ends(r, t, outer)
		}
		return
	case chordClass:
		if b := s.body(); b != nil {
			f.ends(r, b, outer)
			return
		}
	}
	id := s.option("task_id")
	f.bare(id, s.option("reply_to"))
	if outer == nil {
		return
	}
	body, _ := outer.Get("chord")
	index, _ := outer.Get("group_index")
	f.part(step{id: id, options: protocol.ObjectOf(
		protocol.Member{Key: "chord", Value: r.wire(body)},
		protocol.Member{Key: "group_id", Value: text(outer, "group_id")},
		protocol.Member{Key: "group_index", Value: index},
	)})
}

// chordTraceback has the form of a Python traceback of an exception with a cause (spec 03, 10.9).
func chordTraceback(exc, cause *protocol.Exception) string {
	var b strings.Builder
	if cause != nil {
		b.WriteString(lastLine(cause))
		b.WriteString("\n\nThe above exception was the direct cause of the following exception:\n\n")
	}
	b.WriteString(plainTraceback(exc))
	return b.String()
}

func plainTraceback(exc *protocol.Exception) string {
	return fmt.Sprintf("Traceback (most recent call last):\n  File \"stalk\", line 1, in chord\n%s\n", lastLine(exc))
}

func lastLine(exc *protocol.Exception) string {
	if exc.Module == "" || exc.Module == "builtins" {
		return exc.Error()
	}
	return exc.Module + "." + exc.Error()
}
