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
		"schedule_add_then_cancel_consumer": func(ctx context.Context, n *worker.Node, args *protocol.Object) (any, error) {
			queue, ok := args.Get("queue")
			if !ok {
				return nil, protocol.NewException("TypeError", "schedule_add_then_cancel_consumer() missing 1 required positional argument: 'queue'")
			}
			for _, order := range []string{"add_consumer", "cancel_consumer"} {
				if _, err := n.Run(ctx, order, protocol.ObjectOf(protocol.Member{Key: "queue", Value: queue})); err != nil {
					return nil, err
				}
			}
			return map[string]any{"scheduled": queue}, nil
		},
		// A Python worker puts such orders aside until its loop comes round; here they change the set of wanted
		// queues at once.
		"pending_operations_count": func(context.Context, *worker.Node, *protocol.Object) (any, error) { return 0, nil },
	}
}
