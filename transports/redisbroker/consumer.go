package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stalkworker/stalk/transports"
)

var errConsumerClosed = errors.New("redisbroker: consumer closed")

// broadcastBuffer bounds broadcasts that wait for Receive; further ones are dropped with a warning.
const broadcastBuffer = 1024

// A consumer takes while Receive waits for something, and once ahead when Receive leaves it with few: the next messages
// come while those before are worked on. So nothing is taken while nobody receives. What arrives after its Receive was
// cancelled stays in buffer for the next one.
type consumer struct {
	c        *conn
	wake     chan struct{} // capacity 1; written by signal, read by run
	ready    chan struct{} // capacity 1; written by signal, read by Receive
	stop     chan struct{} // closed by halt
	finished chan struct{} // closed when run has ended
	once     sync.Once

	// guarded by t.mu
	queues   []transports.Queue // as configured, with empty fields filled
	cycle    []string           // their names, in the order of the next take
	window   int
	held     int // taken and unsettled, buffer included
	buffer   buffer
	waiting  bool // a Receive wants one
	ahead    bool // a take is wanted though none waits
	dry      bool // the last take left nothing, or found nothing ahead; the next is that of a Receive that waits
	closed   bool
	inflight map[string]bool // lists a BLMOVE waits on
	woken    bool            // one of them saw a message
	pollTill time.Time       // BLMOVE was refused; poll until then
	casts    map[string]*subscription
}

type delivery struct {
	d *transports.Delivery
	l *lease
}

var _ transports.Consumer = (*consumer)(nil)

// signal leaves a note that is read later; one is enough.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Consume writes the queues' bindings and starts a consumer. Redis has no queues to create.
func (c *conn) Consume(ctx context.Context, queues []transports.Queue, window int) (transports.Consumer, error) {
	if window < 1 {
		return nil, fmt.Errorf("redisbroker: window is %d, want 1 or more", window)
	}
	k := &consumer{
		c: c, window: window,
		wake: make(chan struct{}, 1), ready: make(chan struct{}, 1),
		stop: make(chan struct{}), finished: make(chan struct{}),
		inflight: map[string]bool{}, casts: map[string]*subscription{},
	}
	if err := k.SetQueues(ctx, queues); err != nil {
		return nil, err
	}
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.why != nil {
		return nil, c.why
	}
	c.consumers[k] = struct{}{}
	c.wg.Go(k.run)
	if !c.sweeping {
		c.sweeping = true
		c.wg.Go(c.sweepLoop)
	}
	return k, nil
}

func (k *consumer) Receive(ctx context.Context) (*transports.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, err := k.next()
		if d != nil || err != nil {
			return d, err
		}
		select {
		case <-k.ready:
		case <-k.stop:
		case <-k.c.done:
		case <-ctx.Done():
			k.c.t.mu.Lock()
			k.waiting = false
			k.c.t.mu.Unlock()
		}
	}
}

// next is what lies ready; when there is nothing it asks run for more.
func (k *consumer) next() (*transports.Delivery, error) {
	k.c.t.mu.Lock()
	defer k.c.t.mu.Unlock()
	if k.c.why != nil {
		return nil, k.c.why
	}
	if k.closed {
		return nil, errConsumerClosed
	}
	if k.buffer.len() > 0 {
		first := k.buffer.pop()
		first.l.state = delivered
		k.waiting = false
		some := max(min(k.window, takeMost)/4, 1)
		if !k.ahead && !k.dry && k.buffer.len() <= some && k.window-k.held >= some {
			k.ahead, k.dry = true, true
			signal(k.wake)
		}
		return first.d, nil
	}
	k.waiting = true
	signal(k.wake)
	return nil, nil
}

func (k *consumer) SetWindow(_ context.Context, n int) error {
	if n < 1 {
		return fmt.Errorf("redisbroker: window is %d, want 1 or more", n)
	}
	if err := k.c.enter(); err != nil {
		return err
	}
	defer k.c.ops.Done()
	k.c.t.mu.Lock()
	if err := k.over(); err != nil {
		k.c.t.mu.Unlock()
		return err
	}
	k.window = n
	back := k.excess()
	signal(k.wake)
	k.c.t.mu.Unlock()
	return k.c.giveBack(back)
}

// excess takes out of the buffer what is held past the window, the newest first: what waits here for its turn others may
// have. Called with t.mu held.
func (k *consumer) excess() []*lease {
	n := k.held - k.window
	if n <= 0 {
		return nil
	}
	return k.buffer.remove(func(l *lease) bool {
		if l.free || n <= 0 {
			return false
		}
		n--
		return true
	})
}

// over is why the consumer takes no more. Called with t.mu held.
func (k *consumer) over() error {
	if k.c.why != nil {
		return k.c.why
	}
	if k.closed {
		return errConsumerClosed
	}
	return nil
}

