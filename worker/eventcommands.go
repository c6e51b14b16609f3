package worker

import (
	"context"

	"github.com/stalkworker/stalk/protocol"
)

// This file is what remote control does about events, in Celery's words.

// enableEvents turns task events on; Flower asks for it every few seconds.
func enableEvents(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	if !n.pulse.enable() {
		return okCommand("task events already enabled"), nil
	}
	n.cfg.Logger.Info("Events of group {task} enabled by remote.")
	return okCommand("task events enabled"), nil
}

// disableEvents turns them off again, unless the worker was started with them: then they stay, and Celery's
// answer is the same.
func disableEvents(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	if !n.pulse.disable() {
		return okCommand("task events already disabled"), nil
	}
	n.cfg.Logger.Info("Events of group {task} disabled by remote.")
	return okCommand("task events disabled"), nil
}

// heartbeat has a heartbeat sent at once: who starts to listen asks for it, to learn who is there.
func heartbeat(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	n.cfg.Logger.Debug("Heartbeat requested by remote.")
	n.pulse.beat()
	return nil, nil
}

// election takes no part. The answer is Celery's; an election event of ours would end a lone Python neighbour.
func election(context.Context, *Node, *protocol.Object) (any, error) { return nil, nil }
