package worker

import (
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func TestRetryDelay(t *testing.T) {
	now := time.Now()
	cfg := &Config{
		NativeDelay: true,
		Queues:      []transports.Queue{{Name: "q", Exchange: "x", Type: "topic", RoutingKey: "k"}, {Name: "plain"}},
		Declared:    []transports.Queue{{Name: "known", Type: "fanout"}},
	}
	for _, tt := range []struct {
		name, queue, exchange string
		wait                  time.Duration
		want                  bool
	}{
		{"a topic exchange", "q", "x", time.Second, true},
		{"one that came delayed", "q", "celery_delayed_delivery", time.Second, true},
		{"one that came delayed so far", "q", "celery_delayed_0", time.Second, true},
		{"a queue that is declared only", "known", "known", time.Second, true},
		{"at once", "q", "x", 0, false},
		{"a direct exchange", "plain", "plain", time.Second, false},
		{"sent to the queue itself", "q", "", time.Second, false},
		{"an exchange that is not the queue's", "q", "other", time.Second, false},
		{"a queue nobody knows", "nope", "nope", time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := &job{task: &protocol.Task{Exchange: tt.exchange, RoutingKey: "rk"}, delivery: &transports.Delivery{Queue: tt.queue}}
			d := retryDelay(cfg, j, now.Add(tt.wait), now)
			if (d != nil) != tt.want || d != nil && (d.For != tt.wait || d.Queue.Name != tt.queue || d.RoutingKey != "rk") {
				t.Errorf("%+v", d)
			}
			off := *cfg
			off.NativeDelay = false
			if retryDelay(&off, j, now.Add(tt.wait), now) != nil {
				t.Error("a delay where there is none")
			}
		})
	}
}
