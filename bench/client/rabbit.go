package main

import (
	"context"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/internal/ids"
)

// dialRabbit is a connection and a channel of it. Kombu's amqp://host// is the virtual host "/".
func dialRabbit(raw string) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.Dial(strings.TrimSuffix(raw, "/"))
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	return conn, ch, err
}

func fillRabbit(o options) error {
	conn, ch, err := dialRabbit(o.broker)
	if err != nil {
		return err
	}
	defer conn.Close()
	d, ok, err := ch.Get(o.mould, true)
	if err != nil || !ok {
		return fmt.Errorf("no message waits in %q: %v", o.mould, err)
	}
	for i := range o.n {
		if i%1000 == 999 { // without a round trip now and then we outrun the broker until it stops reading
			if _, err := ch.QueueDeclarePassive(o.queue, true, false, false, false, nil); err != nil {
				return err
			}
		}
		id := ids.New()
		d.Headers["id"], d.Headers["root_id"] = id, id
		err := ch.PublishWithContext(context.Background(), "", o.queue, false, false, amqp.Publishing{
			Headers: d.Headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode,
			Priority: d.Priority, CorrelationId: id, ReplyTo: d.ReplyTo, Body: d.Body,
		})
		if err != nil {
			return err
		}
	}
	_, err = ch.QueueDeclarePassive(o.queue, true, false, false, false, nil)
	return err
}

// drainRabbit is the limit on RabbitMQ: it consumes with a window of 200, answers (a confirmed message to the callers'
// queue, or a pipeline of results to Redis), and acknowledges up to the last that is answered.
func drainRabbit(o options) (any, error) {
	const window, batch = 200, 64
	conn, ch, err := dialRabbit(o.broker)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := ch.Qos(window, 0, false); err != nil {
		return nil, err
	}
	var out *amqp.Channel
	var store *redisConn
	switch {
	case strings.HasPrefix(o.results, "redis:"):
		store, err = dialRedis(o.results)
	case o.results != "":
		if out, err = conn.Channel(); err == nil {
			err = out.Confirm(false)
		}
	}
	if err != nil {
		return nil, err
	}
	deliveries, err := ch.Consume(o.queue, "", false, false, false, false, nil)
	if err != nil {
		return nil, err
	}

	type answered struct {
		d       amqp.Delivery
		confirm *amqp.DeferredConfirmation
	}
	ctx := context.Background()
	done := make(chan answered, window)
	produce := func() error {
		defer close(done)
		for range o.n {
			d, ok := <-deliveries
			if !ok {
				return fmt.Errorf("the broker ended the consumer")
			}
			a := answered{d: d}
			if out != nil {
				_, value := meta(d.CorrelationId)
				a.confirm, err = out.PublishWithDeferredConfirmWithContext(ctx, "", d.ReplyTo, false, false, amqp.Publishing{
					ContentType: "application/json", ContentEncoding: "utf-8", CorrelationId: d.CorrelationId, DeliveryMode: 1, Body: []byte(value),
				})
				if err != nil {
					return err
				}
			}
			done <- a
		}
		return nil
	}
	settle := func() error {
		for a := range done {
			last, n := a, 0
			put := func(a answered) {
				if store != nil {
					key, value := meta(a.d.CorrelationId)
					store.do("MULTI")
					store.do("SETEX", key, "86400", value)
					store.do("PUBLISH", key, value)
					store.do("EXEC")
					n += 4
				}
				if a.confirm != nil {
					a.confirm.Wait()
				}
			}
			put(a)
		more:
			for range batch - 1 {
				select {
				case b, ok := <-done:
					if !ok {
						break more
					}
					put(b)
					last = b
				default:
					break more
				}
			}
			if store != nil {
				if _, err := store.answers(n); err != nil {
					return err
				}
			}
			if err := ch.Ack(last.d.DeliveryTag, true); err != nil {
				return err
			}
		}
		return nil
	}
	answer, err := timed(o.n, func() error { return all(produce, settle) })
	if err != nil {
		return nil, err
	}
	_, err = ch.QueueDeclarePassive(o.queue, true, false, false, false, nil) // behind the last acknowledgement
	return answer, err
}
