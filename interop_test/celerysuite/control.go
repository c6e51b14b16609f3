package main

import (
	"context"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/worker"
)

// controlCommands are the suite's own remote control commands.
func controlCommands() map[string]worker.Command {
	return map[string]worker.Command{
		"pidbox_reset_error": func(context.Context, *worker.Node, *protocol.Object) (any, error) {
			return nil, protocol.NewException("RuntimeError", "pidbox reset integration test")
		},
	}
}
