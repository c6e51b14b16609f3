package rabbitmq

import (
	"context"
	"fmt"

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
		last := uint64(0)
		for len(out) < n && ctx.Err() == nil {
			d, ok, err := ch.Get(name, false)
			if err != nil {
				return nil, err // the channel is closed: all are back
			}
			if !ok {
				break
			}
			last = d.DeliveryTag
			seen := deliveryOf(&d)
			seen.Queue = name
			if k, ok := valueOf(d.Headers[deliveryCount]).(int64); ok && k > 0 && k < 1<<31 {
				seen.Count = int(k) + 1 // also of the queue it was moved here from
			}
			out = append(out, seen)
		}
		if last == 0 {
			return nil, nil
		}
		return out, ch.Nack(last, true, true)
	})
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