func (k *consumer) SetQueues(ctx context.Context, queues []transports.Queue) error {
	var full []transports.Queue
	var names []string
	for _, q := range queues {
		if q.Name == "" {
			return errors.New("redisbroker: a queue has no name")
		}
		if slices.Contains(names, q.Name) {
			continue
		}
		full, names = append(full, bound(q)), append(names, q.Name)
	}
	if err := k.c.enter(); err != nil {
		return err
	}
	defer k.c.ops.Done()
	tctx, cancel := k.c.timeout(ctx)
	defer cancel()
	// Forbidden bindings do not stop a consumer: messages of the default exchange need none.
	if err := k.c.bind(tctx, full); err != nil {
		if !errors.Is(err, transports.ErrRefused) {
			return err
		}
		k.c.t.once("bind", "redis broker refuses the queues' bindings", "err", err)
	}
	if err := k.listen(ctx, full); err != nil {
		return err
	}
	t := k.c.t
	t.mu.Lock()
	if err := k.over(); err != nil {
		t.mu.Unlock()
		return err
	}
	for _, q := range full {
		if ms := expiresOf(q); ms > 0 {
			t.expires[q.Name] = ms
		}
	}
	k.queues, k.cycle = full, slices.Clone(names)
	if t.set.strategy == "sorted" {
		slices.Sort(k.cycle)
	}
	back := k.buffer.remove(func(l *lease) bool { return !slices.Contains(names, l.queue) })
	signal(k.wake)
	t.mu.Unlock()
	return k.c.giveBack(back)
}

func (k *consumer) bindings() []transports.Queue {
	k.c.t.mu.Lock()
	defer k.c.t.mu.Unlock()
	return slices.Clone(k.queues)
}

// halt stops taking and waits until nothing is being taken.
func (k *consumer) halt() {
	k.once.Do(func() {
		k.c.t.mu.Lock()
		k.closed = true
		k.c.t.mu.Unlock()
		close(k.stop)
	})
	<-k.finished
}

func (k *consumer) Close() error {
	err := k.c.enter()
	if err == nil {
		defer k.c.ops.Done()
	}
	k.halt()
	k.c.t.mu.Lock()
	delete(k.c.consumers, k)
	back := k.buffer.remove(func(*lease) bool { return true })
	casts := k.casts
	k.casts = nil
	k.c.t.mu.Unlock()
	for _, s := range casts {
		_ = s.Close()
	}
	if err != nil {
		return nil // the connection has ended and with it everything of ours
	}
	return k.c.giveBack(back)
}

// run takes when somebody waits and the window has room, and waits for messages otherwise.
func (k *consumer) run() {
	defer close(k.finished)
	defer signal(k.ready)
	idle := idleness{}
	var since, told time.Time // of refusals
	emptied := false          // the last take left nothing, and what has come since a BLMOVE finds
	for k.idleUntilWanted() {
		if emptied && k.isWaitedFor() {
			emptied = false
			k.wait(&idle)
			continue
		}
		n, all, err := k.take()
		switch {
		case errors.Is(err, transports.ErrDisconnected):
			return
		case err != nil:
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(told) > tellAgain {
				told = time.Now()
				k.c.t.alarm("redis broker refuses to deliver; trying again", "err", err)
			}
			k.pause(idle.refused())
			continue
		case n > 0:
			idle = idleness{}
			emptied = all && k.drained()
			signal(k.ready)
		case k.isWaitedFor():
			k.wait(&idle)
		}
		if !since.IsZero() {
			k.c.t.warning("redis broker delivers again", "after", time.Since(since).Round(time.Millisecond).String())
			since, told = time.Time{}, time.Time{}
		}
	}
}

func (k *consumer) isWaitedFor() bool {
	k.c.t.mu.Lock()
	defer k.c.t.mu.Unlock()
	return k.waiting
}

// tellAgain is how often a refusal that lasts is told of.
const tellAgain = time.Minute

// idleUntilWanted blocks until a take makes sense; false: there will be no more.
func (k *consumer) idleUntilWanted() bool {
	for {
		k.c.t.mu.Lock()
		over := k.over() != nil
		wanted := (k.ahead || k.waiting && k.buffer.len() == 0) && k.held < k.window && len(k.cycle) > 0
		k.c.t.mu.Unlock()
		switch {
		case over:
			return false
		case wanted:
			return true
		}
		select {
		case <-k.wake:
		case <-k.stop:
		case <-k.c.done:
		}
	}
}

// expiresOf is the x-expires argument of a queue in ms, 0 without.
func expiresOf(q transports.Queue) int64 {
	v, _ := q.Arguments.Get("x-expires")
	switch n := v.(type) {
	case int64:
		return max(n, 0)
	case int:
		return int64(max(n, 0))
	case float64:
		return int64(min(max(n, 0), 1e15))
	}
	return 0
}
