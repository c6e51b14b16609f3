package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// Native delayed delivery, as Celery has it since 5.5 (kombu/transport/native_delayed_delivery.py). A message that is
// wanted in n seconds goes to the exchange celery_delayed_27 with the 28 binary digits of n before its routing key:
//
//	0.0. ... .1.0.1.RK
//
// Each level's exchange looks at its own digit: 1 leads to the level's queue, where the message stays 2^level seconds
// until it is dead-lettered to the next level's exchange, 0 leads there at once. Past level 0 comes the exchange
// celery_delayed_delivery, from where #.RK leads to the exchange of the task's queue, and on into the queue.
const (
	delayLevels   = 28
	delayDelivery = "celery_delayed_delivery"
	delayMost     = 1<<delayLevels - 1 // seconds
)

func delayName(level int) string { return "celery_delayed_" + strconv.Itoa(level) }

// delayPrefix is what an earlier delay has put before a routing key.
var delayPrefix = regexp.MustCompile(`^(?:[01]\.){` + strconv.Itoa(delayLevels) + `}`)

// delayKey is calculate_routing_key, but that whole seconds are rounded up: what comes early is held by a worker, and
// on a quorum queue takes the place of another message. "": no key can say it.
func delayKey(wait time.Duration, key string) string {
	seconds := int64((wait + time.Second - 1) / time.Second)
	key = delayPrefix.ReplaceAllString(key, "")
	if seconds < 1 || seconds > delayMost || key == "" || 2*delayLevels+len(key) > maxShort {
		return ""
	}
	digits := fmt.Sprintf("%0*b", delayLevels, seconds)
	return strings.Join(strings.Split(digits, ""), ".") + "." + key
}

// delayed is o by way of the delay exchanges; false when it has to go its plain way.
func delayed(o outgoing, d *transports.Delay) (outgoing, bool) {
	q := d.Queue
	key := delayKey(d.For, cmp.Or(d.RoutingKey, q.RoutingKey, q.Name))
	if key == "" || cmp.Or(q.Type, "direct") == "direct" {
		return o, false
	}
	o.exchange, o.key, o.mandatory, o.exchangeType = delayName(delayLevels-1), key, true, ""
	// In a queue of the delay it would end the waiting; the header expires is looked at all the same.
	if ms, err := strconv.ParseInt(o.message.Expiration, 10, 64); err == nil && ms <= d.For.Milliseconds() {
		o.message.Expiration = ""
	}
	return o, true
}

// plainWay reports whether a message that was to be delayed has to be sent without that.
func plainWay(err error) bool {
	return errors.Is(err, transports.ErrRefused) && !errors.Is(err, transports.ErrBlocked)
}

// delay publishes o by way of the delay exchanges, once it is certain that they lead to its queue: a message with a
// key that nothing is bound for would stay with the broker for ever.
func (p *publisher) delay(ctx context.Context, o outgoing, d *transports.Delay) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publishTimeout)
		defer cancel()
	}
	err := p.prepare(ctx, o)
	if err == nil {
		err = p.once(ctx, delayDelivery, func() error { return makeDelays(p.ac, p.c.t.cfg.DelayQueueType, false) })
	}
	if err == nil {
		err = p.once(ctx, delayFlight(d), func() error { return bindDelay(p.ac, d.Queue) })
	}
	if err != nil {
		if p.c.lost() != nil || ctx.Err() != nil {
			return cmp.Or(p.c.lost(), err)
		}
		return mapped("delay exchanges", err)
	}
	err = p.publish(ctx, o)
	if plainWay(err) { // somebody deleted them
		p.forget(delayDelivery)
		p.forget(delayFlight(d))
	}
	return err
}

func delayFlight(d *transports.Delay) string { return "delay " + d.Queue.Name }

// PrepareDelay declares what a Celery worker declares that has a quorum queue, and binds the queues that are not bound
// by a direct exchange. See transports.Delayer.
func (c *conn) PrepareDelay(ctx context.Context, queues []transports.Queue) error {
	done := make(chan error, 1)
	if !c.start(func() { done <- c.prepareDelay(queues) }) {
		return c.lost()
	}
	select {
	case err := <-done:
		if lost := c.lost(); lost != nil {
			return lost
		}
		return mapped("delay exchanges", err)
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.lost()
	}
}

