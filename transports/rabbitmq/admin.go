package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

var _ transports.QueueAdmin = (*conn)(nil)

// QueueSize declares passively, which any user may who may configure the queue.
func (c *conn) QueueSize(ctx context.Context, name string) (transports.QueueSize, error) {
	return ask(ctx, c, "size of queue", name, func(ch *amqp.Channel) (transports.QueueSize, error) {
		q, err := ch.QueueDeclarePassive(name, false, false, false, false, nil)
		return transports.QueueSize{Ready: q.Messages, Consumers: q.Consumers}, err
	})
}

func (c *conn) Purge(ctx context.Context, name string) (int, error) {
	return ask(ctx, c, "purge queue", name, func(ch *amqp.Channel) (int, error) {
		return ch.QueuePurge(name, false)
	})
}

// Peek takes the messages and gives them back, in one step, to their old places. While it lasts nobody
// else can take them.
func (c *conn) Peek(ctx context.Context, name string, n int) ([]*transports.Delivery, error) {
	return ask(ctx, c, "look into queue", name, func(ch *amqp.Channel) ([]*transports.Delivery, error) {
		var out []*transports.Delivery
		err := c.visit(ctx, ch, name, n, func(d *amqp.Delivery) (bool, error) {
			out = append(out, shown(d, name))
			return false, nil
		})
		if err != nil {
			return nil, err
		}
		return out, nil
	})
}

// Transfer publishes each chosen message, and acks it when the broker has confirmed.
func (c *conn) Transfer(ctx context.Context, from, to string, n int, pick func(*transports.Delivery) bool) (int, error) {
	if err := short("queue name", to); err != nil {
		return 0, err
	}
	var moved atomic.Int64
	var mu sync.Mutex
	over := false // guarded by mu: after our return pick is not called any more
	defer func() { mu.Lock(); over = true; mu.Unlock() }()
	choose := func(d *amqp.Delivery) bool {
		mu.Lock()
		defer mu.Unlock()
		return !over && pick(shown(d, from))
	}
	_, err := ask(ctx, c, "move messages of queue", from, func(ch *amqp.Channel) (struct{}, error) {
		return struct{}{}, c.visit(ctx, ch, from, n, func(d *amqp.Delivery) (bool, error) {
			if !choose(d) {
				return false, nil
			}
			if to != "" {
				m := republishing(d)
				delete(m.Headers, movedCount)
				if m.UserId != c.user {
					m.UserId = ""
				}
				if err := c.pub.publish(ctx, outgoing{key: to, mandatory: true, message: m}); err != nil {
					return false, err
				}
			}
			moved.Add(1)
			return true, nil
		})
	})
	return int(moved.Load()), err
}

// visit takes up to n messages, acks those of which f says so, and gives the others back to their old places, or
// see putBack.
func (c *conn) visit(ctx context.Context, ch *amqp.Channel, name string, n int, f func(*amqp.Delivery) (bool, error)) error {
	var kept uint64         // the tag of the last message that just goes back
	var old []amqp.Delivery // those that cannot
	keep := func(d amqp.Delivery) {
		if worn(&d) {
			old = append(old, d)
		} else {
			kept = d.DeliveryTag
		}
	}
	var err error
	for range n {
		if ctx.Err() != nil {
			break
		}
		d, ok, got := ch.Get(name, false)
		if got != nil {
			return got // the channel is closed: all are back
		}
		if !ok {
			break
		}
		done, failed := f(&d)
		switch {
		case failed != nil:
			err = failed
			keep(d)
		case done:
			err = ch.Ack(d.DeliveryTag, false)
		default:
			keep(d)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, c.putBack(context.WithoutCancel(ctx), ch, name, kept, old))
}

// shown is a message as it is looked at in a queue. Its count is that of the queue it was moved from, if it was.
func shown(d *amqp.Delivery, queue string) *transports.Delivery {
	out := deliveryOf(d)
	out.Queue = queue
	if k, ok := valueOf(d.Headers[movedCount]).(int64); ok && k > 0 && k < 1<<31 {
		out.Count = int(k) + 1
	}
	return out
}

// ask runs f on a channel of its own while ctx and the connection last.
func ask[T any](ctx context.Context, c *conn, what, name string, f func(*amqp.Channel) (T, error)) (T, error) {
	var none T
	q := transports.Queue{Name: name}
	if err := checkQueue(q); err != nil {
		return none, err
	}
	type answer struct {
		v   T
		err error
	}
	got := make(chan answer, 1)
	ok := c.start(func() {
		var a answer
		a.err = scratch(c.consumes, func(ch *amqp.Channel) (err error) {
			a.v, err = f(ch)
			return err
		})
		got <- a
	})
	if !ok {
		return none, c.lost()
	}
	select {
	case a := <-got:
		switch {
		case a.err == nil:
			return a.v, nil
		case code(a.err) == amqp.NotFound:
			return none, fmt.Errorf("rabbitmq: %s %q: %w", what, name, transports.ErrNoQueue)
		case c.lost() != nil:
			return none, c.lost()
		}
		return none, mapped(fmt.Sprintf("%s %q", what, name), a.err)
	case <-ctx.Done():
		return none, ctx.Err()
	case <-c.done:
		return none, c.lost()
	}
}
