package membroker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/stalkworker/stalk/transports"
)

// An Op is a kind of operation that a fault can be ordered for.
type Op string

// The operations. Settle is Ack, Reject and Move.
const (
	Connect   Op = "connect"
	Consume   Op = "consume"
	Subscribe Op = "subscribe"
	Publish   Op = "publish"
	Settle    Op = "settle"
)

// A fault is what was ordered for one Op.
type fault struct {
	delay time.Duration
	fail  int // operations still to fail; negative: all
	err   error
	lose  int // operations still to lose
}

// Cut breaks every connection at once: their unsettled messages go back to the queues.
func (b *Broker) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		c.end(fmt.Errorf("membroker: connection cut: %w", transports.ErrDisconnected))
	}
}

// Lapse takes back what is unsettled of a queue; the connections stay, as after a consumer_timeout of RabbitMQ.
func (b *Broker) Lapse(queueName string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		for r := range c.held {
			if r.entry.queue.name == queueName {
				r.lapsed = true
				delete(c.held, r)
				r.back()
				close(r.lost)
			}
		}
	}
	b.wake(queueName)
}

// Replace is Forget, and breaks every connection.
func (b *Broker) Replace() {
	b.Forget()
	b.Cut()
}

// Forget lets the broker be another one from now on, as after a restart: some of what it had confirmed may be undone,
// which is the test's business.
func (b *Broker) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replaced++
}

// Instance is another one after each Forget.
func (b *Broker) Instance() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strconv.Itoa(b.replaced)
}

// Fail lets the next n operations of the kind (n negative: all until Fail(op, 0, nil)) do nothing and
// return err, which should wrap what the contract names: ErrRefused, ErrDisconnected, ErrCredentials.
func (b *Broker) Fail(op Op, n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.fault(op)
	f.fail, f.err = n, err
}

// Lose lets the next n operations of the kind happen, but breaks the connection before the answer:
// the caller gets ErrDisconnected and cannot know. With n negative all are, until Lose(op, 0).
func (b *Broker) Lose(op Op, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault(op).lose = n
}

// Delay makes every operation of the kind take so long before anything else happens; 0 ends it. An
// operation whose ctx or connection ends meanwhile does not happen.
func (b *Broker) Delay(op Op, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault(op).delay = d
}

// fault returns the orders for op. Called with mu held.
func (b *Broker) fault(op Op) *fault {
	f := b.faults[op]
	if f == nil {
		f = new(fault)
		b.faults[op] = f
	}
	return f
}

// suffer waits as ordered, then returns the ordered error, if any, or a function to call with the
// connection once the operation has happened: its error is the operation's.
func (b *Broker) suffer(ctx context.Context, op Op, c *conn) (after func(*conn) error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var done <-chan struct{}
	if c != nil {
		done = c.done
	}
	b.mu.Lock()
	delay := b.fault(op).delay
	b.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-done:
			return nil, c.gone()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.fault(op)
	if f.fail != 0 {
		f.fail = max(f.fail-1, -1) // a negative count never ends
		return nil, f.err
	}
	if f.lose == 0 {
		return func(*conn) error { return nil }, nil
	}
	f.lose = max(f.lose-1, -1)
	return func(c *conn) error {
		err := fmt.Errorf("membroker: answer to %s lost: %w", op, transports.ErrDisconnected)
		b.mu.Lock()
		defer b.mu.Unlock()
		c.end(err)
		return err
	}, nil
}
