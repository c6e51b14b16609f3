package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// revokeTasks is `control revoke`: the ids will not run here, and a task that has not begun anywhere is told
// REVOKED at once. A task that is over or begun keeps its state. Ending a running task (terminate) is not
// offered: the caller is told, after the ids are flagged.
func revokeTasks(ctx context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("task_id")
	if err := hashable(asked); err != nil {
		return nil, err
	}
	ids := names(asked)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) > revokedMax {
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
	for _, id := range ids {
		if n.cfg.Results == nil || running[id] {
			continue
		}
		// What the store refuses is told again when the task itself comes by.
		err := n.cfg.Results.Store(ctx, resultbackend.Record{
			Result: protocol.Result{
				TaskID: id, Status: protocol.Revoked, Exception: protocol.TaskRevoked("revoked"), NoContext: true, DateDone: now,
			},
			Over: []protocol.State{protocol.Pending, protocol.Received, protocol.Retry, "REJECTED"},
		})
		if err != nil {
			n.cfg.Logger.Warn("state REVOKED is not stored", "task", id, "err", err)
		}
	}
	if terminate, _ := args.Get("terminate"); protocol.Truthy(terminate) {
		return nil, protocol.NewException("NotImplementedError", "terminate: a running task is not ended here; the ids are flagged as revoked")
	}
	for i, id := range protocol.MaybeList(asked) { // Python flags the texts and fails at the words about them
		if _, ok := id.(string); !ok {
			return nil, protocol.NewException("TypeError", fmt.Sprintf("sequence item %d: expected str instance, %s found", i, protocol.TypeName(id)))
		}
	}
	return okCommand("tasks " + pythonSet(ids) + " flagged as revoked"), nil
}

// revokeStamps is `control revoke_by_stamped_headers`: tasks that bear one of the values of one of the stamps
// will not run here, whether they wait already or come later. Running ones are not ended, as with revoke.
func revokeStamps(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("headers")
	headers, ok := asked.(*protocol.Object)
	if list, isList := asked.([]protocol.Value); isList { // "name=value", as the command line sends them
		headers, ok = &protocol.Object{}, true
		for _, pair := range names(list) {
			name, value, cut := strings.Cut(pair, "=")
			if !cut {
				return nil, protocol.NewException("IndexError", "list index out of range")
			}
			headers.Set(name, value)
		}
	}
	if !ok {
		return nil, protocol.NewException("TypeError", "headers must be an object or a list of name=value")
	}
	for _, h := range headers.Members() {
		if !n.revoked.addStamps(h.Key, protocol.MaybeList(h.Value)) {
			return nil, protocol.NewException("MemoryError", fmt.Sprintf("more than %d revoked stamps", stampsMax))
		}
	}
	now := time.Now()
	for _, s := range append(n.calendar.held(), n.ledger.sightings(isReserved)...) {
		n.revoked.note(s.task, now)
	}
	if terminate, _ := args.Get("terminate"); protocol.Truthy(terminate) {
		return nil, protocol.NewException("NotImplementedError", "terminate: a running task is not ended here; the headers are flagged as revoked")
	}
	return okCommand("headers " + protocol.PythonRepr(headers) + " flagged as revoked, but not terminated"), nil
}

// pythonSet is the repr of a set of texts.
func pythonSet(ids []string) string {
	set := make(protocol.Set, len(ids))
	for i, id := range ids {
		set[i] = id
	}
	return protocol.PythonRepr(set)
}
