package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// maxInFlight bounds the unconfirmed messages of one channel, and so the returns the broker can send on it.
const maxInFlight = 256

// errRetired: take another channel; nothing was sent on this one.
var errRetired = errors.New("the channel is not used any more")

// A station is one channel in confirm mode and those who wait for its confirms.
//
// A return names no delivery tag, only the message, and comes before its confirm. So no two mandatory
// messages that look alike (see likeness) are under way at a time: the second waits for the first.
type station struct {
	p       *publisher
	ch      *amqp.Channel
	closed  <-chan *amqp.Error
	returns <-chan amqp.Return // room for one return of each message in flight: the driver's reader never waits
	slots   chan struct{}      // full: maxInFlight are unconfirmed
	writing chan struct{}      // capacity 1: held while a message is written
	retired chan struct{}      // closed: a confirm stayed out

	mu      sync.Mutex
	old     bool // retired is closed
	waiting int
	alike   map[likeness]*mandatory
}

// A likeness is what a return tells a message by. Different messages may share one; then they just wait for each other.
type likeness struct {
	exchange, key, correlation, id string
	size                           int
	hash                           uint64
}

// A mandatory message under way.
type mandatory struct {
	done     chan struct{}
	returned *amqp.Return // guarded by station.mu
}

func (p *publisher) openStation(inFlight int) (*station, error) {
	ch, err := p.ac.Channel()
	if err != nil {
		return nil, err
	}
	s := &station{
		p: p, ch: ch, slots: make(chan struct{}, inFlight), writing: make(chan struct{}, 1), retired: make(chan struct{}),
		closed:  ch.NotifyClose(make(chan *amqp.Error, 1)),
		returns: ch.NotifyReturn(make(chan amqp.Return, inFlight)),
		alike:   map[likeness]*mandatory{},
	}
	if err := ch.Confirm(false); err != nil {
		return nil, errors.Join(err, ch.Close())
	}
	return s, nil
}

func (s *station) usable() bool {
	if s == nil || s.ch.IsClosed() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.old
}

// publish sends o and waits for its confirm.
func (s *station) publish(ctx context.Context, o outgoing) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	err := s.exchange(ctx, o)
	// When the confirm stayed out its return may still come: the slot stays taken, the channel is used up.
	s.leave(err != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, errAlarm)))
	return err
}

// enter takes a slot.
func (s *station) enter(ctx context.Context) error {
	s.mu.Lock()
	if s.old {
		s.mu.Unlock()
		return errRetired
	}
	s.waiting++
	s.mu.Unlock()
	var err error
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-s.retired:
		err = errRetired
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.p.c.done:
		err = s.p.c.lost()
	}
	s.out()
	return err
}

// leave gives the slot back, or retires the channel for one that will not come back.
func (s *station) leave(retire bool) {
	if retire {
		s.mu.Lock()
		if !s.old {
			s.old = true
			close(s.retired)
		}
		s.mu.Unlock()
	} else {
		<-s.slots
	}
	s.out()
}

// out counts a caller out; the last one to leave a retired channel has it closed.
func (s *station) out() {
	s.mu.Lock()
	s.waiting--
	last := s.old && s.waiting == 0
	s.mu.Unlock()
	if last {
		s.p.c.start(func() { _ = s.ch.Close() })
	}
}

func (s *station) exchange(ctx context.Context, o outgoing) error {
	var m *mandatory
	if o.mandatory {
		like := s.likeness(o)
		var err error
		if m, err = s.claim(ctx, like); err != nil {
			return err
		}
		defer s.unclaim(like, m)
	}
	confirm, err := s.write(ctx, o)
	if err != nil {
		return err
	}
	if err := s.await(ctx, confirm); err != nil {
		return err
	}
	if r := s.returnOf(m); r != nil {
		return fmt.Errorf("%w: %d %s", errUnroutable, r.ReplyCode, r.ReplyText)
	}
	switch {
	case confirm.Acked():
		return nil
	case s.ch.IsClosed(): // the driver then nacks everything
		return s.verdict()
	}
	return fmt.Errorf("%w: the broker nacked it", transports.ErrRefused)
}

// errAlarm: the confirm has not come, as the broker has stopped reading.
var errAlarm = fmt.Errorf("%w: connection blocked before the confirm", transports.ErrBlocked)

// await waits for a confirm: as long as ctx says, but publishTimeout at most once the broker has blocked us.
func (s *station) await(ctx context.Context, confirm *amqp.DeferredConfirmation) error {
	select {
	case <-confirm.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.p.blocking():
	}
	t := time.NewTimer(publishTimeout)
	defer t.Stop()
	select {
	case <-confirm.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return errAlarm
	}
}

// verdict is the error of a message whose channel closed before its confirm. On the careful channel it
// was the only one under way, and so the one that closed it.
func (s *station) verdict() error {
	if lost := s.p.c.lost(); lost != nil {
		return lost
	}
	if cap(s.slots) > 1 {
		return errBystander
	}
	if e := <-s.closed; e != nil { // the channel is closed: this does not block
		return e
	}
	return amqp.ErrClosed
}

// write sends the frames. The driver writes without a context; a socket that does not take them is given up after writeTimeout.
func (s *station) write(ctx context.Context, o outgoing) (*amqp.DeferredConfirmation, error) {
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.writing }()
	confirm, err := s.ch.PublishWithDeferredConfirm(o.exchange, o.key, o.mandatory, false, o.message)
	if err != nil {
		if lost := s.p.c.lost(); lost != nil {
			return nil, lost
		}
		if s.ch.IsClosed() { // by somebody else: nothing was sent
			return nil, errRetired
		}
		return nil, fmt.Errorf("%w: %v", transports.ErrRefused, err)
	}
	return confirm, nil
}

func (s *station) likeness(o outgoing) likeness {
	return likeness{
		o.exchange, o.key, o.message.CorrelationId, o.message.MessageId, len(o.message.Body), maphash.Bytes(s.p.seed, o.message.Body),
	}
}

// claim waits until no other message of that likeness is under way.
func (s *station) claim(ctx context.Context, like likeness) (*mandatory, error) {
	m := &mandatory{done: make(chan struct{})}
	for {
		s.mu.Lock()
		other := s.alike[like]
		if other == nil {
			s.alike[like] = m
		}
		s.mu.Unlock()
		if other == nil {
			return m, nil
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *station) unclaim(like likeness, m *mandatory) {
	s.mu.Lock()
	delete(s.alike, like)
	s.mu.Unlock()
	close(m.done)
}

// returnOf collects the returns that have come and says whether m is among them. As a return comes
// before its confirm, one for m is there, or in another caller's hands under mu, when m's confirm is.
func (s *station) returnOf(m *mandatory) *amqp.Return {
	if m == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		select {
		case r, open := <-s.returns:
			if !open {
				return m.returned
			}
			like := likeness{r.Exchange, r.RoutingKey, r.CorrelationId, r.MessageId, len(r.Body), maphash.Bytes(s.p.seed, r.Body)}
			if other := s.alike[like]; other != nil {
				other.returned = &r
			}
		default:
			return m.returned
		}
	}
}
