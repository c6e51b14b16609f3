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
				out = append(out, shown([]byte(raws[i]), name))
			}
		}
		return nil
	})
	return out, err
}

// transferPage is how many messages Transfer reads at a time.
const transferPage = 100

// Transfer removes and pushes each chosen message in one step: to the list of its priority, as a sender would.
func (c *conn) Transfer(ctx context.Context, from, to string, n int, pick func(*transports.Delivery) bool) (int, error) {
	moved := 0
	for _, list := range c.t.set.lists(from) {
		for stay := 0; n > 0; { // messages at the end that stay where they are
			var raws []string
			err := c.administer(ctx, "look into queue", func(ctx context.Context) (err error) {
				page := min(n, transferPage)
				raws, err = c.main.LRange(ctx, list, -int64(stay+page), -int64(stay)-1).Result()
				return err
			})
			if err != nil {
				return moved, err
			}
			for i := len(raws) - 1; i >= 0; i-- {
				raw := []byte(raws[i])
				d := shown(raw, from)
				n--
				if !pick(d) {
					stay++
					continue
				}
				done, err := c.transferOne(ctx, list, to, d, raw)
				if err != nil {
					return moved, err
				}
				if done {
					moved++
				}
			}
			if len(raws) == 0 {
				break
			}
		}
	}
	return moved, nil
}

func (c *conn) transferOne(ctx context.Context, list, to string, d *transports.Delivery, raw []byte) (done bool, err error) {
	target := ""
	if to != "" {
		priority := 0
		if p := d.Message.Properties.Priority; p != nil {
			priority = *p
		}
		target = c.t.set.listFor(to, priority)
	}
	err = c.administer(ctx, "move", func(ctx context.Context) error {
		if c.plain.Load() {
			done, err = c.plainTransfer(ctx, list, target, raw)
			return err
		}
		keys := []string{list}
		if target != "" {
			keys = append(keys, target)
		}
		n, err := transferScript.Run(ctx, c.main, keys, raw).Int()
		done = n == 1
		return err
	})
	return done, err
}

// plainTransfer pushes before it removes, in one transaction: a message that somebody took meanwhile is doubled.
func (c *conn) plainTransfer(ctx context.Context, list, target string, raw []byte) (bool, error) {
	var removed *redis.IntCmd
	_, err := c.main.TxPipelined(ctx, func(p redis.Pipeliner) error {
		if target != "" {
			p.LPush(ctx, target, raw)
		}
		removed = p.LRem(ctx, list, -1, raw)
		return nil
	})
	return err == nil && removed.Val() > 0, err
}

// shown is a message as it is looked at in a queue.
func shown(raw []byte, queue string) *transports.Delivery {
	d := &transports.Delivery{Queue: queue}
	d.Message, d.Redelivered, d.Malformed = protocol.DecodeEnvelope(raw, protocol.Limits{})
	switch {
	case d.Malformed != nil:
		d.Message.Body = raw
	case d.Redelivered:
		d.Message.Headers.Delete("redelivered")
	}
	return d
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
