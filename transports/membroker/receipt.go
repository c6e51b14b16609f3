package membroker

import (
	"context"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// A receipt settles one delivery.
type receipt struct {
	consumer *consumer
	entry    *entry
	lost     chan struct{} // closed by conn.end, unless settled

	settled bool // guarded by broker.mu
	lapsed  bool // guarded by broker.mu: it went back alone
	busy    bool // guarded by broker.mu: a settling is on its way through a delay
}

var _ transports.Receipt = (*receipt)(nil)

func (r *receipt) Ack(ctx context.Context) error {
	return r.settle(ctx, func() {})
}

func (r *receipt) Reject(ctx context.Context, requeue bool) error {
	return r.settle(ctx, func() {
		b, q := r.consumer.conn.broker, r.entry.queue
		switch {
		case requeue:
			r.entry.redelivered = true
			b.insert(r.entry)
		case q.deadLetter != nil:
			key := q.deadKey
			if key == "" {
				key = r.entry.message.RoutingKey
			}
			b.route(*q.deadLetter, key, r.entry.message)
		}
	})
}

func (r *receipt) Move(ctx context.Context, queueName string) error {
	return r.settle(ctx, func() {
		b := r.consumer.conn.broker
		b.enqueue(b.declare(transports.Queue{Name: queueName}), moved(r.entry.message, queueName))
	})
}

func (r *receipt) Lost() <-chan struct{} { return r.lost }

// settle ends the delivery by do, once.
func (r *receipt) settle(ctx context.Context, do func()) error {
	c := r.consumer.conn
	b := c.broker
	b.mu.Lock()
	if r.settled || r.busy {
		b.mu.Unlock()
		return transports.ErrSettled
	}
	if c.why != nil || r.lapsed {
		b.mu.Unlock()
		return transports.ErrLost // it went back when the connection ended, or before
	}
	r.busy = true
	b.mu.Unlock()

	after, err := b.suffer(ctx, Settle, c)

	b.mu.Lock()
	r.busy = false
	if err != nil {
		b.mu.Unlock()
		return err
	}
	if c.why != nil || r.lapsed {
		b.mu.Unlock()
		return transports.ErrLost
	}
	r.settled = true
	delete(c.held, r)
	r.leave()
	do()
	b.mu.Unlock()
	if err := after(c); err != nil {
		// It happened, and the caller cannot know: as after any other cut it may ask again and hear ErrLost.
		b.mu.Lock()
		defer b.mu.Unlock()
		r.settled = false
		close(r.lost)
		return err
	}
	return nil
}

// back returns the message to its queue. Called with broker.mu held.
func (r *receipt) back() {
	r.leave()
	r.entry.redelivered = true
	r.consumer.conn.broker.insert(r.entry)
}

// leave takes the delivery off the counts and frees its place in the window. Called with broker.mu held.
func (r *receipt) leave() {
	r.entry.queue.unsettled--
	r.consumer.unsettled--
	r.consumer.nudge()
}

// moved is m as the default exchange delivers it to another queue.
func moved(m protocol.Message, queueName string) protocol.Message {
	m.Exchange, m.RoutingKey = "", queueName
	return m
}
