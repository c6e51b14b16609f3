package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

type xy struct {
	X protocol.Value `json:"x"`
	Y protocol.Value `json:"y"`
}

type one struct {
	X protocol.Value `json:"x"`
}

type numbers struct {
	Nums protocol.Value `json:"nums"`
}

func plainTasks() []handlers.Handler {
	return []handlers.Handler{
		handlers.Func("celery.ping", func(context.Context, none) (string, error) { return "pong", nil }),
		task("identity", func(_ context.Context, in one) (protocol.Value, error) { return in.X, nil }),
		task("add", add),
		task("add_not_typed", addTwo),
		with(task("add_ignore_result", addTwo), func(o *handlers.Options) { o.IgnoreResult = true }),
		task("add_with_result", addTwo),
		task("mul", func(_ context.Context, in struct {
			X int64 `json:"x"`
			Y int64 `json:"y"`
		},
		) (int64, error) {
			return in.X * in.Y, nil
		}),
		task("tsum", func(_ context.Context, in numbers) (protocol.Value, error) { return sum(in.Nums) }),
		task("xsum", xsum),
		task("delayed_sum", delayedSum),
		task("delayed_sum_with_soft_guard", func(ctx context.Context, in delayed) (protocol.Value, error) {
			v, err := delayedSum(ctx, in)
			if context.Cause(ctx) == handlers.ErrSoftLimit {
				return int64(0), nil
			}
			return v, err
		}),
		task("sleeping", func(ctx context.Context, in struct {
			I    float64          `json:"i"`
			Rest *protocol.Object `celery:"**kwargs"`
		},
		) (none, error) {
			return none{}, pause(ctx, in.I)
		}),
		task("write_to_file_and_return_int", writeToFile),
		task("print_unicode", func(_ context.Context, in struct {
			LogMessage   string `json:"log_message" default:"håå®ƒ valmuefrø"`
			PrintMessage string `json:"print_message" default:"hiöäüß"`
		},
		) (none, error) {
			slog.Warn(in.LogMessage)
			fmt.Println(in.PrintMessage)
			return none{}, nil
		}),
		task("return_exception", func(_ context.Context, in struct {
			E protocol.Value `json:"e"`
		},
		) ([]any, error) {
			return []any{in.E, true}, nil
		}),
		task("add_pydantic", addModels),
		task("add_pydantic_string_annotations", addModels),
		task("replaced_with_me", func(context.Context, none) (bool, error) { return true, nil }),
		with(task("soft_time_limit_must_exceed_time_limit", func(context.Context, none) (none, error) { return none{}, nil }),
			func(o *handlers.Options) { o.SoftLimit, o.HardLimit = 2*time.Second, time.Second }),
	}
}

func add(_ context.Context, in struct {
	xy
	Z protocol.Value `json:"z,omitzero"`
},
) (protocol.Value, error) {
	total, err := plus(in.X, in.Y)
	if err != nil || !protocol.Truthy(in.Z) {
		return total, err
	}
	return plus(total, in.Z)
}

func addTwo(_ context.Context, in xy) (protocol.Value, error) { return plus(in.X, in.Y) }

func xsum(_ context.Context, in numbers) (protocol.Value, error) {
	list, err := iterate(in.Nums)
	if err != nil {
		return nil, err
	}
	total := protocol.Value(int64(0))
	for _, n := range list {
		if inner, err := iterate(n); err == nil {
			if n, err = sum(inner); err != nil {
				return nil, err
			}
		}
		if total, err = plus(total, n); err != nil {
			return nil, err
		}
	}
	return total, nil
}

type delayed struct {
	Numbers   protocol.Value `json:"numbers"`
	PauseTime float64        `json:"pause_time" default:"1"`
}

func delayedSum(ctx context.Context, in delayed) (protocol.Value, error) {
	if err := pause(ctx, in.PauseTime); err != nil {
		return nil, err
	}
	return sum(in.Numbers)
}

// pause is time.sleep, which a time limit or the end of the worker cuts short.
func pause(ctx context.Context, seconds float64) error {
	t := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func writeToFile(_ context.Context, in struct {
	FileName string `json:"file_name"`
	I        int64  `json:"i"`
},
) (int64, error) {
	f, err := os.OpenFile(in.FileName, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, in.I)
	return in.I, err
}

// addModels is the task with Pydantic models: structs do here what they do there.
func addModels(_ context.Context, in struct {
	Data struct {
		X int64 `json:"x"`
		Y int64 `json:"y"`
	} `json:"data"`
},
) (out struct {
	Result int64 `json:"result"`
}, err error,
) {
	out.Result = in.Data.X + in.Data.Y
	return out, nil
}
