package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// publishTimeout bounds a publish whose context has no deadline, and the wait for an alarm to end.
const publishTimeout = 5 * time.Second

// An outgoing message is a checked Publishing.
type outgoing struct {
	exchange, key   string
	mandatory       bool
	declare         *transports.Queue
	bare            bool // declare the queue alone, without exchange and binding
	exchangeType    string
	exchangeDurable bool
	message         amqp.Publishing
}

// Publish is pipelined: many goroutines share a channel, each waits for its own confirm. A message
// whose exchange is not known to exist goes through a channel of its own instead, as publishing to a
// missing exchange closes the channel under everybody.
//
// When the context ends first the message may still arrive; the error wraps the context's, or ErrBlocked
// when the broker has blocked us.
func (c *conn) Publish(ctx context.Context, p transports.Publishing) error {
	message, err := publishingOf(p.Message)
	if err != nil {
		return fmt.Errorf("%w (%w)", err, transports.ErrRefused)
	}
	if err := errors.Join(short("exchange", p.Exchange), short("routing key", p.RoutingKey), short("exchange type", p.ExchangeType)); err != nil {
		return err
	}
	if p.Declare != nil {
		if err := checkQueue(*p.Declare); err != nil {
			return err
		}
	}
	o := outgoing{
		exchange: p.Exchange, key: p.RoutingKey, mandatory: p.Mandatory, declare: p.Declare,
		exchangeType: p.ExchangeType, exchangeDurable: p.ExchangeDurable, message: message,
	}
	if p.Delay != nil {
		if way, ok := delayed(o, p.Delay); ok {
			if err := c.pub.delay(ctx, way, p.Delay); !plainWay(err) {
				return err
			}
		}
	}
	return c.pub.publish(ctx, o)
}

// A publisher owns the publishing connection.
type publisher struct {
	c    *conn
	ac   *amqp.Connection
	sock *socket // of ac
	seed maphash.Seed

	mu        sync.Mutex
	alarm     chan struct{} // closed when the broker unblocks us; nil: not blocked
	raised    chan struct{} // closed while blocked
	why       string        // the broker's reason
	stations  [2]*station   // by the values below
	flights   map[string]*flight
	exchanges map[string]bool      // known to exist
	parked    map[string]time.Time // when a parking queue was declared, by name
}

// The channels we publish on.
const (
	shared  = iota // many at once, to exchanges that exist
	careful        // one at a time
)

func newPublisher(c *conn, ac *amqp.Connection, sock *socket) *publisher {
	return &publisher{
		c: c, ac: ac, sock: sock, seed: maphash.MakeSeed(),
		raised: make(chan struct{}), flights: map[string]*flight{}, exchanges: map[string]bool{"": true}, parked: map[string]time.Time{},
	}
}

func (p *publisher) publish(ctx context.Context, o outgoing) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publishTimeout)
		defer cancel()
	}
	err := fits(o.message, p.frame())
	if err == nil {
		err = p.prepare(ctx, o)
	}
	if err == nil {
		err = p.send(ctx, o)
	}
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("publish to exchange %q with key %q", o.exchange, o.key)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		if why, blocked := p.blocked(); blocked {
			return fmt.Errorf("rabbitmq: %s: %w: connection blocked: %s", what, transports.ErrBlocked, why)
		}
		return fmt.Errorf("rabbitmq: %s: no confirm: %w", what, err)
	}
	if lost := p.c.lost(); lost != nil {
		return lost
	}
	return mapped(what, err)
}

// frame is the size of a frame. The broker may have granted less than we asked for; a larger one would cost the connection.
func (p *publisher) frame() int { return min(cmp.Or(p.ac.Config.FrameSize, frameMax), frameMax) }

