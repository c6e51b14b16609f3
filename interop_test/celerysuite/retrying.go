package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

type fooBar struct {
	Foo protocol.Value `json:"foo"`
	Bar protocol.Value `json:"bar"`
}

type retryOptions struct {
	Args       []protocol.Value `celery:"*args"`
	Expires    protocol.Value   `json:"expires,omitzero"` // of the client's message, which a retry keeps
	MaxRetries int              `json:"max_retries" default:"1"`
	Countdown  float64          `json:"countdown" default:"0.1"`
}

func (o retryOptions) again() error {
	return &handlers.RetryError{In: seconds(o.Countdown), Max: &o.MaxRetries}
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

func retryingTasks() []handlers.Handler {
	once := func(h handlers.Handler) handlers.Handler {
		one := 1
		return with(h, func(o *handlers.Options) { o.Retry.Max = &one })
	}
	return []handlers.Handler{
		retryTask(),
		task("retry_unpickleable", func(_ context.Context, in struct {
			fooBar
			RetryKwargs struct {
				Countdown  float64 `json:"countdown" default:"1"`
				MaxRetries *int    `json:"max_retries,omitzero"`
			} `json:"retry_kwargs" celery:"keyword"`
		},
		) (none, error) {
			return none{}, &handlers.RetryError{
				Cause: unpickleableException(in.Foo), In: seconds(in.RetryKwargs.Countdown), Max: in.RetryKwargs.MaxRetries,
			}
		}),
		once(task("retry_with_args_after_kwargs", func(ctx context.Context, in struct {
			fooBar
			Label protocol.Value `json:"label,omitzero"`
		},
		) (map[string]any, error) {
			if info(ctx).Retries == 0 {
				foo, err := plus(in.Foo, int64(1))
				if err != nil {
					return nil, err
				}
				bar, err := plus(in.Bar, int64(1))
				if err != nil {
					return nil, err
				}
				return nil, &handlers.RetryError{Args: []any{foo, bar}, Kwargs: map[string]any{"label": in.Label}}
			}
			return map[string]any{"foo": in.Foo, "bar": in.Bar, "label": in.Label, "retries": info(ctx).Retries, "is_eager": false}, nil
		})),
		once(task("retry_with_kwargs_after_args", func(ctx context.Context, in fooBar) (map[string]any, error) {
			if info(ctx).Retries == 0 {
				foo, err := plus(in.Foo, int64(1))
				if err != nil {
					return nil, err
				}
				return nil, &handlers.RetryError{Args: []any{}, Kwargs: map[string]any{"foo": foo, "bar": in.Bar}}
			}
			return map[string]any{"foo": in.Foo, "bar": in.Bar, "retries": info(ctx).Retries, "is_eager": false}, nil
		})),
		once(task("retry_once", func(ctx context.Context, in retryOptions) (int, error) {
			if n := info(ctx).Retries; n > 0 {
				return n, nil
			}
			return 0, in.again()
		})),
		with(task("retry_once_ignore_result", retryAtOnce), func(o *handlers.Options) { o.IgnoreResult = true }),
		task("retry_once_with_result", retryAtOnce),
		once(task("retry_once_priority", func(ctx context.Context, in retryOptions) (protocol.Value, error) {
			if info(ctx).Retries > 0 {
				return priority(ctx), nil
			}
			return nil, in.again()
		})),
		once(task("retry_once_headers", func(ctx context.Context, in struct {
			Args       []protocol.Value `celery:"*args"`
			MaxRetries int              `json:"max_retries" default:"1"`
			Countdown  float64          `json:"countdown" default:"0.1"`
		},
		) (*protocol.Object, error) {
			if info(ctx).Retries > 0 {
				return info(ctx).Headers, nil
			}
			return nil, retryOptions{MaxRetries: in.MaxRetries, Countdown: in.Countdown}.again()
		})),
		autoRetryTask(),
	}
}

// retryTask retries three times and then returns its argument, or fails when there is none. It counts in the
// worker and not in the message, as the suite's does.
func retryTask() handlers.Handler {
	var mu sync.Mutex
	attempt := 0
	h := task("retry", func(_ context.Context, in struct {
		ReturnValue protocol.Value `json:"return_value,omitzero"`
	},
	) (protocol.Value, error) {
		if protocol.Truthy(in.ReturnValue) {
			mu.Lock()
			defer mu.Unlock()
			if attempt >= 3 {
				attempt = 0
				return in.ReturnValue, nil
			}
			attempt++
		}
		return nil, handlers.Retry(expectedException(), 5*time.Second)
	})
	return with(h, func(o *handlers.Options) { o.Retry.Delay = time.Second })
}

func retryAtOnce(ctx context.Context, _ none) (int, error) {
	if n := info(ctx).Retries; n > 0 {
		return n, nil
	}
	return 0, handlers.Retry(nil, 0)
}

// autoRetryTask is the class-based task: autoretry_for ValueError, once, with backoff.
func autoRetryTask() handlers.Handler {
	one := 1
	return handlers.Func("auto_retry_class_task", func(ctx context.Context, _ none) (int, error) {
		if n := info(ctx).Retries; n > 0 {
			return n, nil
		}
		return 0, protocol.NewException("ValueError")
	}).With(handlers.Options{EarlyAck: true, Retry: handlers.RetryPolicy{
		Max: &one, Backoff: time.Second,
		On: func(err error) bool {
			exc, ok := errors.AsType[*protocol.Exception](err)
			return ok && exc.Type == "ValueError"
		},
	}})
}
