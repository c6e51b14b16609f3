package worker

import (
	"context"
	"errors"
	"fmt"
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
		handlers.Raw("celery.map", b.mapped),
		handlers.Raw("celery.starmap", b.starmapped),
		handlers.Raw("celery.chunks", b.chunks),
		handlers.Raw("celery.group", b.group),
		handlers.Raw("celery.chord", b.chord),
		handlers.Raw("celery.chain", func(context.Context, []protocol.Value, *protocol.Object) (any, error) {
			return nil, protocol.NewException("NotImplementedError", "chain is not a real task")
		}),
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

// accumulate returns its arguments, or the one that index names.
func accumulate(_ context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	v, _ := kwargs.Get("index")
	if v == nil {
		return args, nil
	}
	i, ok := v.(int64)
	if ok && i < 0 {
		i += int64(len(args))
	}
	if !ok || i < 0 || i >= int64(len(args)) {
		return nil, protocol.NewException("IndexError", "tuple index out of range")
	}
	return args[i], nil
}

// bound reads the arguments of a built-in task by name: positional ones fill names in order.
func bound(task string, args []protocol.Value, kwargs *protocol.Object, names ...string) (map[string]protocol.Value, error) {
	out := map[string]protocol.Value{}
	if len(args) > len(names) {
		return nil, protocol.NewException("TypeError", fmt.Sprintf("%s() takes %d positional arguments but %d were given", task, len(names), len(args)))
	}
	for i, v := range args {
		out[names[i]] = v
	}
	for _, m := range kwargs.Members() {
		out[m.Key] = m.Value
	}
	return out, nil
}

func (b *builtin) mapped(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	return b.each(ctx, "map", args, kwargs, func(item protocol.Value) ([]protocol.Value, error) {
		return []protocol.Value{item}, nil
	})
}

func (b *builtin) starmapped(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	return b.each(ctx, "starmap", args, kwargs, func(item protocol.Value) ([]protocol.Value, error) {
		list, ok := item.([]protocol.Value)
		if !ok {
			return nil, protocol.NewException("TypeError", "starmap() items must be lists of arguments")
		}
		return list, nil
	})
}

// each calls the named task in place once per item, in order; the first error fails the whole.
func (b *builtin) each(ctx context.Context, task string, args []protocol.Value, kwargs *protocol.Object, split func(protocol.Value) ([]protocol.Value, error)) (any, error) {
	in, err := bound(task, args, kwargs, "task", "it")
	if err != nil {
		return nil, err
	}
	items, ok := in["it"].([]protocol.Value)
	if !ok {
		return nil, protocol.NewException("TypeError", task+"() argument 'it' must be a list")
	}
	name := protocol.SignatureName(in["task"])
	h, known := b.w.cfg.Handlers.Lookup(name)
	if !known {
		return nil, protocol.NotRegistered(name)
	}
	info, _ := handlers.InfoFrom(ctx)
	out := make([]any, 0, len(items))
	for _, item := range items {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		list, err := split(item)
		if err != nil {
			return nil, err
		}
		v, err := h.Invoke()(ctx, &protocol.Task{ID: info.ID, Name: name, Args: list, Kwargs: &protocol.Object{}, RootID: info.RootID})
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// chunks sends the items in groups of celery.starmap, as the task a client may have sent by name.
func (b *builtin) chunks(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	in, err := bound("chunks", args, kwargs, "task", "it", "n")
	if err != nil {
		return nil, err
	}
	sig := protocol.ObjectOf(
		protocol.Member{Key: "task", Value: "celery.chunks"}, protocol.Member{Key: "args", Value: []protocol.Value{}},
		protocol.Member{Key: "kwargs", Value: protocol.ObjectOf(protocol.Member{Key: "task", Value: in["task"]}, protocol.Member{Key: "it", Value: in["it"]}, protocol.Member{Key: "n", Value: in["n"]})},
		protocol.Member{Key: "options", Value: &protocol.Object{}}, protocol.Member{Key: "subtask_type", Value: "chunks"}, protocol.Member{Key: "immutable", Value: true},
	)
	return b.spawn(ctx, sig)
}

// group applies the tasks it is given (legacy: no client of Celery 5 sends it).
func (b *builtin) group(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	in, err := bound("group", args, kwargs, "tasks", "result", "group_id", "partial_args", "add_to_parent")
	if err != nil {
		return nil, err
	}
	tasks, _ := in["tasks"].([]protocol.Value)
	var members []canvas.Signature
	for _, t := range tasks {
		s, err := canvas.Parse(t)
		if err != nil {
			return nil, protocol.NewException("ValueError", err.Error())
		}
		members = append(members, s)
	}
	return handlers.Spawn(ctx, canvas.Group(members...))
}

// chord starts the chord it is given (legacy, as group).
func (b *builtin) chord(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	in, err := bound("chord", args, kwargs, "header", "body", "partial_args", "interval", "countdown", "max_retries", "eager")
	if err != nil {
		return nil, err
	}
	sig := protocol.ObjectOf(
		protocol.Member{Key: "task", Value: "celery.chord"}, protocol.Member{Key: "args", Value: []protocol.Value{}},
		protocol.Member{Key: "kwargs", Value: protocol.ObjectOf(protocol.Member{Key: "header", Value: in["header"]}, protocol.Member{Key: "body", Value: in["body"]}, protocol.Member{Key: "kwargs", Value: &protocol.Object{}})},
		protocol.Member{Key: "options", Value: &protocol.Object{}}, protocol.Member{Key: "subtask_type", Value: "chord"}, protocol.Member{Key: "immutable", Value: false},
	)
	return b.spawn(ctx, sig)
}

func (b *builtin) spawn(ctx context.Context, v protocol.Value) (any, error) {
	s, err := canvas.Parse(v)
	if err != nil {
		return nil, protocol.NewException("ValueError", err.Error())
	}
	return handlers.Spawn(ctx, s)
}

// unlock is celery.chord_unlock: it watches the results of a chord's header in a store that does not count
// them, and publishes the body when all are there. It retries itself until then.
func (b *builtin) unlock(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	in, err := bound("unlock_chord", args, kwargs, "group_id", "callback", "interval", "max_retries", "result")
	if err != nil {
		return nil, err
	}
	store, ok := b.w.cfg.Results.(resultbackend.Loader)
	if !ok {
		return nil, protocol.NewException("NotImplementedError", "celery.chord_unlock needs a result store that can be read")
	}
	h, ok := hostOf(ctx)
	if !ok {
		return nil, handlers.ErrNoTask
	}
	groupID, _ := in["group_id"].(string)
	again := func() error {
		wait := time.Duration(-1)
		if f, ok := in["interval"].(float64); ok {
			wait = time.Duration(f * float64(time.Second))
		} else if n, ok := in["interval"].(int64); ok {
			wait = time.Duration(n) * time.Second
		}
		return handlers.Retry(nil, wait)
	}
	part := canvas.Part{TaskID: h.job.task.ID, GroupID: groupID, Body: in["callback"]}
	tuples, _ := in["result"].([]protocol.Value)
	values := make([]protocol.Value, 0, len(tuples))
	for _, tuple := range tuples {
		id := tupleID(tuple)
		r, err := store.Load(ctx, id)
		switch {
		case errors.Is(err, resultbackend.ErrNotFound):
			return nil, again()
		case err != nil:
			return nil, handlers.Retry(err, time.Second)
		case !r.Status.Ready():
			return nil, again()
		case r.Status != protocol.Success:
			return nil, h.performAll(ctx, func(env *canvas.Env) ([]canvas.Effect, error) {
				return canvas.ChordFailed(part, canvas.PollDependencyText(r.Exception), r.Exception, env)
			})
		}
		values = append(values, r.Value)
	}
	return nil, h.performAll(ctx, func(env *canvas.Env) ([]canvas.Effect, error) {
		p, err := canvas.Body(part, values, env)
		if err != nil {
			return canvas.ChordFailed(part, canvas.CallbackErrorText(err), protocol.FromError(err), env)
		}
		return p.Effects, nil
	})
}

// tupleID is the id of a result tuple: [[id, parent], members] or [id, members].
func tupleID(v protocol.Value) string {
	for range 2 {
		list, ok := v.([]protocol.Value)
		if !ok || len(list) == 0 {
			break
		}
		v = list[0]
	}
	id, _ := v.(string)
	return id
}
