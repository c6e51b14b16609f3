package worker

import (
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// TestRetryGoesWhereItsTaskCameFrom: the delivery's own address, and never back into a delay stage.
func TestRetryGoesWhereItsTaskCameFrom(t *testing.T) {
	for _, tt := range []struct {
		name, exchange, key     string
		wantExchange, wantQueue string
	}{
		{"the default exchange", "", "q", "", "q"},
		{"a queue known by another name", "", "alias", "", "alias"},
		{"an exchange of its own", "ex", "a.b", "ex", "a.b"},
		{"a message without address", "", "", "", "q"},
		{"the last delay stage", "celery_delayed_delivery", "0.0.0.1.q", "", "q"},
		{"an earlier delay stage", "celery_delayed_0", "0.0.1.0.q", "", "q"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := &job{task: &protocol.Task{Exchange: tt.exchange, RoutingKey: tt.key}, delivery: &transports.Delivery{Queue: "q"}}
			p := retryPublish(&Config{}, j, protocol.Message{}, time.Time{}, time.Now()).(publishStep)
			if p.publishing.Exchange != tt.wantExchange || p.publishing.RoutingKey != tt.wantQueue || !p.publishing.Mandatory || p.fallback != "q" {
				t.Errorf("published to %q %q, fallback %q", p.publishing.Exchange, p.publishing.RoutingKey, p.fallback)
			}
		})
	}
}