// prepare waits for the end of an alarm and makes what must exist.
func (p *publisher) prepare(ctx context.Context, o outgoing) error {
	if err := p.clear(ctx); err != nil {
		return err
	}
	if o.exchangeType != "" && o.exchange != "" {
		err := p.once(ctx, exchangeFlight(o), func() error {
			return ensureExchange(p.ac, o.exchange, o.exchangeType, o.exchangeDurable)
		})
		if err != nil {
			return err
		}
		p.know(o.exchange, true)
	}
	if o.declare == nil {
		return nil
	}
	return p.once(ctx, queueFlight(o), func() error {
		err := queueExists(p.ac, o.declare.Name)
		switch {
		case code(err) == amqp.ResourceLocked: // it exists and is exclusive; that does not keep us from publishing
			return nil
		case code(err) != amqp.NotFound:
			return err
		case o.bare:
			return p.c.t.makeQueue(p.ac, *o.declare)
		}
		return p.c.t.createQueue(p.ac, *o.declare)
	})
}

func queueFlight(o outgoing) string    { return "queue " + o.declare.Name }
func exchangeFlight(o outgoing) string { return "exchange " + o.exchange }

func (p *publisher) know(exchange string, exists bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if exists {
		p.exchanges[exchange] = true
	} else if exchange != "" {
		delete(p.exchanges, exchange)
	}
}

// send publishes. What shared a channel with the message that closed it is sent once more by itself: it
// may be there twice then, and the guilty one is found.
func (p *publisher) send(ctx context.Context, o outgoing) error {
	p.mu.Lock()
	known := p.exchanges[o.exchange] && o.message.UserId == ""
	p.mu.Unlock()
	err := error(errBystander)
	if known {
		err = p.sendOn(ctx, shared, o)
	}
	if errors.Is(err, errBystander) {
		p.know(o.exchange, false)
		if err = p.sendOn(ctx, careful, o); err == nil {
			p.know(o.exchange, true)
		}
	}
	if errors.Is(err, errUnroutable) && o.declare != nil {
		p.forget(queueFlight(o)) // the queue was deleted: declare it next time
	}
	if code(err) == amqp.NotFound {
		p.forget(exchangeFlight(o))
	}
	return err
}

var (
	errBystander  = errors.New("the channel closed before the confirm")
	errUnroutable = fmt.Errorf("%w: unroutable", transports.ErrUnroutable)
)

func (p *publisher) sendOn(ctx context.Context, which int, o outgoing) error {
	for {
		s, err := p.station(ctx, which)
		if err != nil {
			return err
		}
		err = s.publish(ctx, o)
		if !errors.Is(err, errRetired) {
			return err
		}
	}
}

// station returns the current channel of a kind, opening it when there is none.
func (p *publisher) station(ctx context.Context, which int) (*station, error) {
	name := [...]string{shared: "channel", careful: "careful channel"}[which]
	for {
		p.mu.Lock()
		s := p.stations[which]
		p.mu.Unlock()
		if s.usable() {
			return s, nil
		}
		p.forget(name)
		err := p.once(ctx, name, func() error {
			p.mu.Lock()
			usable := p.stations[which].usable() // somebody was faster
			p.mu.Unlock()
			if usable {
				return nil
			}
			s, err := p.openStation([...]int{shared: maxInFlight, careful: 1}[which])
			if err != nil {
				return err
			}
			p.mu.Lock()
			p.stations[which] = s
			p.mu.Unlock()
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
}

// A flight is something done once by one goroutine while many wait, each with its own context.
type flight struct {
	done chan struct{}
	err  error
}

// once does what name stands for unless it has been done; a failure is forgotten.
func (p *publisher) once(ctx context.Context, name string, do func() error) error {
	p.mu.Lock()
	f := p.flights[name]
	fresh := f == nil
	if fresh {
		f = &flight{done: make(chan struct{})}
		p.flights[name] = f
	}
	p.mu.Unlock()
	if fresh {
		started := p.c.start(func() {
			if f.err = do(); f.err != nil {
				p.mu.Lock()
				delete(p.flights, name)
				p.mu.Unlock()
			}
			close(f.done)
		})
		if !started {
			f.err = p.c.lost()
			close(f.done)
		}
	}
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	case <-p.c.done:
		return p.c.lost()
	}
}

// forget lets name be done again, once it is done.
func (p *publisher) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flights[name]; f != nil {
		select {
		case <-f.done:
			delete(p.flights, name)
		default:
		}
	}
}
