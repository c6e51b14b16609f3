package rabbitmq

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// RabbitMQ keeps nothing but messages: the starts of a run are those in a small queue of its own, which nobody consumes
// and which expires.
const (
	startsPrefix = "stalk.starts."
	startsFor    = 3 * 24 * time.Hour
	startsMost   = 1000 // in one queue
)

var _ transports.StartCounter = (*conn)(nil)

func startsQueue(run string) string {
	sum := sha256.Sum256([]byte(run))
	return startsPrefix + hex.EncodeToString(sum[:16])
}

// Starts is how many messages the run's queue holds.
func (c *conn) Starts(ctx context.Context, run string) (int, error) {
	size, err := c.QueueSize(ctx, startsQueue(run))
	if errors.Is(err, transports.ErrNoQueue) {
		return 0, nil
	}
	return size.Ready, err
}

// AddStart adds a message to the run's queue.
func (c *conn) AddStart(ctx context.Context, run string) error {
	name := startsQueue(run)
	_, err := ask(ctx, c, "declare queue", name, func(ch *amqp.Channel) (amqp.Queue, error) {
		return ch.QueueDeclare(name, true, false, false, false, amqp.Table{
			"x-queue-type": "classic", "x-expires": startsFor.Milliseconds(), "x-max-length": int64(startsMost),
		})
	})
	if err != nil {
		return err
	}
	return c.pub.publish(ctx, outgoing{key: name, mandatory: true, message: amqp.Publishing{DeliveryMode: amqp.Persistent}})
}

// ForgetStarts deletes the run's queue.
func (c *conn) ForgetStarts(ctx context.Context, run string) error {
	name := startsQueue(run)
	_, err := ask(ctx, c, "delete queue", name, func(ch *amqp.Channel) (int, error) {
		return ch.QueueDelete(name, false, false, false)
	})
	if errors.Is(err, transports.ErrNoQueue) {
		return nil
	}
	return err
}
