package worker

import (
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

func TestThePrefetchIsCelerys(t *testing.T) {
	for _, tt := range []struct {
		name                     string
		slots, each, held, limit int
		count, window            int
	}{
		{"four per slot", 2, 4, 0, 0, 8, 8},
		{"nothing ahead", 3, 1, 0, 0, 3, 3},
		{"one more for each eta", 2, 4, 5, 0, 13, 13},
		{"and for thousands, in steps", 2, 4, 1001, 0, 1009, 1032},
		{"up to the limit", 2, 4, 100, 50, 50, 50},
		{"which steps do not pass", 2, 4, 1001, 1009, 1009, 1009},
		{"a limit below the slots' own share adds nothing", 2, 4, 5, 3, 8, 8},
		{"no limit matters without an eta", 2, 4, 0, 3, 8, 8},
		{"without limit", 2, -1, 0, 0, 0, 65535},
		{"without limit, whatever is held", 2, -1, 1000, 50, 0, 65535},
		{"without limit, and those held", 2, -1, 1024, 0, 0, 65535 + 1024},
		{"more than AMQP can say", 20000, 4, 0, 0, 80000, 65535},
		{"held, more than AMQP can say", 2, 4, 70000, 0, 70008, 8 + 18*4096},
		{"no end of them", 2, 4, 10_000_000, 0, 10_000_008, 1 << 20},
		{"no slot at all", 0, 4, 0, 0, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := prefetchCount(tt.slots, tt.each, tt.held, tt.limit); got != tt.count {
				t.Errorf("prefetchCount = %d, want %d", got, tt.count)
			}
			if got := windowFor(tt.slots, tt.each, tt.held, tt.limit); got != tt.window {
				t.Errorf("windowFor = %d, want %d", got, tt.window)
			}
		})
	}
}

// TestEtaTasksStopAtTheirLimit: one slot, four messages ahead, and never more than six unsettled.
func TestEtaTasksStopAtTheirLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.ETALimit = 6 }, handlers.Func("double", double))
		for i := range 10 {
			r.send(protocol.Task{ID: string(rune('a' + i)), Name: "double", Args: args(int64(i)), ETA: time.Now().Add(time.Hour)})
		}
		r.send(protocol.Task{ID: "now", Name: "double", Args: args(int64(1))})
		r.wantQueue("q", 5, 6)
		r.wantLog("worker_eta_task_limit")
		pass(time.Hour + time.Minute)
		r.wantQueue("q", 0, 0)
		r.wantState("now", protocol.Success)
	})
}
