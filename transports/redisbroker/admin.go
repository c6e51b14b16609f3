package redisbroker

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

var _ transports.QueueAdmin = (*conn)(nil)

// QueueSize adds up the lists of all priorities, as Kombu does. Who consumes is written nowhere.
func (c *conn) QueueSize(ctx context.Context, name string) (transports.QueueSize, error) {
	size := transports.QueueSize{Consumers: -1}
	err := c.administer(ctx, "size of queue", func(ctx context.Context) (err error) {
		size.Ready, err = c.count(ctx, name, false)
		return err
	})
	return size, err
}

// Purge counts and deletes in one step.
func (c *conn) Purge(ctx context.Context, name string) (int, error) {
	n := 0
	err := c.administer(ctx, "purge", func(ctx context.Context) (err error) {
		n, err = c.count(ctx, name, true)
		return err
	})
	return n, err
}

// count is how many messages the queue's lists hold, in one transaction with deleting them if asked for.
func (c *conn) count(ctx context.Context, name string, remove bool) (int, error) {
	lists := c.t.set.lists(name)
	lengths := make([]*redis.IntCmd, len(lists))
	_, err := c.main.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for i, list := range lists {
			lengths[i] = p.LLen(ctx, list)
			if remove {
				p.Del(ctx, list)
			}
		}
		return nil
	})
	n := 0
	for _, l := range lengths {
		n += int(l.Val())
	}
	return n, err
}

// Peek reads the lists from the end they are taken from, the first priority first.
func (c *conn) Peek(ctx context.Context, name string, n int) ([]*transports.Delivery, error) {
	var out []*transports.Delivery
	err := c.administer(ctx, "look into queue", func(ctx context.Context) error {
		for _, list := range c.t.set.lists(name) {
			left := n - len(out)
			if left <= 0 {
				return nil
			}
			raws, err := c.main.LRange(ctx, list, -int64(left), -1).Result()
			if err != nil {
				return err
			}
			for i := len(raws) - 1; i >= 0; i-- {
				d := &transports.Delivery{Queue: name}
				d.Message, d.Redelivered, d.Malformed = protocol.DecodeEnvelope([]byte(raws[i]), protocol.Limits{})
				if d.Malformed != nil {
					d.Message.Body = []byte(raws[i])
				} else if d.Redelivered {
					d.Message.Headers.Delete("redelivered")
				}
				out = append(out, d)
			}
		}
		return nil
	})
	return out, err
}

func (c *conn) administer(ctx context.Context, what string, do func(context.Context) error) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.ops.Done()
	ctx, cancel := c.timeout(ctx)
	defer cancel()
	return c.outcomeIn(ctx, what, do(ctx))
}
