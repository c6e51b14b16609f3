package worker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// An errback of the new style takes (request, exception, traceback) and is called in the process of the worker
// whose task failed; one of the old style takes the failed task's id and is sent as a message. Which one it is
// shows in its parameters (celery/backends/base.py, _call_task_errbacks).

// newStyle reports whether h, called as an errback, takes more than one argument besides those stored in its
// signature. As with Python's functools.partial a stored keyword ends the positional parameters.
func newStyle(h handlers.Handler, args []protocol.Value, kwargs *protocol.Object, immutable bool) bool {
	var positional []string
	for _, p := range h.Params() {
		switch {
		case strings.HasPrefix(p.Name, "**"), p.Keyword:
		case strings.HasPrefix(p.Name, "*"):
			return true
		default:
			positional = append(positional, p.Name)
		}
	}
	left := len(positional)
	if !immutable && len(args) <= left {
		for i, name := range positional {
			if _, stored := kwargs.Get(name); stored {
				left = i
				break
			}
		}
		left = max(left-len(args), 0)
	}
	return left > 1
}

// errbackTimeout bounds an errback that is called in place: the failed task's message waits for it.
const errbackTimeout = time.Minute

// errback calls an errback in place. What it returns, raises or panics with is only logged, as in Celery.
func (s *settler) errback(ctx context.Context, j *job, e canvas.CallErrback) {
	h, known := s.cfg.Handlers.Lookup(e.Task)
	if !known {
		return // Env.Errback said that it is
	}
	args, kwargs := e.Args, e.Kwargs
	if !e.Immutable {
		args = append([]protocol.Value{requestOf(j, e), exceptionValue(e.Exception), textOrNone(e.Traceback)}, e.Args...)
	}
	if kwargs == nil {
		kwargs = &protocol.Object{}
	}
	ctx, cancel := context.WithTimeout(ctx, errbackTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("errback "+printable(e.Task)+" panicked", append(taskAttrs(j.task), "err", fmt.Sprint(v))...)
		}
	}()
	if _, err := h.Invoke()(ctx, &protocol.Task{ID: e.FailedID, Name: e.Task, RootID: e.RootID, Args: args, Kwargs: kwargs}); err != nil {
		s.log.Error("errback "+printable(e.Task)+" raised an exception", append(taskAttrs(j.task), "err", fmt.Sprint(err))...)
	}
}

// requestOf is what an errback sees of the request that failed: a dict with the names of Celery's Context. Of
// a chord's body only its id is known.
func requestOf(j *job, e canvas.CallErrback) protocol.Value {
	o := protocol.ObjectOf(protocol.Member{Key: "id", Value: e.FailedID}, protocol.Member{Key: "root_id", Value: e.RootID})
	if t := j.task; e.FailedID == t.ID {
		o.Set("task", t.Name)
		o.Set("args", t.Args)
		o.Set("kwargs", t.Kwargs)
		o.Set("retries", int64(t.Retries))
		o.Set("parent_id", textOrNone(t.ParentID))
		o.Set("group", textOrNone(t.Group))
	}
	return o
}

// exceptionValue is an exception as a result document holds it.
func exceptionValue(exc *protocol.Exception) protocol.Value {
	if exc == nil {
		return nil
	}
	return protocol.ObjectOf(
		protocol.Member{Key: "exc_type", Value: exc.Type}, protocol.Member{Key: "exc_message", Value: exc.Args},
		protocol.Member{Key: "exc_module", Value: exc.Module},
	)
}

func textOrNone(s string) protocol.Value {
	if s == "" {
		return nil
	}
	return s
}
