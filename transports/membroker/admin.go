package membroker

import (
	"cmp"
	"context"
	"fmt"
	"slices"

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
			out = append(out, shown(e))
		}
	})
	return out, err
}

func (c *conn) Transfer(ctx context.Context, from, to string, n int, pick func(*transports.Delivery) bool) (int, error) {
	seen, err := c.entries(ctx, from, n)
	if err != nil {
		return 0, err
	}
	moved := 0
	for _, e := range seen {
		if !pick(shown(e)) { // not under the lock
			continue
		}
		var missing error
		err := c.on(ctx, from, func(q *queue) {
			target := c.broker.queues[to]
			if to != "" && target == nil {
				missing = fmt.Errorf("membroker: queue %q is missing: %w", to, transports.ErrRefused)
				return
			}
			i := slices.Index(q.ready, e)
			if i < 0 {
				return // somebody took it meanwhile
			}
			q.ready = slices.Delete(q.ready, i, i+1)
			if moved++; target != nil {
				m := clone(e.message)
				m.Exchange, m.RoutingKey = "", to
				c.broker.enqueue(target, m)
			}
		})
		if err = cmp.Or(missing, err); err != nil {
			return moved, err
		}
	}
	return moved, nil
}

func (c *conn) entries(ctx context.Context, name string, n int) (seen []*entry, err error) {
	err = c.on(ctx, name, func(q *queue) { seen = slices.Clone(q.ready[:max(0, min(n, len(q.ready)))]) })
	return seen, err
}

// shown is an entry as Peek shows it.
func shown(e *entry) *transports.Delivery {
	return &transports.Delivery{Message: clone(e.message), Queue: e.queue.name, Redelivered: e.redelivered, Count: e.deliveries}
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
