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

// maxInFlight bounds the unconfirmed messages of one channel.
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
	line    *line // what is published and confirmed goes past the driver
	closed  <-chan *amqp.Error
	slots   chan struct{} // full: maxInFlight are unconfirmed
	retired chan struct{} // closed: a confirm stayed out

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
	returned string // why the broker returned it; guarded by station.mu
}

func (p *publisher) openStation(inFlight int) (*station, error) {
	ch, err := p.ac.Channel()
	if err != nil {
		return nil, err
	}
	s := &station{
		p: p, ch: ch, slots: make(chan struct{}, inFlight), retired: make(chan struct{}),
		closed: ch.NotifyClose(make(chan *amqp.Error, 1)),
		alike:  map[likeness]*mandatory{},
	}
	s.line, err = p.sock.attach(confirmSelect, s, func() error { return ch.Confirm(false) })
	if err != nil {
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
		s.retire()
	} else {
		<-s.slots
	}
	s.out()
}

func (s *station) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.old {
		s.old = true
		close(s.retired)
	}
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
	f, err := s.write(ctx, o)
	if err != nil {
		return err
	}
	if err := s.await(ctx, f); err != nil {
		return err
	}
	if why := s.returnOf(m); why != "" {
		return fmt.Errorf("%w: %s", errUnroutable, why)
	}
	switch {
	case f.acked:
		return nil
	case s.ch.IsClosed() || !s.line.alive():
		return s.verdict()
	}
	return fmt.Errorf("%w: the broker nacked it", transports.ErrRefused)
}

// errAlarm: the confirm has not come, as the broker has stopped reading.
var errAlarm = fmt.Errorf("%w: connection blocked before the confirm", transports.ErrBlocked)

// await waits for a confirm: as long as ctx says, but publishTimeout at most once the broker has blocked us.
func (s *station) await(ctx context.Context, f *posted) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.p.c.done:
		return s.p.c.lost()
	case <-s.p.blocking():
	}
	t := time.NewTimer(publishTimeout)
	defer t.Stop()
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.p.c.done:
		return s.p.c.lost()
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

// write puts the message among what is written next. It waits for a socket that does not take more.
func (s *station) write(ctx context.Context, o outgoing) (*posted, error) {
	f, err := s.line.publish(ctx.Done(), &o, s.p.frame())
	switch {
	case err == nil:
		return f, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s.p.c.lost() != nil:
		return nil, s.p.c.lost()
	}
	s.retire() // the channel is closed, by somebody else: nothing was sent
	return nil, errRetired
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

// deliver is never called: nothing is consumed on this channel.
func (s *station) deliver(content, uint64, bool) {}

// returned takes a message that the broker returns. It comes before its confirm.
func (s *station) returned(d content, reply string) {
	q := parcelOf(d.header).properties
	like := likeness{d.exchange, d.key, q.CorrelationID, q.MessageID, len(d.body), maphash.Bytes(s.p.seed, d.body)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.alike[like]; m != nil {
		m.returned = reply
	}
}

// returnOf is why m was returned; "" when it was not. Its confirm has come.
func (s *station) returnOf(m *mandatory) string {
	if m == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return m.returned
}
