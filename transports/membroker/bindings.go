package membroker

import (
	"context"
	"slices"
	"strings"

	"github.com/stalkworker/stalk/transports"
)

var _ transports.BindingLister = (*conn)(nil)

func (c *conn) Bindings(context.Context) ([]transports.Binding, error) {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	if c.why != nil {
		return nil, c.why
	}
	var out []transports.Binding
	for name, x := range c.broker.exchanges {
		for b := range x.bindings {
			out = append(out, transports.Binding{Queue: b.queue, Exchange: name, RoutingKey: b.key})
		}
	}
	slices.SortFunc(out, func(a, b transports.Binding) int {
		return strings.Compare(a.Queue+"\x00"+a.Exchange+"\x00"+a.RoutingKey, b.Queue+"\x00"+b.Exchange+"\x00"+b.RoutingKey)
	})
	return out, nil
}
