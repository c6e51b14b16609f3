package worker

import (
	"context"
	"errors"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// builtins are the tasks every Celery worker serves (celery/app/builtins.py). A program's own handler of
// the same name wins.
func builtins(w *Worker) []handlers.Handler {
	b := &builtin{w: w}
	return []handlers.Handler{
		handlers.Raw("celery.accumulate", accumulate),
		b.mapped("celery.map"),
		b.mapped("celery.starmap"),
		applied("celery.chunks"),
		applied("celery.group"),
		applied("celery.chord"),
		applied("celery.chain"),
		handlers.Raw("celery.chord_unlock", b.unlock).With(handlers.Options{
			IgnoreResult: true, Retry: handlers.RetryPolicy{Max: unlimited(), Delay: time.Second},
		}),
		// Redis expires results by itself, and nothing else is cleaned up from here.
		handlers.Raw("celery.backend_cleanup", func(context.Context, []protocol.Value, *protocol.Object) (any, error) { return nil, nil }),
	}
}

func unlimited() *int { n := -1; return &n }

// withBuiltins is the program's registry with the built-in tasks it does not serve itself.
func withBuiltins(own *handlers.Registry, w *Worker) (*handlers.Registry, error) {
	var all []handlers.Handler
	for h := range own.All() {
		all = append(all, h)
	}
	for _, h := range builtins(w) {
		if _, taken := own.Lookup(h.Name()); !taken {
			all = append(all, h)
		}
	}
	return handlers.NewRegistry(all...)
}

type builtin struct{ w *Worker }

// called is the call of a built-in task as canvas reads it.
func called(name string, args []protocol.Value, kwargs *protocol.Object) *protocol.Task {
	return &protocol.Task{Name: name, Args: args, Kwargs: kwargs}
}

// refused is the exception for arguments that canvas cannot read.
func refused(err error) error {
	if bad, ok := errors.AsType[*canvas.SignatureError](err); ok {
		return protocol.NewException("ValueError", bad.Error())
	}
	return err
}

func accumulate(_ context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	return canvas.Accumulate(called("celery.accumulate", args, kwargs))
}

// mapped is celery.map or celery.starmap: it calls the named task in place once per item, in order; the
// first error fails the whole.
func (b *builtin) mapped(name string) handlers.Handler {
	return handlers.Raw(name, func(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
		m, err := canvas.ParseMap(called(name, args, kwargs))
		if err != nil {
			return nil, refused(err)
		}
		h, known := b.w.cfg.Handlers.Lookup(m.Task)
		if !known {
			return nil, protocol.NotRegistered(m.Task)
		}
		info, _ := handlers.InfoFrom(ctx)
		out := make([]any, 0, len(m.Calls))
		for _, args := range m.Calls {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			v, err := h.Invoke()(ctx, &protocol.Task{ID: info.ID, Name: m.Task, Args: args, Kwargs: &protocol.Object{}, RootID: info.RootID})
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	})
}

// applied is a built-in task that publishes something, and returns its result tuple.
func applied(name string) handlers.Handler {
	return handlers.Raw(name, func(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
		h, ok := hostOf(ctx)
		if !ok {
			return nil, handlers.ErrNoTask
		}
		t := *h.job.task
		t.Name, t.Args, t.Kwargs = name, args, kwargs
		p, err := h.publish(ctx, func(env *canvas.Env) (canvas.Plan, error) {
			p, _, err := canvas.ApplyBuiltin(&t, env)
			return p, err
		})
		return p.Result, refused(err)
	})
}

// unlock is celery.chord_unlock: it watches the results of a chord's header in a store that does not count
// them, and publishes the body when all are there. It retries itself until then.
func (b *builtin) unlock(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	u, err := canvas.ParseUnlock(called("celery.chord_unlock", args, kwargs))
	if err != nil {
		return nil, refused(err)
	}
	store, ok := b.w.cfg.Results.(resultbackend.Loader)
	if !ok {
		return nil, protocol.NewException("NotImplementedError", "celery.chord_unlock needs a result store that can be read")
	}
	h, ok := hostOf(ctx)
	if !ok {
		return nil, handlers.ErrNoTask
	}
	var away error // why a record cannot be read
	j := u.Check(func(id string) (protocol.Result, bool) {
		r, err := store.Load(ctx, id)
		if err != nil && !errors.Is(err, resultbackend.ErrNotFound) {
			away = err
		}
		return r, err == nil
	})
	if away != nil || !j.Ready {
		return nil, h.unlockLater(ctx, u, away)
	}
	return nil, h.performAll(ctx, func(env *canvas.Env) ([]canvas.Effect, error) {
		if j.Exception != nil {
			return canvas.ChordFailed(u.Part(), canvas.PollDependencyText(j.Exception), j.Exception, env)
		}
		p, err := canvas.Body(u.Part(), j.Results, env)
		if err != nil {
			return canvas.ChordFailed(u.Part(), canvas.CallbackErrorText(err), protocol.FromError(err), env)
		}
		return p.Effects, nil
	})
}

// unlockLater looks at the chord again after its interval. When no retry is left nobody would ever look
// again, so that the chord fails.
func (h *host) unlockLater(ctx context.Context, u canvas.Unlock, cause error) error {
	if u.MaxRetries == nil || h.job.task.Retries < *u.MaxRetries {
		wait := time.Duration(-1)
		if u.Interval > 0 {
			wait = u.Interval
		}
		return handlers.Retry(cause, wait)
	}
	exc := outOfRetries(h.job.task)
	if cause != nil {
		exc = protocol.FromError(cause)
	}
	err := h.performAll(ctx, func(env *canvas.Env) ([]canvas.Effect, error) {
		return canvas.ChordFailed(u.Part(), canvas.UnlockErrorText(exc), exc, env)
	})
	if err != nil {
		return err
	}
	return exc
}
