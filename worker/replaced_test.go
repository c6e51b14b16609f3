package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// A Redis that was restarted, or whose replica took its place, has forgotten its last moments: acks and, kept there as
// well, results. What the worker remembers of that time must not keep a copy from running.
func TestWhatABrokerThatWasReplacedForgotIsDoneAgain(t *testing.T) {
	for _, deduplicate := range []bool{false, true} {
		t.Run(fmt.Sprintf("deduplicate %t", deduplicate), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var runs atomic.Int32
				r := startRig(t, func(c *Config) { c.Deduplicate = deduplicate }, handlers.Func("count", func(context.Context, nothing) (int32, error) { return runs.Add(1), nil }))
				r.broker.Fail(membroker.Settle, 1, fmt.Errorf("test: %w", transports.ErrLost))
				r.send(protocol.Task{ID: "a", Name: "count"})
				synctest.Wait()
				r.wantState("a", protocol.Success)
				if err := r.results.Forget(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				r.broker.Replace()
				pass(time.Minute)
				r.wantState("a", protocol.Success)
				r.wantQueue("q", 0, 0)
				if n := runs.Load(); n != 2 {
					t.Errorf("the task ran %d times, want 2", n)
				}
			})
		})
	}
}

// TestAReplacementWhileSettling: the old broker has the result, the new one takes the ack.
func TestAReplacementWhileSettling(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("one", func(context.Context, nothing) (int, error) { return 1, nil }))
		r.broker.Fail(membroker.Settle, 3, fmt.Errorf("test: %w", transports.ErrDisconnected))
		r.send(protocol.Task{ID: "a", Name: "one"})
		synctest.Wait()
		r.wantState("a", protocol.Success)
		if err := r.results.Forget(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		r.broker.Forget() // the connection of the rig's delivery stays, as the lease of one on Redis does
		pass(time.Minute)
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 0, 0)
		r.wantLog("its effects are made once more")
	})
}

// TestARunThatEndsAfterTheReplacementCounts: all its effects are the new broker's, so the copy is acknowledged.
func TestARunThatEndsAfterTheReplacementCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, func(c *Config) { c.Concurrency = 2 }, handlers.Func("sleep", func(ctx context.Context, in nothing) (string, error) {
			runs.Add(1)
			return sleeper(time.Minute)(ctx, in)
		}))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		synctest.Wait()
		r.broker.Replace()
		pass(30 * time.Second)
		r.wantLog("a copy of a running task came back")
		pass(2 * time.Minute)
		if _, err := r.results.Load(t.Context(), "a"); errors.Is(err, resultbackend.ErrNotFound) {
			t.Error("no result")
		}
		r.wantQueue("q", 0, 0)
		if n := runs.Load(); n != 1 {
			t.Errorf("the task ran %d times, want once", n)
		}
	})
}
