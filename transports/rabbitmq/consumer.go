package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/stalkworker/stalk/transports"
)

// errStopped is what a consumer or a subscription answers after its own Close.
var errStopped = errors.New("rabbitmq: closed")

// A consumer collects what the lanes, one for each queue, have fetched.
type consumer struct {
	conn *conn
	out  chan fetched  // unbuffered: a delivery is with the lane or with Receive, never between
	wake chan struct{} // capacity 1; written by nudge, read by Receive
	done chan struct{} // closed by Close

	mu      sync.Mutex
	lanes   map[string]*lane
	window  int
	held    int // received and unsettled
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
		conn: c, out: make(chan fetched), wake: make(chan struct{}, 1), done: make(chan struct{}),
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
		var out chan fetched
		if k.room() {
			out = k.out
		}
		select {
		case f := <-out:
			if k.claim(f) {
				return f.delivery, nil
			}
		case <-k.wake:
		case <-k.done:
		case <-k.conn.done:
		case <-ctx.Done():
		}
	}
}

func (k *consumer) room() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held < k.window
}

// claim makes a fetched delivery ours; false when its channel has died meanwhile.
func (k *consumer) claim(f fetched) bool {
	k.mu.Lock()
	k.held++
	k.mu.Unlock()
	if f.receipt.link.hold(f.receipt) {
		return true
	}
	k.release(1)
	return false
}

// release gives n places of the window back.
func (k *consumer) release(n int) {
	k.mu.Lock()
	k.held -= n
	k.mu.Unlock()
	k.nudge()
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

// SetWindow returns at once; how much the broker sends follows in the background (see prefetch.go).
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
			close(l.stop)
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
		close(l.stop)
	}
	return lanes
}
