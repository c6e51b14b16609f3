package main

import (
	"context"
	"errors"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// expectedException is the suite's own exception class.
func expectedException(args ...protocol.Value) error {
	return &protocol.Exception{Module: module, Type: "ExpectedException", Args: args}
}

func unpickleableException(foo protocol.Value) error {
	return &protocol.Exception{Module: module, Type: "UnpickleableException", Args: []protocol.Value{foo}}
}

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
	}
}
