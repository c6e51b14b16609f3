package worker

import (
	"context"
	"fmt"
	"math"

	"github.com/stalkworker/stalk/protocol"
)

// slotsMax bounds the slots: each is an element of `inspect stats` and some messages of the prefetch window.
const slotsMax = 100000

// poolGrow is `control pool_grow`.
func poolGrow(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	if n.autoscaler != nil {
		return errorCommand("pool_grow is not supported with autoscale. Adjust autoscale range instead."), nil
	}
	asked, given := args.Get("n")
	if !given {
		asked = int64(1)
	}
	many, ok := pythonInt(asked)
	if !ok {
		return nil, notAnInteger(asked)
	}
	if now, _ := n.slots.size(); many > slotsMax-now {
		return nil, protocol.NewException("ValueError", fmt.Sprintf("more than %d slots", slotsMax))
	}
	n.slots.grow(many)
	n.settling.grow(4 * max(many, 0))
	return okCommand("pool will grow"), nil
}

// poolShrink is `control pool_shrink`. As in Celery only what is idle goes, down to no slot at all, and it is an
// error when that was not enough.
func poolShrink(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	if n.autoscaler != nil {
		return errorCommand("pool_shrink is not supported with autoscale. Adjust autoscale range instead."), nil
	}
	asked, given := args.Get("n")
	if !given {
		asked = int64(1)
	}
	f, ok := pythonNumber(asked)
	if !ok || math.IsNaN(f) {
		return nil, protocol.NewException("TypeError", fmt.Sprintf("unsupported operand type(s) for -: '%s' and 'int'", protocol.TypeName(asked)))
	}
	many := int(math.Ceil(min(max(f, 0), slotsMax)))
	if n.slots.shrink(many) < many {
		return nil, protocol.NewException("ValueError", "Can't shrink pool. All processes busy!")
	}
	if n.children != nil {
		n.children.Trim()
	}
	return okCommand("pool will shrink"), nil
}

// poolRestart is `control pool_restart`: the child processes of isolated handlers are replaced, a busy one after its task. There
// is no code to load again.
func poolRestart(_ context.Context, n *Node, _ *protocol.Object) (any, error) {
	if !n.cfg.Isolation.Restarts {
		return nil, protocol.NewException("ValueError", "Pool restarts not enabled")
	}
	if n.children != nil {
		n.children.Restart()
	}
	return okCommand("reload started"), nil
}

// autoscaleOrder is `control autoscale`.
func autoscaleOrder(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	if n.autoscaler == nil {
		return nil, protocol.NewException("ValueError", "Autoscale not enabled")
	}
	bound := func(name, compare string) (*int, error) {
		v, _ := args.Get(name)
		if v == nil {
			return nil, nil
		}
		many, ok := pythonInt(v)
		switch {
		case !ok:
			return nil, protocol.NewException("TypeError", fmt.Sprintf("'%s' not supported between instances of '%s' and 'int'", compare, protocol.TypeName(v)))
		case many < 0 || many > slotsMax:
			return nil, protocol.NewException("ValueError", fmt.Sprintf("%s is %d, want 0 to %d", name, many, slotsMax))
		}
		return &many, nil
	}
	most, err := bound("max", "<")
	if err != nil {
		return nil, err
	}
	least, err := bound("min", ">")
	if err != nil {
		return nil, err
	}
	now, min := n.autoscaler.update(most, least)
	return okCommand(fmt.Sprintf("autoscale now max=%d min=%d", now, min)), nil
}
