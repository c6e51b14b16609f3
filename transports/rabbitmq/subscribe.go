package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// backlog is how many broadcast messages wait for Next. The broker sends them without asking for
// acknowledgements, so what comes on top must be dropped.
const backlog = 1024

// errBacklog is what Config.Notify hears when broadcast messages are dropped.
var errBacklog = fmt.Errorf("rabbitmq: more than %d broadcast messages wait to be read, further ones are dropped", backlog)

// A subscription consumes from a queue of our own, on a channel of its own of the consuming connection,
// which an exclusive queue belongs to.
type subscription struct {
	c       *conn
	f       transports.Fanout
	out     chan *protocol.Message // written by run; of pointers, as a channel takes all its memory at once
	stop    chan struct{}
	stopped sync.Once
	ended   chan struct{} // closed when run has returned
	trouble trouble       // touched by run only
}

var _ transports.Subscription = (*subscription)(nil)

// Subscribe returns when the queue is being consumed, or when its name is taken: by another node, or by
// our own last connection that the broker has not missed yet. It then tries for ever in the background,
// as Config.Notify hears. Any other refusal is an error wrapping ErrRefused.
func (c *conn) Subscribe(ctx context.Context, f transports.Fanout) (transports.Subscription, error) {
	if _, err := tableOf(f.Arguments); err != nil {
		return nil, fmt.Errorf("rabbitmq: arguments of queue %q: %w: %w", f.Queue, transports.ErrRefused, err)
	}
	if err := errors.Join(short("exchange", f.Exchange), short("queue name", f.Queue), short("routing key", f.RoutingKey)); err != nil {
		return nil, err
	}
	s := &subscription{
		c: c, f: f, out: make(chan *protocol.Message, backlog), stop: make(chan struct{}), ended: make(chan struct{}),
		trouble: trouble{c: c, queue: f.Queue},
	}
	first := make(chan error, 1)
	if !c.start(func() { s.run(first) }) {
		return nil, c.lost()
	}
	var err error
	select {
	case err = <-first:
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.done:
		err = c.lost()
	}
	if err != nil {
		s.stopped.Do(func() { close(s.stop) }) // not waited for: ctx may be over because the broker does not answer
		return nil, err
	}
	return s, nil
}

// run sends the outcome of its first attempt to first: nil when it goes on.
func (s *subscription) run(first chan<- error) {
	defer close(s.ended)
	var retry backoff
	for {
		ch, messages, err := s.attach()
		if first != nil && err != nil && code(err) != amqp.ResourceLocked {
			first <- mapped("subscribe to "+s.f.Exchange, err)
			return
		}
		s.trouble.tell(err)
		if first != nil {
			first <- nil
			first = nil
		}
		if err == nil {
			began := time.Now()
			err = s.serve(ch, messages)
			s.trouble.tell(err)
			if time.Since(began) > retryCeiling {
				retry = backoff{}
			}
		}
		if err == nil || s.c.lost() != nil {
			return
		}
		if !retry.wait(s.c.life, s.stop) {
			return
		}
	}
}

func (s *subscription) attach() (*amqp.Channel, <-chan amqp.Delivery, error) {
	if err := ensureExchange(s.c.consumes, s.f.Exchange, s.f.Type, s.f.Durable); err != nil {
		return nil, nil, err
	}
	arguments, _ := tableOf(s.f.Arguments) // checked by Subscribe
	ch, err := s.c.consumes.Channel()
	if err != nil {
		return nil, nil, err
	}
	queue, err := ch.QueueDeclare(s.f.Queue, false, true, s.f.Exclusive || s.c.t.noShared.Load(), false, arguments)
	if err == nil {
		err = ch.QueueBind(queue.Name, s.f.RoutingKey, s.f.Exchange, false, nil)
	}
	var messages <-chan amqp.Delivery
	if err == nil {
		messages, err = ch.Consume(queue.Name, tag(s.c.t.cfg.Name, queue.Name, 1), true, false, false, false, nil)
	}
	if err != nil {
		_ = ch.Close()
		return nil, nil, err
	}
	return ch, messages, nil
}

// serve passes messages on. A nil error means the subscription was closed.
func (s *subscription) serve(ch *amqp.Channel, messages <-chan amqp.Delivery) error {
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	defer func() {
		_ = ch.Close()
		for range messages { // lets the driver's goroutine end
		}
	}()
	dropping := false
	for {
		select {
		case d, open := <-messages:
			if !open {
				select {
				case e := <-closed:
					if e != nil {
						return e
					}
				default:
				}
				return errCancelled
			}
			m := messageOf(&d)
			select {
			case s.out <- &m:
				dropping = false
			default:
				if !dropping {
					s.c.notify(s.f.Queue, errBacklog)
				}
				dropping = true
			}
		case <-s.stop:
			return nil
		case <-s.c.done:
			return nil
		}
	}
}

func (s *subscription) Next(ctx context.Context) (protocol.Message, error) {
	var err error
	select {
	case <-s.stop:
		err = errStopped
	default:
		err = s.c.lost()
	}
	if err != nil {
		return protocol.Message{}, err
	}
	select {
	case m := <-s.out:
		return *m, nil
	case <-ctx.Done():
		return protocol.Message{}, ctx.Err()
	case <-s.c.done:
		return protocol.Message{}, s.c.lost()
	case <-s.stop:
		return protocol.Message{}, errStopped
	}
}

// Close returns when the queue is not consumed any more; an auto-delete queue is gone then.
func (s *subscription) Close() error {
	s.stopped.Do(func() { close(s.stop) })
	t := time.NewTimer(closeTimeout)
	defer t.Stop()
	select {
	case <-s.ended:
	case <-s.c.done:
	case <-t.C: // the broker does not answer: the queue goes with the connection
	}
	return nil
}