func (c *conn) prepareDelay(queues []transports.Queue) error {
	if err := makeDelays(c.consumes, c.t.cfg.DelayQueueType, true); err != nil {
		return err
	}
	var failed error
	for _, q := range queues {
		err := errors.Join(checkQueue(q))
		if err == nil && q.Create {
			if err = queueExists(c.consumes, q.Name); code(err) == amqp.NotFound {
				err = c.t.createQueue(c.consumes, q)
			}
		}
		if err == nil {
			err = bindDelay(c.consumes, q)
		}
		if err != nil && failed == nil { // the others are bound all the same
			failed = fmt.Errorf("queue %q: %w", q.Name, err)
		}
	}
	return failed
}

// makeDelays declares exchanges and queues of all levels, in Kombu's order: what is declared last was complete once,
// and unless everything is asked for that is enough to know. Queues that are there stay as they are, of whichever kind.
func makeDelays(ac *amqp.Connection, kind string, all bool) error {
	if !all {
		err := scratch(ac, func(ch *amqp.Channel) error {
			return ch.ExchangeDeclarePassive(delayDelivery, "topic", true, false, false, false, nil)
		})
		if code(err) != amqp.NotFound {
			return err
		}
	}
	prefix := ""
	for level := delayLevels - 1; level >= 0; level-- {
		name, next := delayName(level), delayDelivery
		if level > 0 {
			next = delayName(level - 1)
		}
		if err := ensureExchange(ac, name, "topic", true); err != nil {
			return err
		}
		err := queueExists(ac, name)
		if code(err) == amqp.NotFound {
			err = makeDelayQueue(ac, name, next, kind, level)
		}
		if err == nil {
			err = scratch(ac, func(ch *amqp.Channel) error { return ch.QueueBind(name, prefix+"1.#", name, false, nil) })
		}
		if err != nil {
			return err
		}
		prefix += "*."
	}
	if err := ensureExchange(ac, delayDelivery, "topic", true); err != nil {
		return err
	}
	return scratch(ac, func(ch *amqp.Channel) error {
		prefix := ""
		for level := delayLevels - 1; level >= 0; level-- {
			next := delayDelivery
			if level > 0 {
				next = delayName(level - 1)
			}
			if err := ch.ExchangeBind(next, prefix+"0.#", delayName(level), false, nil); err != nil {
				return err
			}
			prefix += "*."
		}
		return nil
	})
}

func makeDelayQueue(ac *amqp.Connection, name, next, kind string, level int) error {
	kind = cmp.Or(kind, "quorum")
	args := amqp.Table{
		queueType: kind, "x-overflow": "reject-publish", "x-message-ttl": int64(1) << level * 1000, "x-dead-letter-exchange": next,
	}
	if kind == "quorum" {
		args["x-dead-letter-strategy"] = "at-least-once"
	}
	err := scratch(ac, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, args)
		return err
	})
	if code(err) == amqp.PreconditionFailed && queueExists(ac, name) == nil {
		return nil // another worker was faster, of another mind
	}
	return err
}

// bindDelay leads from the delay exchanges to the queue, by way of its own exchange.
func bindDelay(ac *amqp.Connection, q transports.Queue) error {
	if cmp.Or(q.Type, "direct") == "direct" || q.Unbound {
		return nil
	}
	exchange, key := cmp.Or(q.Exchange, q.Name), cmp.Or(q.RoutingKey, q.Name)
	if !strings.HasPrefix(key, "#") {
		key = "#." + key
	}
	if err := short("routing key", key); err != nil {
		return err
	}
	return scratch(ac, func(ch *amqp.Channel) error {
		if err := ch.ExchangeBind(exchange, key, delayDelivery, false, nil); err != nil {
			return err
		}
		return ch.QueueBind(q.Name, key, exchange, false, nil)
	})
}
