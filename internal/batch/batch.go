// Package batch is group commit: what many callers want of one server at the same moment travels together. It is for
// the Redis drivers, and knows nothing of Redis; what a batch is and how it is sent is theirs.
//
// It never waits for more to come, so a lone caller pays nothing, and it has no goroutine of its own.
package batch

import (
	"context"
	"runtime"
	"slices"
	"sync"
)

// A Batcher hands what callers want to Send: all that has gathered while the batch before was on its way.
//
// A caller who finds nobody sending leads: it sends what is queued. When it has its answers the first of those who came
// meanwhile leads in turn. Fields are set before its first use.
type Batcher[T any] struct {
	// Send sends a batch, one at a time, and notes with each of its members how it went. It must return within bounded
	// time whatever the server does: all others wait for it.
	Send func([]T)
	// Most and Bytes bound a batch. One that is larger by itself goes alone.
	Most  int
	Bytes int
	// Size is what one counts against Bytes.
	Size func(T) int

	mu    sync.Mutex
	queue []*call[T] // guarded by mu; not yet in any batch
	busy  bool       // guarded by mu; somebody leads
	crowd bool       // guarded by mu; the latest batch had company
	calls sync.Pool
}

// A call is one caller's.
type call[T any] struct {
	what T
	turn chan bool // capacity 1: true: lead, you are out of the queue; false: what is done
}

// Do returns nil when Send has returned that had what among its batch. An error is that of ctx: what was not sent, or
// is on its way still and must not be looked at. Who leads does not give up: the others rely on it.
func (b *Batcher[T]) Do(ctx context.Context, what T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, _ := b.calls.Get().(*call[T])
	if c == nil {
		c = &call[T]{turn: make(chan bool, 1)}
	}
	c.what = what
	b.mu.Lock()
	if !b.busy {
		b.busy = true
		b.mu.Unlock()
		b.lead(c)
		b.free(c)
		return nil
	}
	b.queue = append(b.queue, c)
	b.mu.Unlock()
	select {
	case lead := <-c.turn:
		if lead {
			b.lead(c)
		}
	case <-ctx.Done():
		if b.leave(c) {
			b.free(c)
			return ctx.Err()
		}
		select {
		case lead := <-c.turn:
			if lead {
				b.lead(c)
			}
		default:
			return ctx.Err() // c stays with its batch
		}
	}
	b.free(c)
	return nil
}

func (b *Batcher[T]) free(c *call[T]) {
	c.what = *new(T)
	b.calls.Put(c)
}

// leave takes c out of the queue, if it is there still.
func (b *Batcher[T]) leave(c *call[T]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.queue, c)
	if i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
	return i >= 0
}

// lead sends a batch that begins with c and makes somebody else the leader.
func (b *Batcher[T]) lead(c *call[T]) {
	batch := b.gather(c)
	whats := make([]T, len(batch))
	for i, o := range batch {
		whats[i] = o.what
	}
	b.Send(whats)
	b.mu.Lock()
	if len(b.queue) == 0 {
		b.busy = false
	} else {
		next := b.queue[0]
		b.queue = slices.Delete(b.queue, 0, 1)
		next.turn <- true // has capacity: nothing else is sent to who is in the queue
	}
	b.mu.Unlock()
	for _, o := range batch[1:] {
		o.turn <- false
	}
}

// yields is how often a leader lets others go first at most.
const yields = 4

// gather takes the next batch out of the queue.
func (b *Batcher[T]) gather(c *call[T]) []*call[T] {
	b.mu.Lock()
	if b.crowd {
		// Among many, others are about to ask as well: they are ready to run, and go first. That is no waiting: who is alone
		// comes back at once.
		for n, again := -1, 0; len(b.queue) > n && again < yields; again++ {
			n = len(b.queue)
			b.mu.Unlock()
			runtime.Gosched()
			b.mu.Lock()
		}
	}
	defer b.mu.Unlock()
	n, size := 0, b.Size(c.what)
	for n < len(b.queue) && n+1 < b.Most {
		if size += b.Size(b.queue[n].what); size > b.Bytes {
			break
		}
		n++
	}
	batch := make([]*call[T], n+1)
	batch[0] = c
	copy(batch[1:], b.queue)
	b.queue = slices.Delete(b.queue, 0, n)
	b.crowd = n > 0
	return batch
}
