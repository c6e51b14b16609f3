package rabbitmq

import (
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// During a memory or disk alarm RabbitMQ tells a connection that publishes that it is blocked, and reads
// nothing more from it. Publishing then waits a bounded time and is refused; nothing is written that
// would arrive long after its sender had given up.

// watchAlarm follows connection.blocked and connection.unblocked until the connection closes.
func (p *publisher) watchAlarm(blocked <-chan amqp.Blocking) {
	for b := range blocked {
		if b.Active {
			p.raise(b.Reason)
		} else {
			p.lower()
		}
	}
}

func (p *publisher) raise(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alarm == nil {
		p.alarm, p.why = make(chan struct{}), why
		close(p.raised)
	}
}

func (p *publisher) lower() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alarm != nil {
		close(p.alarm)
		p.alarm, p.raised = nil, make(chan struct{})
	}
}

func (p *publisher) blocked() (why string, blocked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why, p.alarm != nil
}

// blocking is closed while we are blocked.
func (p *publisher) blocking() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.raised
}

// clear waits until we may publish, at most publishTimeout.
func (p *publisher) clear(ctx context.Context) error {
	p.mu.Lock()
	alarm, why := p.alarm, p.why
	p.mu.Unlock()
	if alarm == nil {
		return p.c.lost()
	}
	t := time.NewTimer(publishTimeout)
	defer t.Stop()
	select {
	case <-alarm:
		return nil
	case <-t.C:
		return fmt.Errorf("%w: connection blocked: %s", transports.ErrBlocked, why)
	case <-ctx.Done():
		return ctx.Err()
	case <-p.c.done:
		return p.c.lost()
	}
}
