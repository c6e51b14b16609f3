package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stalkworker/stalk/transports"
)

// errStopped is what a consumer or a subscription answers after its own Close.
var errStopped = errors.New("rabbitmq: closed")

// A consumer collects what the lanes, one for each queue, have fetched.
type consumer struct {
	conn *conn
	wake chan struct{} // capacity 1; written by nudge, read by Receive
	done chan struct{} // closed by Close

	mu      sync.Mutex
	lanes   map[string]*lane
	window  int
	held    int     // received and unsettled
	ready   []*link // those that have something to receive, the next one first
	stopped bool
}

var _ transports.Consumer = (*consumer)(nil)

// Consume returns when each queue has been tried once: those that exist are being consumed, the others
// are tried again in the background, as Config.Notify hears.
func (c *conn) Consume(ctx context.Context, queues []transports.Queue, window int) (transports.Consumer, error) {
	if err := checkWindow(window); err != nil {
		return nil, err
	}
	k := &consumer{
		conn: c, wake: make(chan struct{}, 1), done: make(chan struct{}),
		lanes: map[string]*lane{}, window: window,
	}
	if err := k.SetQueues(ctx, queues); err != nil {
		k.end() // not waited for: ctx may be over because the broker does not answer
		return nil, err
	}
	return k, nil
}

func checkWindow(n int) error {
	if n < 1 {
		return fmt.Errorf("rabbitmq: window is %d, want 1 or more", n)
	}
	return nil
}

func (k *consumer) Receive(ctx context.Context) (*transports.Delivery, error) {
	for {
		if err := k.gone(); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r := k.next(); r != nil {
			if !r.link.hold(r) { // its channel has died meanwhile
				k.release(1)
				continue
			}
			return r.delivery(), nil
		}
		select {
		case <-k.wake:
		case <-k.done:
		case <-k.conn.done:
		case <-ctx.Done():
		}
	}
}

// arrived adds what was fetched to what can be received. It is called by the reader of the connection.
func (k *consumer) arrived(r *receipt) {
	n := r.link
	k.mu.Lock()
	n.waiting = append(n.waiting, r)
	wake := false
	if len(n.waiting) == 1 && !n.lane.shut {
		k.ready = append(k.ready, n)
		wake = len(k.ready) == 1
	}
	k.mu.Unlock()
	if wake {
		k.nudge()
	}
}

// next takes a place of the window and the next delivery; nil when there is no place or no delivery. The queues take turns.
func (k *consumer) next() *receipt {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held >= k.window || len(k.ready) == 0 {
		return nil
	}
	n := k.ready[0]
	k.ready = slices.Delete(k.ready, 0, 1)
	r := n.waiting[0]
	n.waiting[0] = nil
	if n.waiting = n.waiting[1:]; len(n.waiting) > 0 {
		k.ready = append(k.ready, n)
	}
	k.held++
	return r
}

// waiting is how many deliveries of n nobody has received.
func (k *consumer) waiting(n *link) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(n.waiting)
}

// takeBack takes what waits on n beyond the first keep, in order.
func (k *consumer) takeBack(n *link, keep int) []*receipt {
	k.mu.Lock()
	defer k.mu.Unlock()
	if keep >= len(n.waiting) {
		return nil
	}
	out := slices.Clone(n.waiting[keep:])
	clear(n.waiting[keep:])
	n.waiting = n.waiting[:keep]
	k.unready(n)
	return out
}

// takeOld takes what waits on n since before then.
func (k *consumer) takeOld(n *link, then time.Time) []*receipt {
	k.mu.Lock()
	defer k.mu.Unlock()
	old := 0
	for old < len(n.waiting) && !n.waiting[old].arrived.After(then) {
		old++
	}
	out := slices.Clone(n.waiting[:old])
	n.waiting = slices.Delete(n.waiting, 0, old)
	k.unready(n)
	return out
}

// unready follows what was taken from n. The caller holds mu.
func (k *consumer) unready(n *link) {
	if len(n.waiting) == 0 {
		k.ready = slices.DeleteFunc(k.ready, func(m *link) bool { return m == n })
	}
}

// shut keeps what waits on a lane from being received. The caller holds mu.
func (k *consumer) shut(l *lane) {
	l.shut = true
	k.ready = slices.DeleteFunc(k.ready, func(n *link) bool { return n.lane == l })
	close(l.stop)
}

// release gives n places of the window back.
func (k *consumer) release(n int) {
	k.mu.Lock()
	wake := k.held >= k.window && len(k.ready) > 0
	k.held -= n
	k.mu.Unlock()
	if wake {
		k.nudge()
	}
}

func (k *consumer) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// gone is why nothing more can be received.
func (k *consumer) gone() error {
	if err := k.conn.lost(); err != nil {
		return err
	}
	select {
	case <-k.done:
		return errStopped
	default:
		return nil
	}
}

// SetWindow returns at once; how much the broker sends follows in the background (see prefetch.go), and so does what goes
// back when the window has become smaller (see shrinkAfter).
func (k *consumer) SetWindow(_ context.Context, n int) error {
	if err := errors.Join(checkWindow(n), k.gone()); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.window = n
	k.nudge()
	for _, l := range k.lanes {
		l.nudge()
	}
	return nil
}

func (k *consumer) currentWindow() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.window
}

// SetQueues returns when each new queue has been tried once and what was fetched from the old ones has
// been given back.
func (k *consumer) SetQueues(ctx context.Context, queues []transports.Queue) error {
	for _, q := range queues {
		if err := checkQueue(q); err != nil {
			return err
		}
	}
	if err := k.gone(); err != nil {
		return err
	}
	started, ended, err := k.change(queues)
	if err != nil {
		return err
	}
	for _, l := range started {
		if !k.conn.start(l.run) {
			return k.conn.lost()
		}
	}
	for _, l := range started {
		if err := wait(ctx, k.conn, l.tried); err != nil {
			return err
		}
	}
	for _, l := range ended {
		if err := wait(ctx, k.conn, l.returned); err != nil {
			return err
		}
	}
	return k.conn.lost()
}

func (k *consumer) change(queues []transports.Queue) (started, ended []*lane, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return nil, nil, errStopped
	}
	wanted := map[string]bool{}
	for _, q := range queues {
		wanted[q.Name] = true
		if k.lanes[q.Name] != nil {
			continue
		}
		l := newLane(k, q)
		k.lanes[q.Name] = l
		started = append(started, l)
	}
	for name, l := range k.lanes {
		if !wanted[name] {
			delete(k.lanes, name)
			k.shut(l)
			ended = append(ended, l)
		}
	}
	return started, ended, nil
}

// wait waits for a lane's signal.
func wait(ctx context.Context, c *conn, signal <-chan struct{}) error {
	select {
	case <-signal:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return c.lost()
	}
}

// Close returns when what was fetched and not received has been given back, or after closeTimeout: a broker that does not
// answer gets it back with the connection.
func (k *consumer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	for _, l := range k.end() {
		if err := wait(ctx, k.conn, l.returned); errors.Is(err, context.DeadlineExceeded) {
			return errors.New("rabbitmq: the broker does not answer; what was fetched goes back with the connection")
		}
	}
	return nil
}

// end stops the lanes and returns them.
func (k *consumer) end() map[string]*lane {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return nil
	}
	k.stopped = true
	close(k.done)
	lanes := k.lanes
	k.lanes = nil
	for _, l := range lanes {
		k.shut(l)
	}
	return lanes
}
