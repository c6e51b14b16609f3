package rabbitmq

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
)

// A quorum queue counts how often a message came back and gives it up past a limit: 20 by default from RabbitMQ 4.0
// on. What counts was measured:
//
//	                                        3.10, 4.0    4.3
//	basic.reject with requeue               counts       counts
//	basic.nack with requeue, basic.recover  counts       does not count
//	channel or connection closed or lost    counts       counts
//
// So what comes back for no fault of its own goes back with basic.nack, and what has come back wornOut times already
// is published to its queue as a new message, and acked when the broker has confirmed that. What is to count goes
// back with basic.reject.

// wornOut is the count from which on a message is not just returned. It is low, as the limit may be a policy's,
// which the protocol does not show.
const wornOut = 4

const (
	queueType     = "x-queue-type"
	deliveryLimit = "x-delivery-limit"
)

// worn reports whether a return might bring d near its limit.
func worn(d *amqp.Delivery) bool { return returnsOf(d) >= wornOut }

// Return gives the message back without harm to it. See transports.Returner.
func (r *receipt) Return(ctx context.Context) error {
	return r.settle(ctx, func(ctx context.Context) error {
		if r.link.lane.renewed(ctx, r) {
			return r.ack(ctx)
		}
		return r.write(func() error { return r.link.line.reject(basicNack, r.tag, true) })
	})
}

// giveBack returns what was fetched and not received to its queue, the last first, so that the order stays.
func (n *link) giveBack(rs []*receipt) {
	if len(rs) == 0 {
		return
	}
	renewed := make([]bool, len(rs))
	for i, r := range rs {
		r.delivery()
		renewed[i] = n.lane.renewed(n.lane.k.conn.life, r)
	}
	if !n.begin() { // the channel is gone, and the broker has taken everything back
		return
	}
	defer n.settling.Done()
	for i, r := range slices.Backward(rs) {
		if renewed[i] {
			n.line.settle(basicAck, r.tag, 0)
		} else {
			n.line.settle(basicNack, r.tag, 2)
		}
	}
	_ = n.line.flush() // if it is not written the broker takes it back with the channel
}

// fullFor is how long messages are just returned after one could not be sent back as new. They count meanwhile.
const fullFor = 60

// renewed publishes a worn message to its queue as a new one, and reports whether the broker has it. One failure is
// enough for a while: a broker that does not take one message is not asked for each of a window while the worker stops.
func (l *lane) renewed(ctx context.Context, r *receipt) bool {
	most := wornOut
	if l.limit > 0 {
		most = min(most, max(1, l.limit-1))
	}
	if r.returns < most || time.Now().Unix()-l.full.Load() < fullFor {
		return false
	}
	err := l.k.conn.resend(ctx, outgoing{key: l.queue.Name, mandatory: true}, r.message())
	if err != nil {
		l.full.Store(time.Now().Unix())
	}
	return err == nil
}

// resend publishes d again, to where o says.
func (c *conn) resend(ctx context.Context, o outgoing, d *amqp.Delivery) error {
	o.message = republishing(d)
	if o.message.UserId != c.user {
		o.message.UserId = ""
	}
	if n := returnsOf(d); n > 0 && o.declare != nil { // into another queue
		if o.message.Headers == nil {
			o.message.Headers = amqp.Table{}
		}
		o.message.Headers[movedCount] = int32(n)
	}
	return c.pub.publish(ctx, o)
}

// putBack gives back what was looked at and left: the worn ones as new messages, at the end of the queue, so that no
// number of looks makes an end of them, and then all others up to tag last (0: none).
func (c *conn) putBack(ctx context.Context, ch *amqp.Channel, queue string, last uint64, old []amqp.Delivery) error {
	var failed error
	for i := range old {
		if failed == nil {
			failed = c.resend(ctx, outgoing{key: queue, mandatory: true}, &old[i])
		}
		if failed != nil {
			last = max(last, old[i].DeliveryTag)
			continue
		}
		if err := ch.Ack(old[i].DeliveryTag, false); err != nil {
			return err
		}
	}
	if last == 0 {
		return nil
	}
	return ch.Nack(last, true, true)
}

// quarantineArguments are those of a quarantine that is made now. It is a queue of the same kind, as far as that is
// known here, so that it is there when a node of a cluster is not; and it never gives up what it keeps, however
// often people look. RabbitMQ 3 has no limit unless one is set, and -1, which later means none, is a limit to it
// that gives a message up at its first return.
func (l *lane) quarantineArguments() *protocol.Object {
	if !l.counts.Load() {
		// Said, as a virtual host may have another kind for queues that do not say.
		return protocol.ObjectOf(protocol.Member{Key: queueType, Value: "classic"})
	}
	args := protocol.ObjectOf(protocol.Member{Key: queueType, Value: "quorum"})
	if version, _ := l.k.conn.consumes.Properties["version"].(string); major(version) >= 4 {
		args.Set(deliveryLimit, int64(-1))
	}
	return args
}

// major is the first number of a version, 0 when there is none.
func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}
