package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/handlers/handlerstest"
	"github.com/stalkworker/stalk/protocol"
)

// In Python this task is called as make_thumbnail.delay("cat.jpg"), .delay("cat.jpg", 100) or
// .delay(path="cat.jpg", width=100).
func ExampleFunc() {
	type thumbnail struct {
		Path  string  `json:"path"`
		Width int     `json:"width" default:"200"`
		Label *string `json:"label,omitzero"`
	}
	h := handlers.Func("myapp.tasks.make_thumbnail", func(_ context.Context, in thumbnail) (map[string]any, error) {
		return map[string]any{"name": in.Path + ".thumb", "width": in.Width}, nil
	})

	reg, err := handlers.NewRegistry(h)
	fmt.Println(reg.Len(), err)

	ctx := context.Background()
	fmt.Println(handlerstest.Run(ctx, h, "cat.jpg").JSON())
	fmt.Println(handlerstest.Run(ctx, h, "cat.jpg", handlerstest.Kwargs{"width": 100}).JSON())
	fmt.Println(handlerstest.Run(ctx, h).Exception)
	fmt.Println(handlerstest.Run(ctx, h, "cat.jpg", "wide").Exception)
	// Output:
	// 1 <nil>
	// {"name": "cat.jpg.thumb", "width": 200}
	// {"name": "cat.jpg.thumb", "width": 100}
	// TypeError: make_thumbnail() missing 1 required positional argument: 'path'
	// TypeError: make_thumbnail() argument 'width': want int, got str
}

// Fields for what is left over make def tag(name, *words, sep=" ", **counts).
func ExampleFunc_variadic() {
	type tag struct {
		Name   string         `json:"name"`
		Words  []string       `json:"words" celery:"*args"`
		Sep    string         `json:"sep" default:" "`
		Counts map[string]int `json:"counts" celery:"**kwargs"`
	}
	h := handlers.Func("tag", func(_ context.Context, in tag) (string, error) {
		return fmt.Sprint(in.Name, in.Words, in.Sep, in.Counts), nil
	})
	fmt.Println(handlerstest.Run(context.Background(), h, "n", "a", "b", handlerstest.Kwargs{"sep": "-", "hits": 3}).Value)
	for _, p := range h.Params() {
		fmt.Println(p.Name, p.Type, p.Optional)
	}
	// Output:
	// n[a b]-map[hits:3]
	// name str false
	// *words str true
	// sep str true
	// **counts int true
}

func ExampleHandler_With() {
	five := 5
	h := handlers.Func("fetch", func(context.Context, struct{}) (struct{}, error) {
		return struct{}{}, protocol.NewException("ConnectionError", "refused")
	}).With(handlers.Options{
		SoftLimit: 30 * time.Second,
		HardLimit: time.Minute,
		Rate:      "10/m",
		Retry: handlers.RetryPolicy{
			Max:     &five,
			Backoff: 2 * time.Second,
			On:      func(err error) bool { return !errors.Is(err, context.Canceled) },
		},
	})
	for _, n := range []int{0, 1, 5} {
		r := handlerstest.Run(context.Background(), h, handlerstest.Retries(n))
		fmt.Println(r.Ending, r.Countdown, r.Exception)
	}
	// Output:
	// retried 2s ConnectionError: refused
	// retried 4s ConnectionError: refused
	// failed 0s ConnectionError: refused
}

func ExampleRetry() {
	h := handlers.Func("send", func(ctx context.Context, in struct {
		To string `json:"to"`
	},
	) (string, error) {
		if info, _ := handlers.InfoFrom(ctx); info.Retries == 0 {
			return "", handlers.Retry(errors.New("mailbox is busy"), 30*time.Second)
		}
		return "sent to " + in.To, nil
	})
	first := handlerstest.Run(context.Background(), h, "ada")
	fmt.Println(first.Ending, first.Err)
	fmt.Println(handlerstest.Run(context.Background(), h, "ada", handlerstest.Retries(1)).Value)
	// Output:
	// retried Retry in 30s: RuntimeError('mailbox is busy')
	// sent to ada
}

// A *protocol.Exception, wrapped or not, is the exception that .get() raises in Python.
func ExampleFunc_exceptions() {
	declined := &protocol.Exception{Module: "myapp.errors", Type: "PaymentDeclined", Args: []protocol.Value{"card expired", int64(402)}}
	h := handlers.Func("pay", func(_ context.Context, in struct {
		Amount int `json:"amount"`
	},
	) (struct{}, error) {
		switch {
		case in.Amount <= 0:
			return struct{}{}, protocol.NewException("ValueError", "amount must be positive")
		case in.Amount > 100:
			return struct{}{}, fmt.Errorf("charging: %w", declined)
		}
		return struct{}{}, fs.ErrPermission // any other error is a RuntimeError with its text
	})
	for _, amount := range []int{0, 101, 1} {
		e := handlerstest.Run(context.Background(), h, amount).Exception
		fmt.Println(e.Module, e.Repr())
	}
	// Output:
	// builtins ValueError('amount must be positive')
	// myapp.errors PaymentDeclined('card expired', 402)
	// builtins RuntimeError('permission denied')
}

// Middleware sees each run of each task.
func ExampleChain() {
	logged := func(next handlers.Invoke) handlers.Invoke {
		return func(ctx context.Context, t *protocol.Task) (any, error) {
			v, err := next(ctx, t)
			fmt.Println("ran", t.Name, "with", len(t.Args), "arguments, error:", err)
			return v, err
		}
	}
	quiet := func(next handlers.Invoke) handlers.Invoke {
		return func(ctx context.Context, t *protocol.Task) (any, error) {
			v, err := next(ctx, t)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, handlers.ErrIgnore
			}
			return v, err
		}
	}
	h := handlers.Func("clean", func(_ context.Context, in struct {
		Path string `json:"path"`
	},
	) (struct{}, error) {
		return struct{}{}, fs.ErrNotExist
	})
	run := handlers.Chain(logged, quiet)(h.Invoke())
	_, _ = run(context.Background(), &protocol.Task{Name: h.Name(), Args: []protocol.Value{"a"}})
	// Output:
	// ran clean with 1 arguments, error: handlers: ignore
}

// A stock task can be served under the name that an application calls.
func ExampleHandler_As() {
	stock := handlers.Raw("stalk.noop", func(context.Context, []protocol.Value, *protocol.Object) (any, error) { return nil, nil })
	reg, err := handlers.NewRegistry(stock, stock.As("myapp.tasks.make_thumbnail"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for h := range reg.All() {
		fmt.Println(h.Name())
	}
	// Output:
	// myapp.tasks.make_thumbnail
	// stalk.noop
}
