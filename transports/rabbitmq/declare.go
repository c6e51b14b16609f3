package rabbitmq

import (
	"cmp"
	"errors"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// Everything is looked at before it is made: a passive declare succeeds whatever the arguments and
// changes nothing, while a declare with other arguments than the queue has is refused. All of this
// runs on throw-away channels, which errors close.

// queueExists is nil when there is such a queue, an error with code 404 when there is none.
func queueExists(ac *amqp.Connection, name string) error {
	return scratch(ac, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(name, false, false, false, false, nil)
		return err
	})
}

// createQueue declares exchange, queue and binding, in this order, as Celery does.
func (t *Transport) createQueue(ac *amqp.Connection, q transports.Queue) error {
	if q.Unbound {
		return t.makeQueue(ac, q)
	}
	exchange := cmp.Or(q.Exchange, q.Name)
	if err := ensureExchange(ac, exchange, cmp.Or(q.Type, "direct"), true); err != nil {
		return err
	}
	if err := t.makeQueue(ac, q); err != nil {
		return err
	}
	return scratch(ac, func(ch *amqp.Channel) error {
		return ch.QueueBind(q.Name, cmp.Or(q.RoutingKey, q.Name), exchange, false, nil)
	})
}

// makeQueue declares the queue alone.
func (t *Transport) makeQueue(ac *amqp.Connection, q transports.Queue) error {
	if q.Transient && !q.Exclusive && t.noShared.Load() { // to ask again would end the connection again
		return fmt.Errorf("%w: queue %q is to be neither durable nor exclusive, which this RabbitMQ does not permit (%s): make it durable",
			transports.ErrRefused, q.Name, featureShared)
	}
	arguments, err := tableOf(q.Arguments)
	if err != nil {
		return fmt.Errorf("%w: arguments of queue %q: %v", transports.ErrRefused, q.Name, err)
	}
	err = scratch(ac, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(q.Name, !q.Transient, q.AutoDelete, q.Exclusive, false, arguments)
		return err
	})
	if code(err) == amqp.PreconditionFailed && queueExists(ac, q.Name) == nil {
		return nil // somebody made it, differently, between our look and our declare
	}
	return err
}

// ensureExchange makes an exchange unless one of that name exists, of whatever type.
func ensureExchange(ac *amqp.Connection, name, kind string, durable bool) error {
	look := func() error {
		return scratch(ac, func(ch *amqp.Channel) error {
			return ch.ExchangeDeclarePassive(name, kind, durable, false, false, false, nil)
		})
	}
	err := look()
	if code(err) != amqp.NotFound {
		return err
	}
	err = scratch(ac, func(ch *amqp.Channel) error {
		return ch.ExchangeDeclare(name, kind, durable, false, false, false, nil)
	})
	if code(err) == amqp.PreconditionFailed && look() == nil {
		return nil
	}
	return err
}

// checkQueue refuses names that AMQP cannot carry, or that mean something else there: a declare of ""
// asks for a queue with a name of the broker's choice.
func checkQueue(q transports.Queue) error {
	if q.Name == "" {
		return fmt.Errorf("rabbitmq: a queue without a name: %w", transports.ErrRefused)
	}
	_, err := tableOf(q.Arguments)
	if err != nil {
		err = fmt.Errorf("rabbitmq: arguments of queue %q: %w: %w", q.Name, transports.ErrRefused, err)
	}
	return errors.Join(short("queue name", q.Name), short("exchange", q.Exchange), short("exchange type", q.Type),
		short("routing key", q.RoutingKey), err)
}
