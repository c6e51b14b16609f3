package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// TestTasksThatWaitForTheirRateOutliveManyConnections: what comes back takes the turn that it had, and not one behind all others.
func TestTasksThatWaitForTheirRateOutliveManyConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ran []time.Time
		r := startRig(t, nil, handlers.Func("seldom", func(context.Context, nothing) (int, error) {
			ran = append(ran, time.Now())
			return 0, nil
		}).With(handlers.Options{Rate: "1/h"}))
		r.broker.Counting(false)
		for i := range 4 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "seldom"})
		}
		for range 12 {
			pass(29 * time.Minute)
			r.broker.Cut()
		}
		pass(time.Minute)
		for i := range 4 {
			r.wantState(fmt.Sprint(i), protocol.Success)
		}
		for i := range ran[1:] {
			if gap := ran[i+1].Sub(ran[i]); gap < time.Hour {
				t.Errorf("runs %d and %d are %v apart, want an hour", i, i+1, gap)
			}
		}
		if len(ran) != 4 {
			t.Errorf("%d runs, want 4", len(ran))
		}
		r.wantQueue("q", 0, 0)
	})
}
