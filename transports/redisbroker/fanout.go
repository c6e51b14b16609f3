package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

const (
	listenFor  = 10 * time.Second // without a message the server is asked whether it lives
	rememberBy = 1000             // delivery tags kept to tell a message that came on both channels
)

// A subscription listens to the channel of a fanout exchange on a socket of its own.
type subscription struct {
	c      *conn
	ps     *redis.PubSub
	name   string           // of the exchange
	member transports.Queue // the binding written for it; Name "": none
	in     chan *heard      // written by listen; of pointers, as a channel takes all its memory at once
	stop   chan struct{}    // closed by Close
	ended  chan struct{}    // closed when listen has ended
	once   sync.Once
	tags   map[string]struct{} // listen's alone
	order  []string
}

type heard struct {
	m   protocol.Message
	raw []byte
}

var _ transports.Subscription = (*subscription)(nil)

// Subscribe listens before it returns. The queue named in f is written as a binding member, which is how
// Kombu's inspect and purge know of us; it is removed by Close of the subscription.
//
// A direct exchange is listened to through the list of the queue; see inbox.
func (c *conn) Subscribe(ctx context.Context, f transports.Fanout) (transports.Subscription, error) {
	if f.Type == "direct" {
		return c.openInbox(ctx, f)
	}
	return c.subscribe(ctx, f)
}

func (c *conn) subscribe(ctx context.Context, f transports.Fanout) (*subscription, error) {
	if f.Exchange == "" {
		return nil, errors.New("redisbroker: Fanout.Exchange is required")
	}
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.ops.Done()
	ctx, cancel := c.timeout(ctx)
	defer cancel()
	s := &subscription{
		c: c, name: f.Exchange, in: make(chan *heard, broadcastBuffer),
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	channels := c.t.set.channels(f.Exchange, strings.ReplaceAll(f.RoutingKey, "#", "*"))
	if len(channels) > 1 {
		s.tags = map[string]struct{}{}
	}
	s.ps = c.block.PSubscribe(ctx, channels...)
	for range channels { // each is confirmed; only then does the server deliver
		if _, err := s.ps.ReceiveTimeout(ctx, c.t.opts.SocketTimeout); err != nil {
			_ = s.ps.Close()
			return nil, c.outcomeIn(ctx, fmt.Sprintf("subscribe %q", f.Exchange), err)
		}
	}
	c.t.mu.Lock()
	c.t.fanouts[f.Exchange] = true
	c.t.mu.Unlock()
	// Delivery does not look the member up. Queues of events have a new name each time: nobody asks for them, and the
	// members of those that died would stay for ever.
	if f.Queue != "" && f.Type != "topic" {
		q := transports.Queue{Name: f.Queue, Exchange: f.Exchange, Type: "fanout", RoutingKey: f.RoutingKey}
		table, _ := c.t.set.bindingKeys(f.Exchange)
		if err := c.outcomeIn(ctx, "binding", c.main.SAdd(ctx, table, c.t.set.bindingMember(q)).Err()); err != nil {
			_ = s.ps.Close()
			return nil, err
		}
		s.member = q
	}
	c.t.mu.Lock()
	err := c.why
	if err == nil {
		c.subs[s] = struct{}{}
		c.wg.Go(s.listen)
	}
	c.t.mu.Unlock()
	if err != nil {
		_ = s.ps.Close()
		return nil, err
	}
	return s, nil
}

// listen reads until the socket or the subscription is closed. A PubSub would reconnect by itself and
// miss messages in between; so every error of its socket ends the connection.
func (s *subscription) listen() {
	defer close(s.ended)
	defer s.ps.Close()
	unanswered := 0
	for {
		msg, err := s.ps.ReceiveTimeout(context.Background(), listenFor)
		select {
		case <-s.stop:
			return
		case <-s.c.done:
			return
		default:
		}
		var timeout net.Error
		switch {
		case err == nil, fateOf(err) == refused: // a reply: there are servers whose full disk forbids PING
			unanswered = 0
		case errors.As(err, &timeout) && timeout.Timeout() && unanswered == 0:
			unanswered++
			ctx, cancel := s.c.own()
			err = s.ps.Ping(ctx)
			cancel()
			if err == nil {
				continue
			}
			fallthrough
		default:
			s.c.fail(fmt.Errorf("redisbroker: subscription to %q: %w: %v", s.name, transports.ErrDisconnected, err))
			return
		}
		if m, ok := msg.(*redis.Message); ok {
			s.hear([]byte(m.Payload))
		}
	}
}

func (s *subscription) hear(raw []byte) {
	m, _, err := protocol.DecodeEnvelope(raw, s.c.t.set.limits)
	if err != nil {
		s.c.t.warning("unreadable broadcast dropped", "exchange", s.name, "err", err)
		return
	}
	if s.tags != nil && s.heardBefore(raw) {
		return
	}
	select {
	case s.in <- &heard{m, raw}:
	default:
		s.c.t.warning("broadcast dropped: too many are waiting", "exchange", s.name, "waiting", broadcastBuffer)
	}
}

// heardBefore tells the second copy of a message that was published on both channels.
func (s *subscription) heardBefore(raw []byte) bool {
	tag := tagOf(raw)
	if tag == "" {
		return false
	}
	if _, seen := s.tags[tag]; seen {
		return true
	}
	s.tags[tag] = struct{}{}
	if s.order = append(s.order, tag); len(s.order) > rememberBy {
		delete(s.tags, s.order[0])
		s.order = s.order[1:]
	}
	return false
}

func (s *subscription) Next(ctx context.Context) (protocol.Message, error) {
	h, err := s.next(ctx)
	return h.m, err
}

func (s *subscription) next(ctx context.Context) (heard, error) {
	if err := s.c.gone(); err != nil {
		return heard{}, err
	}
	select {
	case <-s.stop:
		return heard{}, errSubscriptionClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return heard{}, err
	}
	select {
	case h := <-s.in:
		return *h, nil
	case <-ctx.Done():
		return heard{}, ctx.Err()
	case <-s.stop:
		return heard{}, errSubscriptionClosed
	case <-s.c.done:
		return heard{}, s.c.gone()
	}
}

var errSubscriptionClosed = errors.New("redisbroker: subscription closed")

// Close stops listening, waits for that, and takes the binding member back.
func (s *subscription) Close() error {
	first := false
	s.once.Do(func() { close(s.stop); first = true })
	_ = s.ps.Close()
	<-s.ended
	s.c.t.mu.Lock()
	delete(s.c.subs, s)
	s.c.t.mu.Unlock()
	if !first || s.member.Name == "" || s.c.enter() != nil {
		return nil
	}
	defer s.c.ops.Done()
	ctx, cancel := s.c.own()
	defer cancel()
	table, _ := s.c.t.set.bindingKeys(s.member.Exchange)
	return s.c.outcome("unbinding", s.c.main.SRem(ctx, table, s.c.t.set.bindingMember(s.member)).Err())
}
