package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// orders are the commands that change the node. The texts of their answers are Celery's (celery/worker/control.py).
func orders() map[string]Command {
	return map[string]Command{
		"revoke":                    revokeTasks,
		"terminate":                 terminateTasks,
		"revoke_by_stamped_headers": revokeStamps,
		"rate_limit":                rateLimit,
		"time_limit":                timeLimit,
		"add_consumer":              addConsumer,
		"cancel_consumer":           cancelConsumer,
		"pool_grow":                 poolGrow,
		"pool_shrink":               poolShrink,
		"pool_restart":              poolRestart,
		"autoscale":                 autoscaleOrder,
		"shutdown":                  shutdown,
		"enable_events":             enableEvents,
		"disable_events":            disableEvents,
		"heartbeat":                 heartbeat,
		"election":                  election,
	}
}

// errNoReply ends a command that answers nobody.
var errNoReply = errors.New("worker: no reply")

// shutdown is the warm shutdown from remote. Celery leaves before it could answer.
func shutdown(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	text := "Got shutdown from remote"
	if msg, ok := args.Get("msg"); ok {
		text = pythonText(msg)
	}
	n.cfg.Logger.Warn(printable(clip(text)))
	n.stop()
	return nil, errNoReply
}

// revokeTasks is `control revoke`: the ids will not run here, and a task that has not begun anywhere is told
// REVOKED at once. A task that is over or begun keeps its state, unless it is to be terminated.
func revokeTasks(ctx context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("task_id")
	terminate, _ := args.Get("terminate")
	signal, _ := args.Get("signal")
	return n.revoke(ctx, asked, protocol.Truthy(terminate), signal)
}

// terminateTasks is `control terminate`: revoke with terminate.
func terminateTasks(ctx context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("task_id")
	signal, _ := args.Get("signal")
	return n.revoke(ctx, asked, true, signal)
}

func (n *Node) revoke(ctx context.Context, asked protocol.Value, terminate bool, signal protocol.Value) (any, error) {
	if err := hashable(asked); err != nil {
		return nil, err
	}
	ids := names(asked)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) > revokedMax {
		n.cfg.Logger.Warn("more tasks are to be revoked than can be remembered; some are not", "tasks", len(ids), "most", revokedMax)
		ids = ids[:revokedMax]
	}
	now := time.Now()
	for _, id := range ids {
		n.revoked.add(id, now)
	}
	running := map[string]bool{}
	for _, s := range n.ledger.sightings(isActive) {
		running[s.task.ID] = true
	}
	n.teller.tell(ctx, slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return running[id] }), now)
	if terminate {
		return n.terminate(ids, signal)
	}
	if err := textsOnly(asked); err != nil {
		return nil, err
	}
	n.cfg.Logger.Info("Tasks flagged as revoked: " + printable(clip(strings.Join(ids, ", "))))
	return okCommand("tasks " + pythonSet(ids) + " flagged as revoked"), nil
}

// terminate ends those of the ids that are here.
func (n *Node) terminate(ids []string, signal protocol.Value) (any, error) {
	signum, err := signalNumber(signal)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, id := range ids {
		wanted[id] = true
	}
	if signum < 0 || signum > 64 {
		if len(n.ledger.here(wanted)) > 0 {
			return nil, protocol.NewException("OSError", int64(22), "Invalid argument") // of kill(2)
		}
		wanted = nil
	}
	ended := n.ledger.terminate(wanted, signum)
	for _, id := range ended {
		n.cfg.Logger.Info(fmt.Sprintf("Terminating %s (%d)", printable(id), signum))
	}
	if len(ended) == 0 {
		return okCommand("terminate: tasks unknown"), nil
	}
	return okCommand("terminate: " + strings.Join(ended, ", ")), nil
}

