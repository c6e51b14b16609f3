package main

import (
	"context"
	"runtime"
	"strings"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/worker"
)

// diffTasks are those of pyfixtures/controldiff.py, with the same options: remote control shows them.
func diffTasks() []handlers.Handler {
	seven := 7
	return []handlers.Handler{
		handlers.Func("diff.add", func(_ context.Context, in struct {
			X int64 `json:"x"`
			Y int64 `json:"y" default:"1"`
		},
		) (int64, error) {
			return in.X + in.Y, nil
		}),
		handlers.Func("diff.sleep", func(ctx context.Context, in stock) (float64, error) {
			select {
			case <-time.After(time.Duration(in.Seconds * float64(time.Second))):
				return in.Seconds, nil
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		}),
		handlers.Func("diff.rare", func(_ context.Context, in struct {
			X int64 `json:"x,omitzero"`
		},
		) (int64, error) {
			return in.X, nil
		}).With(handlers.Options{Rate: "2/h"}),
		handlers.Func("diff.limits", func(context.Context, struct{}) (any, error) { return nil, nil }).With(handlers.Options{
			SoftLimit: 40 * time.Second, HardLimit: 50500 * time.Millisecond,
			Retry: handlers.RetryPolicy{Max: &seven, Delay: 11 * time.Second},
		}),
		handlers.Func("diff.quiet", func(context.Context, struct{}) (any, error) { return nil, nil }).With(handlers.Options{
			IgnoreResult: true, EarlyAck: true,
		}),
	}
}

// controlCommands are the program's own remote control commands: how many goroutines there are, and what they do.
func controlCommands() map[string]worker.Command {
	return map[string]worker.Command{
		"goroutines": func(context.Context, *worker.Node, *protocol.Object) (any, error) {
			all := stacks()
			return strings.Count(all, "\n\ngoroutine ") + 1 - strings.Count(all, "]:\n"+spare), nil
		},
		"goroutine_dump": func(context.Context, *worker.Node, *protocol.Object) (any, error) { return stacks(), nil },
	}
}

// spare is what the worker's goroutines do that are kept for the next task: their number is bounded, and that of the moment.
const spare = "github.com/stalkworker/stalk/worker.(*crew).serve("

func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}
