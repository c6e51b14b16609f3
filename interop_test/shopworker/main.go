// Command shopworker is what the users of the Django project in pyfixtures would write: a worker whose
// handlers fail with the project's own exceptions, on the public API alone.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/stalkworker/stalk/command"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

type order struct {
	Order string `json:"order"`
	Cents int64  `json:"cents"`
}

type stock struct {
	Seconds float64 `json:"seconds"`
}

type reason struct {
	Why string `json:"why"`
}

type place struct {
	Index int `json:"index"`
}

func main() {
	command.Program{Control: controlCommands(), Handlers: append(append(append(diffTasks(), poisonTasks()...), boxTasks()...),
		handlers.Func("shop.pay", func(_ context.Context, in order) (bool, error) {
			return false, exception("shop.errors", "PaymentDeclined", in)
		}),
		handlers.Func("shop.refund", func(_ context.Context, in order) (bool, error) {
			return false, exception("shop.errors", "Refused.Finally", in) // a class in a class
		}),
		// No client has a module of that name.
		handlers.Func("shop.audit", func(_ context.Context, in order) (bool, error) {
			return false, exception("billing.internal", "LedgerClosed", in)
		}),
		// A client has the module, and no such class in it.
		handlers.Func("shop.ship", func(_ context.Context, in order) (bool, error) {
			return false, exception("shop.errors", "NoSuchClass", in)
		}),
		handlers.Func("shop.shelf", func(_ context.Context, in place) (string, error) {
			return shelf([]string{"books", "toys"}, in.Index), nil
		}),
		handlers.Func("shop.drop", func(_ context.Context, in reason) (bool, error) {
			return false, &handlers.RejectError{Cause: errors.New(in.Why)}
		}),
		handlers.Func("shop.skip", func(context.Context, struct{}) (bool, error) { return false, handlers.ErrIgnore }),
		// Deaf to its context, so no limit can stop it.
		handlers.Func("shop.count", func(_ context.Context, in stock) (float64, error) {
			time.Sleep(time.Duration(in.Seconds * float64(time.Second)))
			return in.Seconds, nil
		}),
	)}.Main()
}

// shelf panics at an index that is not there, as a bug would.
//
//go:noinline
func shelf(shelves []string, i int) string { return shelves[i] }

func exception(module, class string, in order) error {
	return &protocol.Exception{Module: module, Type: class, Args: []protocol.Value{in.Order, in.Cents}}
}
