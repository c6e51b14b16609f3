package worker

import (
	"cmp"
	"context"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/isolate"
	"github.com/stalkworker/stalk/protocol"
)

// A Node is what a remote control command may ask of its worker. Its methods are safe for concurrent use and
// do not block.
type Node struct {
	cfg        *Config
	ledger     *ledger
	calendar   *calendar
	revoked    *revoked
	clock      *clock
	slots      *slots
	settling   *slots
	autoscaler *autoscaler // nil: none
	queues     *queueSet
	limiter    *limiter
	times      *timeLimits
	teller     *teller
	pulse      *pulse
	memory     *memory
	children   *isolate.Pool // nil: no handler is isolated
	window     func() int
	stats      func() Stats
	stop       func() // asks for a warm shutdown
	began      time.Time
	pid        int
}

// Name is the node's name: celery@host.
func (n *Node) Name() string { return n.cfg.Node }

// Stats are the worker's counters.
func (n *Node) Stats() Stats { return n.stats() }

// Handlers are the tasks it serves.
func (n *Node) Handlers() *handlers.Registry { return n.cfg.Handlers }

// Run executes one of the worker's own commands, as a program's Command may want to: n.Run(ctx, "add_consumer", args).
// args are not nil. The error of a command that there is not is a KeyError, as a client would see.
func (n *Node) Run(ctx context.Context, command string, args *protocol.Object) (any, error) {
	run, ok := commands()[command]
	if !ok {
		return nil, errUnknownCommand(command)
	}
	return run(ctx, n, args)
}

// rowOf is one task as inspect shows it (celery/worker/request.py, info): ten keys, always all of them. safe
// asks for the reprs in place of the arguments.
func (n *Node) rowOf(r sighting, safe bool) protocol.Value {
	t := r.task
	var args, kwargs protocol.Value = t.Args, t.Kwargs
	if safe {
		args, kwargs = t.ArgsRepr, t.KwargsRepr
	} else if _, _, _, err := n.cfg.Encoding.Serialize([]protocol.Value{args, kwargs}); err != nil {
		// A task sent as yaml may hold what json has no form for; the row is worth more than its values.
		args, kwargs = protocol.ReprArgs(t.Args), protocol.Repr(t.Kwargs)
	}
	var began, pid, priority protocol.Value
	if !r.started.IsZero() {
		began, pid = float64(r.started.UnixMicro())/1e6, int64(cmp.Or(r.pid, n.pid))
	}
	if t.Priority != nil {
		priority = int64(*t.Priority)
	}
	return protocol.ObjectOf(
		protocol.Member{Key: "id", Value: t.ID},
		protocol.Member{Key: "name", Value: t.Display()},
		protocol.Member{Key: "args", Value: args},
		protocol.Member{Key: "kwargs", Value: kwargs},
		protocol.Member{Key: "type", Value: t.Name},
		protocol.Member{Key: "hostname", Value: n.cfg.Node},
		protocol.Member{Key: "time_start", Value: began},
		protocol.Member{Key: "acknowledged", Value: r.acked},
		protocol.Member{Key: "delivery_info", Value: protocol.ObjectOf(
			protocol.Member{Key: "exchange", Value: t.Exchange},
			protocol.Member{Key: "routing_key", Value: t.RoutingKey},
			protocol.Member{Key: "priority", Value: priority},
			protocol.Member{Key: "redelivered", Value: r.redelivered},
		)},
		protocol.Member{Key: "worker_pid", Value: pid},
	)
}

func (n *Node) rows(list []sighting, safe bool) []protocol.Value {
	out := make([]protocol.Value, 0, len(list))
	for _, r := range list {
		out = append(out, n.rowOf(r, safe))
	}
	return out
}
