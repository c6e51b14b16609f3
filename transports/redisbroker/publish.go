package redisbroker

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// Publish pushes to the queue, to what the exchange's binding table names, or to the channel of a fanout
// exchange. Each call has a delivery tag of its own.
func (c *conn) Publish(ctx context.Context, p transports.Publishing) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.ops.Done()
	m := p.Message
	m.Exchange, m.RoutingKey = p.Exchange, p.RoutingKey
	raw, err := protocol.EncodeEnvelope(m, ids.New())
	if err != nil {
		return err
	}
	if err := c.declare(ctx, p); err != nil {
		return err
	}
	if p.Exchange != "" && (p.Broadcast || c.isFanout(p.Exchange)) {
		return c.broadcast(ctx, p, raw)
	}
	queues := []string{p.RoutingKey}
	if p.Exchange != "" {
		if queues, err = c.lookup(ctx, p.Exchange, p.RoutingKey); err != nil {
			return err
		}
	}
	if len(queues) == 0 || queues[0] == "" {
		switch {
		case c.t.set.deadLetter != "":
			queues = []string{c.t.set.deadLetter}
		case p.Mandatory:
			return fmt.Errorf("redisbroker: publish: nothing is bound to exchange %q for key %q: %w", p.Exchange, p.RoutingKey, transports.ErrUnroutable)
		default:
			return nil
		}
	}
	priority := 0
	if p.Message.Properties.Priority != nil {
		priority = *p.Message.Properties.Priority
	}
	return c.outcomeIn(ctx, "publish", c.push(ctx, queues, priority, raw, p.Linger))
}

// push sends to each queue's list. Lists of a queue that expires are all given their time again, as
// Kombu 5.7 does; for a reply that lingers it is its own list that goes when nobody comes for it.
func (c *conn) push(ctx context.Context, queues []string, priority int, raw []byte, linger time.Duration) error {
	ttls := make([]int64, len(queues))
	expiring := false
	c.t.mu.Lock()
	for i, q := range queues {
		ttls[i] = c.t.expires[q]
		expiring = expiring || ttls[i] > 0
	}
	c.t.mu.Unlock()
	if len(queues) == 1 && !expiring && linger == 0 {
		return c.lpush(ctx, c.t.set.listFor(queues[0], priority), raw)
	}
	_, err := c.main.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		for i, q := range queues {
			tx.LPush(ctx, c.t.set.listFor(q, priority), raw)
			switch {
			case linger > 0:
				tx.PExpire(ctx, c.t.set.listFor(q, priority), linger)
			case ttls[i] > 0:
				for _, list := range c.t.set.lists(q) {
					tx.PExpire(ctx, list, time.Duration(ttls[i])*time.Millisecond)
				}
			}
		}
		return nil
	})
	return err
}

func (c *conn) isFanout(exchange string) bool {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	return c.t.fanouts[exchange]
}

// broadcast publishes to the channel; with Mandatory somebody has to listen.
func (c *conn) broadcast(ctx context.Context, p transports.Publishing, raw []byte) error {
	heard := int64(0)
	for _, channel := range c.t.set.channels(p.Exchange, p.RoutingKey) {
		n, err := c.main.Publish(ctx, channel, raw).Result()
		if err != nil {
			return c.outcomeIn(ctx, "publish", err)
		}
		heard += n
	}
	if heard == 0 && p.Mandatory {
		return fmt.Errorf("redisbroker: publish: nobody listens to exchange %q for key %q: %w", p.Exchange, p.RoutingKey, transports.ErrUnroutable)
	}
	return nil
}

// declare binds the queue once per connection and remembers what is fanout.
func (c *conn) declare(ctx context.Context, p transports.Publishing) error {
	c.t.mu.Lock()
	if p.ExchangeType == "fanout" && len(c.t.fanouts) < 10_000 {
		c.t.fanouts[p.Exchange] = true
	}
	known := p.Declare == nil || c.declared[p.Declare.Name]
	c.t.mu.Unlock()
	if known {
		return nil
	}
	q := bound(*p.Declare)
	if err := c.bind(ctx, []transports.Queue{q}); err != nil {
		return err
	}
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if ms := expiresOf(q); ms > 0 && len(c.t.expires) < 10_000 {
		c.t.expires[q.Name] = ms
	}
	if len(c.declared) < 10_000 {
		c.declared[q.Name] = true
	}
	return nil
}
