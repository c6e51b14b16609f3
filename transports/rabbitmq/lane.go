package rabbitmq

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// A lane consumes one queue, on one channel after another: a channel that dies takes no other queue's
// deliveries with it. Its run goroutine makes all calls on the channel but publishes and settlings.
type lane struct {
	k        *consumer
	queue    transports.Queue
	stop     chan struct{} // closed: the queue is not wanted any more
	tried    chan struct{} // closed by run after the first attempt
	returned chan struct{} // closed by run when nothing fetched and unreceived is left, after stop
	wake     chan struct{} // capacity 1; the window has changed
	counts   atomic.Bool   // the queue counts deliveries
	limit    int           // of its deliveries, as far as its arguments say; 0: unknown
	full     atomic.Int64  // when a message could not be sent back as new, in Unix seconds; 0: never
	trouble  trouble       // touched by run only
	shut     bool          // nothing of it is received any more; guarded by consumer.mu
}

func newLane(k *consumer, q transports.Queue) *lane {
	l := &lane{
		k: k, queue: q, stop: make(chan struct{}), tried: make(chan struct{}), returned: make(chan struct{}),
		wake: make(chan struct{}, 1), trouble: trouble{c: k.conn, queue: q.Name},
	}
	if kind, _ := q.Arguments.Get(queueType); kind == "quorum" {
		l.counts.Store(true)
	}
	if n, _ := q.Arguments.Get(deliveryLimit); n != nil {
		if n, ok := n.(int64); ok && n > 0 && n < 1<<31 {
			l.limit = int(n)
		}
	}
	return l
}

func (l *lane) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run ends when the lane is stopped and everything received is settled, or with the conn.
func (l *lane) run() {
	tried := sync.OnceFunc(func() { close(l.tried) })
	returned := sync.OnceFunc(func() { close(l.returned) })
	defer returned()
	defer tried()
	var retry backoff
	for {
		n, err := l.attach()
		l.trouble.tell(err)
		tried()
		if err == nil {
			began := time.Now()
			err = l.serve(n, returned)
			l.trouble.tell(err)
			if time.Since(began) > retryCeiling {
				retry = backoff{}
			}
		}
		if err == nil || l.k.conn.lost() != nil {
			return
		}
		if !retry.wait(l.k.conn.life, l.stop) {
			return
		}
	}
}

// attach opens a channel and consumes.
func (l *lane) attach() (*link, error) {
	ac := l.k.conn.consumes
	err := queueExists(ac, l.queue.Name)
	if code(err) == amqp.NotFound && l.queue.Create {
		err = l.k.conn.t.createQueue(ac, l.queue)
	}
	if err != nil {
		return nil, err
	}
	n, err := newLink(l)
	if err != nil {
		return nil, err
	}
	if err := n.adjust(l.k.currentWindow()); err != nil {
		n.die()
		return nil, n.reason(err)
	}
	return n, nil
}

// shrinkAfter is how long messages that the window has no room for any more may still be taken up before they go back. A
// classic queue that gets messages back reads those behind them from its disk: the broker pays twice for each of thousands. So
// a window that shrinks for a moment, or whose messages begin at once, gives nothing back.
const shrinkAfter = 500 * time.Millisecond

// serve follows a channel until it is of no use. A nil error means the lane was stopped.
func (l *lane) serve(n *link, returned func()) error {
	waits := l.waits()
	var tick <-chan time.Time
	if waits > 0 {
		t := time.NewTicker(max(waits/4, time.Millisecond))
		defer t.Stop()
		tick = t.C
	}
	var shrink <-chan time.Time // nil: nothing is to be given back
	for {
		select {
		case <-l.stop:
			l.drain(n, returned)
			return nil
		case <-l.k.conn.done:
			n.die()
			return nil
		case e := <-n.closed:
			n.die()
			if e == nil {
				e = amqp.ErrClosed
			}
			return e
		case <-n.cancels: // the queue was deleted, or its leader is gone
			n.die()
			return errCancelled
		case <-l.wake:
			if err := n.adjust(l.k.currentWindow()); err != nil {
				n.die()
				return n.reason(err)
			}
			if shrink == nil && n.surplus(l.k.currentWindow()) > 0 {
				shrink = time.After(shrinkAfter)
			}
		case <-shrink:
			shrink = nil
			n.shrink(l.k.currentWindow())
		case now := <-tick: // what nobody receives for too long comes again, as new to the broker's clock
			n.giveBack(l.k.takeOld(n, now.Add(-waits)))
		}
	}
}

// drain stops fetching, gives back what nobody has received and keeps the channel until the rest is settled.
func (l *lane) drain(n *link, returned func()) {
	if err := n.cancelAll(); err != nil {
		n.die()
		return
	}
	n.giveBack(l.k.takeBack(n, 0)) // the driver has answered: nothing more comes
	returned()
	for n.unsettled() > 0 {
		select {
		case <-n.settled:
		case <-l.k.conn.done:
			n.die()
			return
		case <-n.closed:
			n.die()
			return
		}
	}
	n.die()
}

// errCancelled stands for the basic.cancel that a broker sends.
var errCancelled = &amqp.Error{Code: amqp.NotFound, Reason: "the broker cancelled the consumer", Server: true, Recover: true}

const (
	retryFloor   = 100 * time.Millisecond
	retryCeiling = 5 * time.Second
)

// A backoff doubles a wait up to retryCeiling, with jitter.
type backoff struct{ last time.Duration }

// wait returns false when it was cut short.
func (b *backoff) wait(ctx context.Context, stop <-chan struct{}) bool {
	b.last = min(max(2*b.last, retryFloor), retryCeiling)
	t := time.NewTimer(b.last/2 + rand.N(b.last/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
	case <-ctx.Done():
	}
	return false
}