// revokeStamps is `control revoke_by_stamped_headers`: tasks that bear one of the values of one of the stamps
// will not run here, whether they wait already or come later. Running ones end only with terminate.
func revokeStamps(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	signal, _ := args.Get("signal")
	signum, err := signalNumber(signal)
	if err != nil {
		return nil, err
	}
	asked, _ := args.Get("headers")
	headers, err := stampHeaders(asked)
	if err != nil {
		return nil, err
	}
	for _, h := range headers.Members() {
		if h.Value == nil {
			return nil, iterable(nil)
		}
		if !n.revoked.addStamps(h.Key, protocol.MaybeList(h.Value)) {
			return nil, protocol.NewException("MemoryError", fmt.Sprintf("more than %d revoked stamps", stampsMax))
		}
	}
	now := time.Now()
	for _, s := range append(n.calendar.held(), n.ledger.sightings(isReserved)...) {
		n.revoked.note(s.task, now)
	}
	if terminate, _ := args.Get("terminate"); !protocol.Truthy(terminate) {
		return okCommand("headers " + protocol.PythonRepr(headers) + " flagged as revoked, but not terminated"), nil
	}
	matched := n.terminateStamped(headers, signum)
	if len(matched) == 0 {
		return okCommand("headers " + protocol.PythonRepr(headers) + " were not terminated"), nil
	}
	var parts []string
	for _, h := range headers.Members() {
		if values := matched[h.Key]; len(values) > 0 {
			slices.Sort(values)
			parts = append(parts, protocol.PythonRepr(h.Key)+": {"+strings.Join(slices.Compact(values), ", ")+"}")
		}
	}
	return okCommand("headers defaultdict(<class 'set'>, {" + strings.Join(parts, ", ") + "}) revoked"), nil
}

// terminateStamped ends the running tasks that bear one of the values, and returns the reprs of those found, by header.
func (n *Node) terminateStamped(headers *protocol.Object, signum int) map[string][]string {
	matched := map[string][]string{}
	for _, s := range n.ledger.sightings(isActive) {
		found := map[string][]string{}
		for _, h := range headers.Members() {
			for _, v := range stampsInBoth(s.task, h) {
				found[h.Key] = append(found[h.Key], protocol.PythonRepr(v))
			}
		}
		if len(found) == 0 || len(n.ledger.terminate(map[string]bool{s.task.ID: true}, signum)) == 0 {
			continue
		}
		n.cfg.Logger.Info(fmt.Sprintf("Terminating %s (%d)", printable(s.task.ID), signum))
		for key, values := range found {
			matched[key] = append(matched[key], values...)
		}
	}
	return matched
}

// stampHeaders are the headers of revoke_by_stamped_headers: an object, or a list of "name=value" as the command
// line sends them.
func stampHeaders(asked protocol.Value) (*protocol.Object, error) {
	switch asked := asked.(type) {
	case *protocol.Object:
		return asked, nil
	case []protocol.Value:
		headers := &protocol.Object{}
		for _, pair := range asked {
			text, ok := pair.(string)
			if !ok {
				return nil, noAttribute(pair, "split")
			}
			parts := strings.Split(text, "=")
			if len(parts) < 2 {
				return nil, protocol.NewException("IndexError", "list index out of range")
			}
			headers.Set(parts[0], parts[1])
		}
		return headers, nil
	}
	return nil, noAttribute(asked, "items")
}

// stampsInBoth are the values of a header that the task bears under that name.
func stampsInBoth(t *protocol.Task, header protocol.Member) []protocol.Value {
	own, _ := t.Stamps.Get(header.Key)
	var both []protocol.Value
	for _, v := range protocol.MaybeList(own) {
		switch v.(type) {
		case string, bool, int64, float64:
			if containsPlain(protocol.MaybeList(header.Value), v) {
				both = append(both, v)
			}
		}
	}
	return both
}

// containsPlain is slices.Contains for a list that may hold what cannot be compared.
func containsPlain(list []protocol.Value, v protocol.Value) bool {
	return slices.ContainsFunc(list, func(e protocol.Value) bool {
		switch e.(type) {
		case string, bool, int64, float64:
			return e == v
		}
		return false
	})
}

// pythonSet is the repr of a set of texts.
func pythonSet(ids []string) string {
	set := make(protocol.Set, len(ids))
	for i, id := range ids {
		set[i] = id
	}
	return protocol.PythonRepr(set)
}
