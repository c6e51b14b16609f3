package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// host is what the worker lends to one running handler.
type host struct {
	cfg     *Config
	settler *settler
	job     *job
	turn    chan struct{} // capacity 1: held while something is stored or sent, and for ever once closed
	memory  *reservation
}

var (
	_ handlers.Host     = (*host)(nil)
	_ handlers.Reserver = (*host)(nil)
)

// Logger is the log for the handler's own lines.
func (h *host) Logger() *slog.Logger {
	return h.cfg.Logger.With(append(taskAttrs(h.job.task), "logger", "celery.task")...)
}

// Reserve takes a part of the worker's memory budget.
func (h *host) Reserve(ctx context.Context, bytes int64) error { return h.memory.change(ctx, bytes) }

var errOver = errors.New("worker: the task is over; it can no longer report or send")

// enter waits for the turn; leave gives it back. After the end of the task there is none.
func (h *host) enter(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		// A task at its soft limit may still say how far it came.
		if !errors.Is(context.Cause(ctx), handlers.ErrSoftLimit) {
			return errOver
		}
		select {
		case h.turn <- struct{}{}:
		default:
			return errOver
		}
	}
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), handlers.ErrSoftLimit) {
		h.leave()
		return errOver
	}
	return nil
}

func (h *host) leave() { <-h.turn }

// close waits for what is in progress and refuses what comes later: nothing may be stored after the end.
func (h *host) close() { h.turn <- struct{}{} }

// Report stores a state of the running task, as Celery's update_state, even when results are ignored.
func (h *host) Report(ctx context.Context, s protocol.State, meta protocol.Value) error {
	if err := h.enter(ctx); err != nil {
		return err
	}
	defer h.leave()
	if h.cfg.Results == nil {
		return nil
	}
	if s.Ready() {
		return fmt.Errorf("worker: a running task cannot report the final state %q", s)
	}
	r := result(h.cfg, h.job, s)
	r.Value, r.Children = meta, h.job.children
	return h.settler.attempt(context.WithoutCancel(ctx), func(ctx context.Context) error {
		return h.cfg.Results.Store(ctx, record(h.job, r))
	})
}

// Spawn sends a signature as a child of the running task.
func (h *host) Spawn(ctx context.Context, s handlers.Signature) (handlers.Sent, error) {
	return h.send(ctx, s, func(sig canvas.Signature, env *canvas.Env) (canvas.Plan, error) {
		return canvas.Apply(sig, nil, nil, nil, env)
	})
}

// AddToChord sends a signature as one more part of the task's chord.
func (h *host) AddToChord(ctx context.Context, s handlers.Signature) (handlers.Sent, error) {
	return h.send(ctx, s, func(sig canvas.Signature, env *canvas.Env) (canvas.Plan, error) {
		return canvas.AddToChord(h.job.task, sig, env)
	})
}

func (h *host) send(ctx context.Context, s handlers.Signature, apply func(canvas.Signature, *canvas.Env) (canvas.Plan, error)) (handlers.Sent, error) {
	sig, err := signatureOf(s)
	if err != nil {
		return handlers.Sent{}, err
	}
	p, err := h.publish(ctx, func(env *canvas.Env) (canvas.Plan, error) { return apply(sig, env) })
	if err != nil {
		return handlers.Sent{}, err
	}
	return handlers.Sent{ID: p.ID(), Tuple: p.Result}, nil
}

// publish makes the effects of a plan safe, and its children those of the running task.
func (h *host) publish(ctx context.Context, plan func(*canvas.Env) (canvas.Plan, error)) (canvas.Plan, error) {
	if err := h.enter(ctx); err != nil {
		return canvas.Plan{}, err
	}
	defer h.leave()
	p, err := plan(envFor(h.cfg, h.settler.who, h.job, time.Now()))
	if err != nil {
		return canvas.Plan{}, err
	}
	for _, e := range p.Effects {
		if err := h.settler.effect(ctx, h.job, e); err != nil {
			return canvas.Plan{}, err
		}
	}
	h.job.children = append(h.job.children, p.Children...)
	return p, nil
}

// hostOf is the host of the task that runs in ctx, for the built-in tasks.
func hostOf(ctx context.Context) (*host, bool) {
	lent, _ := handlers.HostFrom(ctx)
	h, ok := lent.(*host)
	return h, ok
}

// performAll makes every effect that follows safe, on behalf of the running task.
func (h *host) performAll(ctx context.Context, effects func(*canvas.Env) ([]canvas.Effect, error)) error {
	if err := h.enter(ctx); err != nil {
		return err
	}
	defer h.leave()
	list, err := effects(envFor(h.cfg, h.settler.who, h.job, time.Now()))
	if err != nil {
		h.settler.log.Error("somebody who waits for a failed chord could not be told", append(taskAttrs(h.job.task), "err", err)...)
	}
	for _, st := range effectSteps(list) {
		if err := h.settler.take(ctx, h.job, st); err != nil {
			return err
		}
	}
	return nil
}
