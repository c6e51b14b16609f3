package main

import (
	"context"
	"os"

	"github.com/stalkworker/stalk/handlers"
)

type death struct {
	Path string `json:"path"`
}

// poisonTasks end the process that runs them, until there is a file named path.cured. Each start adds a byte to path.
func poisonTasks() []handlers.Handler {
	mark := func(path string) (cured bool, err error) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return false, err
		}
		_, err = f.WriteString(".")
		if err := f.Close(); err != nil {
			return false, err
		}
		_, missing := os.Stat(path + ".cured")
		return missing == nil, err
	}
	return []handlers.Handler{
		handlers.Func("poison.exit", func(_ context.Context, in death) (string, error) {
			if cured, err := mark(in.Path); cured || err != nil {
				return "cured", err
			}
			os.Exit(9)
			return "", nil
		}),
		handlers.Func("poison.memory", func(_ context.Context, in death) (string, error) {
			if cured, err := mark(in.Path); cured || err != nil {
				return "cured", err
			}
			return "", exhaust()
		}),
		// A panic outside the handler's own goroutine is nobody's to catch.
		handlers.Func("poison.panic", func(ctx context.Context, in death) (string, error) {
			if cured, err := mark(in.Path); cured || err != nil {
				return "cured", err
			}
			go func() { panic("poison") }()
			<-ctx.Done()
			return "", ctx.Err()
		}),
	}
}
