package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// RabbitMQ closes a channel on which a delivery has stayed unsettled for consumer_timeout, and takes back everything that
// was delivered through it, also what is being worked on. The protocol does not show the limit, and nothing renews a
// delivery. So nothing that has not begun stays here for long: after a third of the limit, what was fetched and not
// received goes back to its queue, and what waits for its eta is parked.
//
// A parking queue is named QUEUE.delay.SECONDS. Messages expire in it, all after the same time, and are dead-lettered to
// QUEUE, where any worker understands them. The times are powers of two, the largest that is not too long, so there are
// 23 such queues for a queue at most; what is left of the wait is waited for here, or parked again. Nobody consumes from
// a parking queue: it goes when it has not been declared for its own time and a day.

// defaultConsumerTimeout is RabbitMQ's since 3.8.17.
const defaultConsumerTimeout = 30 * time.Minute

const (
	longestPark = 22             // 2^22 s are 48 days: milliseconds must fit 32 bits, for the queue's own life too
	parkSlack   = 24 * time.Hour // that a parking queue outlives its messages
	parkRenewal = time.Hour      // after which it is declared again before it is used
)

// waits is how long a delivery may wait to be begun.
func (l *lane) waits() time.Duration {
	limit := l.k.conn.t.ConsumerTimeout()
	if v, there := l.queue.Arguments.Get("x-consumer-timeout"); there {
		if ms, ok := v.(int64); ok && ms > 0 && ms < maxSeconds*1000 {
			limit = time.Duration(ms) * time.Millisecond
		}
	}
	return limit / 3
}

// ConsumerTimeout is what Config says. See transports.TimeLimiter.
func (t *Transport) ConsumerTimeout() time.Duration { return max(0, t.cfg.ConsumerTimeout) }

// BeginBy is a third of the limit after the message arrived. See transports.Parker.
func (r *receipt) BeginBy() time.Time {
	if waits := r.link.lane.waits(); waits > 0 {
		return r.arrived.Add(waits)
	}
	return time.Time{}
}

// Park publishes first and acks when the broker has confirmed. Headers and properties stay as they came but for the
// expiration, which would end the wait (the header expires is looked at all the same), and what dead-lettering has
// left: a broker before 4.0.1 would see a message that goes in circles, and drop it.
func (r *receipt) Park(ctx context.Context, wait time.Duration) error {
	return r.settle(ctx, func(ctx context.Context) error {
		l := r.link.lane
		c := l.k.conn
		lot, err := l.parkingLot(wait)
		if err != nil {
			return err
		}
		message := republishing(r.message())
		message.Expiration = ""
		for name := range message.Headers {
			if name == "x-death" || strings.HasPrefix(name, "x-first-death-") || strings.HasPrefix(name, "x-last-death-") {
				delete(message.Headers, name)
			}
		}
		if message.UserId != c.user {
			message.UserId = ""
		}
		if err := c.pub.park(ctx, lot, message); err != nil {
			return err
		}
		return r.ack(ctx)
	})
}

// A lot is a parking queue.
type lot struct {
	name      string
	arguments amqp.Table
}

// parkingLot is the one with the longest time that is not longer than wait, or than a second.
func (l *lane) parkingLot(wait time.Duration) (lot, error) {
	power := min(bits.Len64(uint64(max(wait/time.Second, 1)))-1, longestPark)
	stay := time.Second << power
	name := l.queue.Name + ".delay." + strconv.Itoa(1<<power)
	if err := short("queue name", name); err != nil {
		return lot{}, err
	}
	arguments := amqp.Table{
		queueType:                   "classic",
		"x-message-ttl":             stay.Milliseconds(),
		"x-expires":                 (stay + parkSlack).Milliseconds(),
		"x-dead-letter-exchange":    "",
		"x-dead-letter-routing-key": l.queue.Name,
	}
	// A quorum queue gives a message up only when its own queue has it, and is there when a node of a cluster is not.
	if version, _ := l.k.conn.consumes.Properties["version"].(string); atLeast(version, 3, 10) {
		arguments[queueType] = "quorum"
		arguments["x-dead-letter-strategy"] = "at-least-once"
		arguments["x-overflow"] = "reject-publish"
	}
	return lot{name, arguments}, nil
}

func atLeast(version string, first, second int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (a > first || a == first && b >= second)
}

// park publishes into a parking queue, which is declared first: each declaration gives it a new life.
func (p *publisher) park(ctx context.Context, l lot, message amqp.Publishing) error {
	flight := "park " + l.name
	p.mu.Lock()
	fresh := time.Since(p.parked[l.name]) < parkRenewal
	p.mu.Unlock()
	if !fresh {
		p.forget(flight)
	}
	var err error
	for range 2 {
		if err = p.clear(ctx); err != nil {
			break
		}
		err = p.once(ctx, flight, func() error {
			err := scratch(p.ac, func(ch *amqp.Channel) error {
				_, err := ch.QueueDeclare(l.name, true, false, false, false, l.arguments)
				return err
			})
			if err == nil {
				p.mu.Lock()
				p.parked[l.name] = time.Now()
				p.mu.Unlock()
			}
			return err
		})
		if err != nil {
			break
		}
		err = p.publish(ctx, outgoing{key: l.name, mandatory: true, message: message})
		if !errors.Is(err, errUnroutable) {
			return err
		}
		p.forget(flight) // somebody has deleted it
	}
	switch {
	case p.c.lost() != nil:
		return p.c.lost()
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return fmt.Errorf("rabbitmq: parking queue %q: %w", l.name, err)
	}
	return mapped(fmt.Sprintf("parking queue %q", l.name), err)
}
