package membroker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// errClosed is why a connection that we closed ourselves is gone.
var errClosed = fmt.Errorf("membroker: connection closed: %w", transports.ErrDisconnected)

// A conn is one connection. Everything but done is guarded by broker.mu.
type conn struct {
	broker    *Broker
	done      chan struct{} // closed by end
	why       error         // not nil: ended
	consumers []*consumer
	subs      []*subscription
	held      map[*receipt]struct{} // delivered, unsettled
}

var _ transports.Conn = (*conn)(nil)

// Consume registers a consumer. A queue that is missing is made when Create asks for it; else the
// consumer serves it once somebody makes it.
func (c *conn) Consume(ctx context.Context, queues []transports.Queue, window int) (transports.Consumer, error) {
	if window < 1 {
		return nil, fmt.Errorf("membroker: window is %d, want 1 or more", window)
	}
	after, err := c.begin(ctx, Consume)
	if err != nil {
		return nil, err
	}
	k := &consumer{conn: c, wake: make(chan struct{}, 1), closed: make(chan struct{}), window: window}
	c.broker.mu.Lock()
	if c.why != nil {
		c.broker.mu.Unlock()
		return nil, c.why
	}
	k.listen(queues)
	c.consumers = append(c.consumers, k)
	c.broker.mu.Unlock()
	return k, after(c)
}

// Subscribe registers a listener at the exchange, which is made when missing.
func (c *conn) Subscribe(ctx context.Context, f transports.Fanout) (transports.Subscription, error) {
	after, err := c.begin(ctx, Subscribe)
	if err != nil {
		return nil, err
	}
	s := &subscription{conn: c, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	c.broker.mu.Lock()
	if c.why != nil {
		c.broker.mu.Unlock()
		return nil, c.why
	}
	s.exchange = c.broker.exchange(f.Exchange, f.Type)
	s.exchange.subs[s] = f.RoutingKey
	c.subs = append(c.subs, s)
	c.broker.mu.Unlock()
	return s, after(c)
}

func (c *conn) Publish(ctx context.Context, p transports.Publishing) error {
	after, err := c.begin(ctx, Publish)
	if err != nil {
		return err
	}
	b := c.broker
	b.mu.Lock()
	if c.why != nil {
		b.mu.Unlock()
		return c.why
	}
	if p.Declare != nil {
		b.declare(*p.Declare)
	}
	if p.ExchangeType != "" && p.Exchange != "" {
		b.exchange(p.Exchange, p.ExchangeType)
	}
	n := b.route(p.Exchange, p.RoutingKey, clone(p.Message))
	b.mu.Unlock()
	if err := after(c); err != nil {
		return err
	}
	if n == 0 && p.Mandatory {
		return fmt.Errorf("membroker: nothing is bound to exchange %q for key %q: %w", p.Exchange, p.RoutingKey, transports.ErrUnroutable)
	}
	return nil
}

func (c *conn) Done() <-chan struct{} { return c.done }

func (c *conn) Err() error {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	if errors.Is(c.why, errClosed) {
		return nil
	}
	return c.why
}

func (c *conn) Close() error {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	c.end(errClosed)
	return nil
}

// begin is how every operation starts: not on an ended connection, and not without its faults.
func (c *conn) begin(ctx context.Context, op Op) (after func(*conn) error, err error) {
	if err := c.gone(); err != nil {
		return nil, err
	}
	return c.broker.suffer(ctx, op, c)
}

// gone is why the connection ended, nil while it lives.
func (c *conn) gone() error {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	return c.why
}

// end breaks the connection: what it held goes back. Called with broker.mu held.
func (c *conn) end(why error) {
	if c.why != nil {
		return
	}
	c.why = why
	close(c.done)
	delete(c.broker.conns, c)
	for _, s := range c.subs {
		delete(s.exchange.subs, s)
	}
	c.consumers, c.subs = nil, nil
	for r := range c.held {
		r.back()
		close(r.lost)
	}
}

// A subscription is a listener at an exchange. What arrives waits in pending, which a test never fills
// to a size that matters.
type subscription struct {
	conn     *conn
	exchange *exchange
	wake     chan struct{} // capacity 1; written by push, read by Next
	closed   chan struct{}

	pending []protocol.Message // guarded by broker.mu
	ended   bool               // guarded by broker.mu
}

var _ transports.Subscription = (*subscription)(nil)

// maxPending bounds a subscription: past it the oldest go, as the broker's queue length limit would do.
const maxPending = 10_000

// push adds m. Called with broker.mu held.
func (s *subscription) push(m protocol.Message) {
	if len(s.pending) == maxPending {
		s.pending = slices.Delete(s.pending, 0, 1)
	}
	s.pending = append(s.pending, m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) Next(ctx context.Context) (protocol.Message, error) {
	for {
		if err := ctx.Err(); err != nil {
			return protocol.Message{}, err
		}
		s.conn.broker.mu.Lock()
		why, ended := s.conn.why, s.ended
		var m protocol.Message
		found := false
		if why == nil && !ended && len(s.pending) > 0 {
			m, found = s.pending[0], true
			s.pending = slices.Delete(s.pending, 0, 1)
		}
		s.conn.broker.mu.Unlock()
		switch {
		case why != nil:
			return protocol.Message{}, why
		case ended:
			return protocol.Message{}, fmt.Errorf("membroker: subscription closed: %w", transports.ErrDisconnected)
		case found:
			return m, nil
		}
		select {
		case <-s.wake:
		case <-s.closed:
		case <-s.conn.done:
		case <-ctx.Done():
		}
	}
}

func (s *subscription) Close() error {
	s.conn.broker.mu.Lock()
	defer s.conn.broker.mu.Unlock()
	if !s.ended {
		s.ended = true
		delete(s.exchange.subs, s)
		close(s.closed)
	}
	return nil
}
