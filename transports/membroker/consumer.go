package membroker

import (
	"context"
	"fmt"
	"slices"

	"github.com/stalkworker/stalk/transports"
)

// A consumer takes a message only while Receive runs, so there is never one fetched and not received.
type consumer struct {
	conn   *conn
	wake   chan struct{} // capacity 1; written by nudge, read by Receive
	closed chan struct{} // closed by Close

	// guarded by broker.mu
	queues    []string
	turn      int // the queue to look at first: each gets its share
	window    int
	unsettled int
	ended     bool
}

var _ transports.Consumer = (*consumer)(nil)

func (k *consumer) Receive(ctx context.Context) (*transports.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, err := k.take()
		if d != nil || err != nil {
			return d, err
		}
		select {
		case <-k.wake:
		case <-k.closed:
		case <-k.conn.done:
		case <-ctx.Done():
		}
	}
}

// take delivers the next message; nil and no error when there is none for us now.
func (k *consumer) take() (*transports.Delivery, error) {
	b := k.conn.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := k.gone(); err != nil {
		return nil, err
	}
	if k.unsettled >= k.window {
		return nil, nil
	}
	for i := range k.queues {
		at := (k.turn + i) % len(k.queues)
		q := b.queues[k.queues[at]]
		if q == nil || len(q.ready) == 0 {
			continue
		}
		k.turn = at + 1
		e := q.ready[0]
		q.ready[0] = nil
		q.ready = q.ready[1:] // not slices.Delete: a benchmark takes from long queues
		q.unsettled++
		e.deliveries++
		k.unsettled++
		r := &receipt{consumer: k, entry: e, lost: make(chan struct{})}
		k.conn.held[r] = struct{}{}
		d := &transports.Delivery{Message: clone(e.message), Queue: q.name, Redelivered: e.redelivered, Receipt: r}
		if b.counting {
			d.Count = e.deliveries
		}
		return d, nil
	}
	return nil, nil
}

func (k *consumer) SetWindow(ctx context.Context, n int) error {
	if n < 1 {
		return fmt.Errorf("membroker: window is %d, want 1 or more", n)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	k.conn.broker.mu.Lock()
	defer k.conn.broker.mu.Unlock()
	if err := k.gone(); err != nil {
		return err
	}
	k.window = n
	k.nudge()
	return nil
}

func (k *consumer) SetQueues(ctx context.Context, queues []transports.Queue) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.conn.broker.mu.Lock()
	defer k.conn.broker.mu.Unlock()
	if err := k.gone(); err != nil {
		return err
	}
	k.listen(queues)
	k.nudge()
	return nil
}

func (k *consumer) Close() error {
	k.conn.broker.mu.Lock()
	defer k.conn.broker.mu.Unlock()
	if k.ended {
		return nil
	}
	k.ended = true
	close(k.closed)
	k.conn.consumers = slices.DeleteFunc(k.conn.consumers, func(o *consumer) bool { return o == k })
	return nil
}

// gone is why nothing more can be taken. Called with broker.mu held.
func (k *consumer) gone() error {
	if k.conn.why != nil {
		return k.conn.why
	}
	if k.ended {
		return fmt.Errorf("membroker: consumer closed: %w", transports.ErrDisconnected)
	}
	return nil
}

// listen sets the wanted queues. Called with broker.mu held.
func (k *consumer) listen(queues []transports.Queue) {
	k.queues = nil // a fresh slice: nobody else may hold the old one
	k.turn = 0
	for _, q := range queues {
		if q.Create {
			k.conn.broker.declare(q)
		}
		if !slices.Contains(k.queues, q.Name) {
			k.queues = append(k.queues, q.Name)
		}
	}
}

// nudge lets Receive look again.
func (k *consumer) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}
