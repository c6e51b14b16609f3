package rabbitmq

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// A receipt settles one delivery through the channel it came from, and no other. Ack and Reject return
// nil when the frame has been written to that channel while it was alive; there is no reply to wait for.
type receipt struct {
	link    *link
	tag     uint64
	what    content
	again   bool // redelivered
	returns int  // so often it came back, where the broker counts that
	lost    chan struct{}
	arrived time.Time
	turn    chan struct{} // capacity 1: held by the call that is settling

	settled bool           // guarded by turn
	whole   *amqp.Delivery // guarded by turn; see message
}

var (
	_ transports.Receipt  = (*receipt)(nil)
	_ transports.Returner = (*receipt)(nil)
	_ transports.Parker   = (*receipt)(nil)
)

func newReceipt(n *link, d content, tag uint64, again bool) *receipt {
	return &receipt{
		link: n, what: d, tag: tag, again: again, arrived: time.Now(), lost: make(chan struct{}), turn: make(chan struct{}, 1),
	}
}

// delivery decodes the delivery. It is called once, before anybody else has the receipt.
func (r *receipt) delivery() *transports.Delivery {
	l := r.link.lane
	out, returns := received(&r.what, r.again)
	r.returns = returns
	out.Queue = l.queue.Name
	if out.Count > 0 {
		l.counts.Store(true)
	} else if l.counts.Load() {
		out.Count = 1
	}
	out.Limit = l.limit
	out.Receipt = r
	return out
}

// message is the message as the driver has it, to be sent on.
func (r *receipt) message() *amqp.Delivery {
	if r.whole == nil {
		r.whole = driverDelivery(&r.what, r.again)
	}
	return r.whole
}

func (r *receipt) Lost() <-chan struct{} { return r.lost }

func (r *receipt) Ack(ctx context.Context) error {
	return r.settle(ctx, r.ack)
}

func (r *receipt) Reject(ctx context.Context, requeue bool) error {
	return r.settle(ctx, func(context.Context) error {
		return r.write(func() error { return r.link.line.reject(basicReject, r.tag, requeue) })
	})
}

// Move publishes first and acks when the broker has confirmed. Headers and properties stay as they came,
// but for a user_id that is not ours, which the broker would refuse, and the mark of a priority of 0; a count of
// deliveries goes along under a name of our own.
func (r *receipt) Move(ctx context.Context, queue string) error {
	q := transports.Queue{Name: queue}
	if err := checkQueue(q); err != nil {
		return err
	}
	return r.settle(ctx, func(ctx context.Context) error {
		p := outgoing{key: queue, mandatory: true}
		if queue != r.link.lane.queue.Name {
			q.Arguments = r.link.lane.quarantineArguments()
			p.declare, p.bare = &q, true
		}
		if err := r.link.lane.k.conn.resend(ctx, p, r.message()); err != nil {
			return err
		}
		return r.ack(ctx)
	})
}

func (r *receipt) ack(context.Context) error {
	return r.write(func() error { return r.link.line.ack(r.tag) })
}

// settle lets one call at a time do it, once.
func (r *receipt) settle(ctx context.Context, do func(context.Context) error) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.turn }()
	if r.settled {
		return transports.ErrSettled
	}
	select {
	case <-r.lost:
		return r.whyLost()
	default:
	}
	return do(ctx)
}

// write writes one settling frame if the channel lives.
func (r *receipt) write(frame func() error) error {
	if !r.link.take(r) {
		return r.whyLost()
	}
	defer r.link.settling.Done()
	if err := frame(); err != nil { // the connection is broken, and comes back with what the broker has not acted on
		r.link.putBack(r)
		return r.whyLost()
	}
	r.settled = true
	r.link.freed()
	return nil
}

// whyLost is ErrLost, and ErrDisconnected too when it was the connection that broke: RabbitMQ returns
// what a dead channel held in either case.
func (r *receipt) whyLost() error {
	if err := r.link.lane.k.conn.lost(); err != nil {
		return fmt.Errorf("%w: %w", transports.ErrLost, err)
	}
	return fmt.Errorf("rabbitmq: the channel of queue %q closed: %w", r.link.lane.queue.Name, transports.ErrLost)
}
