package membroker

import (
	"context"
	"fmt"

	"github.com/stalkworker/stalk/transports"
)

var _ transports.QueueAdmin = (*conn)(nil)

func (c *conn) QueueSize(ctx context.Context, name string) (transports.QueueSize, error) {
	var size transports.QueueSize
	err := c.on(ctx, name, func(q *queue) { size.Ready = len(q.ready) })
	if err == nil {
		size.Consumers = c.broker.Consumers(name)
	}
	return size, err
}

func (c *conn) Purge(ctx context.Context, name string) (int, error) {
	n := 0
	err := c.on(ctx, name, func(q *queue) {
		n = len(q.ready)
		q.ready = nil
	})
	return n, err
}

func (c *conn) Peek(ctx context.Context, name string, n int) ([]*transports.Delivery, error) {
	var out []*transports.Delivery
	err := c.on(ctx, name, func(q *queue) {
		for _, e := range q.ready[:max(0, min(n, len(q.ready)))] {
			out = append(out, &transports.Delivery{
				Message: clone(e.message), Queue: name, Redelivered: e.redelivered, Count: e.deliveries,
			})
		}
	})
	return out, err
}

// on runs f with the queue, under the broker's lock.
func (c *conn) on(ctx context.Context, name string, f func(*queue)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	if c.why != nil {
		return c.why
	}
	q := c.broker.queues[name]
	if q == nil {
		return fmt.Errorf("membroker: queue %q: %w", name, transports.ErrNoQueue)
	}
	f(q)
	return nil
}
