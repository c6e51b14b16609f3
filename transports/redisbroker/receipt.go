package redisbroker

import (
	"context"
	"errors"
	"fmt"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// Ack removes the message from the stash. When the connection breaks it is tried again over the next
// one until ctx ends, as are the other two.
func (l *lease) Ack(ctx context.Context) error {
	return l.settle(ctx, "ack", func(ctx context.Context, c *conn) (bool, error) {
		return c.drop(ctx, l)
	})
}

// Reject drops the message (Redis has no dead-letter exchange) or puts it behind what waits in its queue.
func (l *lease) Reject(ctx context.Context, requeue bool) error {
	if !requeue {
		return l.Ack(ctx)
	}
	return l.settle(ctx, "requeue", func(ctx context.Context, c *conn) (bool, error) {
		ctx, cancel := c.timeout(ctx)
		defer cancel()
		text, list := []byte(l.raw), l.t.set.listFor(l.queue, l.priority)
		if l.bad {
			list = l.t.set.key(transports.Quarantine(l.queue))
		} else if marked, err := protocol.MarkRedelivered(text); err == nil {
			text = marked
		}
		return c.move(ctx, l.field, l.stashed(), "LPUSH", text, "", list)
	})
}

// Move puts the element, byte for byte, into the step 0 list of the queue.
func (l *lease) Move(ctx context.Context, queue string) error {
	return l.settle(ctx, "move", func(ctx context.Context, c *conn) (bool, error) {
		ctx, cancel := c.timeout(ctx)
		defer cancel()
		if l.free {
			return true, c.main.LPush(ctx, l.t.set.key(queue), l.raw).Err()
		}
		return c.move(ctx, l.field, l.stashed(), "LPUSH", []byte(l.raw), "", l.t.set.key(queue))
	})
}

// Lost is closed when a renewal or a settling finds the stash without us, and when Close has given the
// message back.
func (l *lease) Lost() <-chan struct{} {
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	if l.gone == nil {
		l.gone = make(chan struct{})
		if l.state == lost {
			close(l.gone)
		}
	}
	return l.gone
}

// settle performs do once, over whichever connection lives.
func (l *lease) settle(ctx context.Context, what string, do func(context.Context, *conn) (bool, error)) error {
	if err := l.claim(); err != nil {
		return err
	}
	if l.free && what != "move" {
		return l.settled(what, true)
	}
	for {
		c, joined := l.t.live(l)
		if c == nil {
			select {
			case <-joined:
				continue
			case <-ctx.Done():
				return l.release(false, fmt.Errorf("%w: %w", errNoConn, ctx.Err()))
			}
		}
		ok, err := false, ctx.Err()
		if err == nil {
			ok, err = do(ctx, c)
		}
		c.ops.Done()
		if err == nil {
			return l.settled(what, ok)
		}
		err = c.outcomeIn(ctx, what, err)
		if !errors.Is(err, transports.ErrDisconnected) {
			return l.release(false, err)
		}
		l.t.mu.Lock()
		l.uncertain = true
		l.t.mu.Unlock()
		if ctx.Err() != nil {
			return l.release(true, err)
		}
	}
}

// claim makes this call the one that settles.
func (l *lease) claim() error {
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	switch l.state {
	case lost:
		return transports.ErrLost
	case delivered:
		l.state = settling
		return nil
	}
	return transports.ErrSettled
}

// release lets the call be made again.
func (l *lease) release(uncertain bool, err error) error {
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	l.state = delivered
	l.uncertain = l.uncertain || uncertain
	if l.owner != nil && l.owner.why != nil {
		l.owner = nil // its Close has passed us by
	}
	return err
}

func (l *lease) settled(what string, ok bool) error {
	l.t.mu.Lock()
	// Not there after an attempt whose answer was lost: most likely that attempt did it.
	if ok || l.free || l.uncertain {
		l.finish(settled)
		l.t.mu.Unlock()
		return nil
	}
	l.finish(lost)
	l.t.mu.Unlock()
	l.t.warning("delivery was restored by another worker before we settled it", "settling", what, "queue", l.queue)
	return transports.ErrLost
}
