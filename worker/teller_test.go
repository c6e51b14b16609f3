package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
)

// refusing takes every record but that of one task.
type refusing struct {
	*memresult.Backend
	refused string
}

func (p refusing) Store(ctx context.Context, r resultbackend.Record) error {
	if r.Result.TaskID == p.refused {
		return errors.New("no record of this name")
	}
	return p.Backend.Store(ctx, r)
}

// TestARevokedIDTheStoreNeverTakesHoldsUpNoOther: who revokes a list with one impossible id in it still finds the
// others REVOKED, and so does whoever revokes next.
func TestARevokedIDTheStoreNeverTakesHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Results = refusing{c.Results.(*memresult.Backend), "bad"} }, handlers.Func("double", double))
		c := r.client()
		c.ask("revoke", arg("task_id", []protocol.Value{"", "bad", "a"}))
		c.ask("revoke", arg("task_id", []protocol.Value{"b"}))
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		r.wantState("a", protocol.Revoked)
		r.wantState("b", protocol.Revoked)
	})
}
