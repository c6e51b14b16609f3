package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/stalkworker/stalk/dial"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// expectedException is the suite's own exception class.
func expectedException(args ...protocol.Value) error {
	return &protocol.Exception{Module: module, Type: "ExpectedException", Args: args}
}

func unpickleableException(foo protocol.Value) error {
	return &protocol.Exception{Module: module, Type: "UnpickleableException", Args: []protocol.Value{foo}}
}

// store is the suite's result backend, for a task that writes to it behind the worker's back.
var store = sync.OnceValues(func() (resultbackend.Backend, error) {
	return dial.Results(os.Getenv("TEST_BACKEND"), dial.ResultOptions{})
})

func failingTasks() []handlers.Handler {
	return []handlers.Handler{
		task("raise_error", func(context.Context, anything) (none, error) {
			return none{}, protocol.NewException("ValueError", "deliberate error")
		}),
		task("fail", func(_ context.Context, in anything) (none, error) {
			return none{}, expectedException(append([]protocol.Value{"Task expected to fail"}, in.Args...)...)
		}),
		task("fail_unpickleable", func(_ context.Context, in fooBar) (none, error) {
			return none{}, unpickleableException(in.Foo)
		}),
		task("reject_without_requeue", func(context.Context, none) (none, error) {
			return none{}, handlers.Reject(errors.New("rejected"))
		}),
		handlers.Func(module+".reject_then_succeed", func(ctx context.Context, _ none) (string, error) { // acks_late
			if !info(ctx).Redelivered {
				return "", handlers.Requeue(nil)
			}
			return "second-pass", nil
		}),
		handlers.Func(module+".store_success_then_reject", func(ctx context.Context, _ none) (string, error) { // acks_late
			i := info(ctx)
			if i.Redelivered {
				return "dedup-pass", nil
			}
			results, err := store()
			if err != nil {
				return "", err
			}
			err = results.Store(ctx, resultbackend.Record{Result: protocol.Result{
				TaskID: i.ID, Status: protocol.Success, Value: "first-pass", DateDone: time.Now(),
			}})
			if err != nil {
				return "", err
			}
			return "", handlers.Requeue(nil)
		}),
	}
}
