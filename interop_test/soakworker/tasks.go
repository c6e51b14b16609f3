package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

type sum struct {
	X  int64 `json:"x"`
	Y  int64 `json:"y,omitzero"`
	MS int   `json:"ms,omitzero"`
}

type numbers struct {
	Numbers protocol.Value `json:"numbers"`
	MS      int            `json:"ms,omitzero"`
}

type text struct {
	Text string `json:"text"`
	MS   int    `json:"ms,omitzero"`
}

type again struct {
	Times     int `json:"times"`
	Countdown int `json:"countdown,omitzero"`
}

type number struct {
	X  int64 `json:"x"`
	MS int   `json:"ms,omitzero"`
}

type failed struct {
	ID string `json:"failed"`
}

// tasks are those of pyfixtures/soak.py, in Go.
func tasks(j *journal, p *points) []handlers.Handler {
	unlimited := -1
	r := recorder{j, p}
	return []handlers.Handler{
		task(r, "soak.add", func(_ context.Context, in sum) (int64, error) {
			r.pause(in.MS)
			return in.X + in.Y, nil
		}),
		task(r, "soak.total", func(_ context.Context, in numbers) (int64, error) {
			r.pause(in.MS)
			return total(in.Numbers)
		}),
		task(r, "soak.fail", func(_ context.Context, in text) (bool, error) {
			r.pause(in.MS)
			return false, protocol.NewException("ValueError", in.Text)
		}),
		task(r, "soak.retry", func(ctx context.Context, in again) (int, error) {
			r.pause(0)
			info, _ := handlers.InfoFrom(ctx)
			if info.Retries < in.Times {
				return 0, handlers.Retry(nil, time.Duration(in.Countdown)*time.Second)
			}
			return info.Retries, nil
		}).With(handlers.Options{Retry: handlers.RetryPolicy{Max: &unlimited}}),
		task(r, "soak.progress", func(ctx context.Context, in number) (int64, error) {
			for done := range 2 {
				if err := handlers.Progress(ctx, map[string]int{"done": done + 1}); err != nil {
					return 0, handlers.Retry(err, 0)
				}
				r.pause(in.MS)
			}
			return in.X, nil
		}),
		task(r, "soak.replace", func(ctx context.Context, in number) (int64, error) {
			info, _ := handlers.InfoFrom(ctx)
			return 0, handlers.Replace(canvas.Chain(canvas.New("soak.add", in.X, 1).Queue(info.Queue), canvas.New("soak.add", 1).Queue(info.Queue)))
		}),
		task(r, "soak.spawn", func(ctx context.Context, in number) (string, error) {
			info, _ := handlers.InfoFrom(ctx)
			sent, err := handlers.Spawn(ctx, canvas.New("soak.add", in.X, 1).Queue(info.Queue))
			if err != nil {
				return "", handlers.Retry(err, 0)
			}
			r.pause(in.MS)
			return sent.ID, nil
		}),
		task(r, "soak.requeue", func(ctx context.Context, in number) (int64, error) {
			r.pause(0)
			if info, _ := handlers.InfoFrom(ctx); !info.Redelivered {
				return 0, handlers.Requeue(errors.New("later"))
			}
			return in.X, nil
		}),
		task(r, "soak.reject", func(_ context.Context, in text) (bool, error) {
			r.pause(in.MS)
			return false, handlers.Reject(errors.New(in.Text))
		}),
		task(r, "soak.note", func(_ context.Context, in failed) (bool, error) {
			j.write("N", in.ID)
			return true, nil
		}),
	}
}

func total(v protocol.Value) (sum int64, err error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case []protocol.Value:
		for _, e := range v {
			n, err := total(e)
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum, nil
	}
	return 0, fmt.Errorf("soak.total: a %T is no number", v)
}

// A recorder writes down each run's beginning and end.
type recorder struct {
	j *journal
	p *points
}

// pause is a task's work; the process may be killed in the middle of it.
func (r recorder) pause(ms int) {
	half := time.Duration(ms) * time.Millisecond / 2
	time.Sleep(half)
	r.p.pass(started)
	time.Sleep(half)
}

func task[In, Out any](r recorder, name string, fn func(context.Context, In) (Out, error)) handlers.Handler {
	return handlers.Func(name, func(ctx context.Context, in In) (Out, error) {
		info, _ := handlers.InfoFrom(ctx)
		run := []string{info.ID, strconv.Itoa(info.Retries), strconv.Itoa(os.Getpid()), name}
		r.j.write(append([]string{"B"}, run...)...)
		defer r.j.write(append([]string{"E"}, run...)...)
		return fn(ctx, in)
	})
}
