package worker

import (
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// A connection that breaks often is not the fault of what waits for its eta: the count of its deliveries is not
// allowed to grow to the limit.
func TestWhatWaitsOutlivesManyConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		r.broker.Counting(true)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(4)), ETA: time.Now().Add(24 * time.Hour)})
		for range 40 {
			pass(time.Minute)
			r.broker.Cut()
		}
		pass(25 * time.Hour)
		if got := r.wantState("a", protocol.Success).Value; got != int64(8) {
			t.Errorf("value = %v", got)
		}
		r.wantQueue("q", 0, 0)
		r.wantQueue("q.quarantine", 0, 0)
	})
}

func TestGoesBack(t *testing.T) {
	for _, tt := range []struct {
		step step
		want bool
	}{
		{ackStep{}, false},
		{rejectStep{}, false},
		{rejectStep{requeue: true}, true},
		{returnStep{}, true},
		{moveStep{}, false},
	} {
		if got := goesBack(tt.step); got != tt.want {
			t.Errorf("goesBack(%#v) = %v", tt.step, got)
		}
	}
}

// The limit that a queue's own arguments set is kept as well, when it is the lower one.
func TestMostDeliveries(t *testing.T) {
	cfg := &Config{Deliveries: 15}
	for limit, want := range map[int]int{0: 15, 3: 3, 20: 15} {
		if got := mostDeliveries(cfg, &transports.Delivery{Limit: limit}); got != want {
			t.Errorf("with a limit of %d: %d, want %d", limit, got, want)
		}
	}
}
