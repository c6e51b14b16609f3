package redisresult

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

const (
	listenFor    = 10 * time.Second // without a message the server is asked whether it lives
	leaveTimeout = time.Second      // of an UNSUBSCRIBE, which only spares us messages
	reviveMax    = 2 * time.Second  // longest pause between two tries to listen again
)

// Wait blocks until the task has ended. Whoever waits listens first and reads then, and reads again after
// every interruption, so that no end is missed; all who wait share one connection.
func (b *Backend) Wait(ctx context.Context, taskID string) (protocol.Result, error) {
	w, err := b.waits.join(ctx, b.prefix+taskID)
	if err != nil {
		return protocol.Result{}, b.failed(ctx, err)
	}
	defer b.waits.leave(ctx, w)
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return protocol.Result{}, fmt.Errorf("redisresult: waiting for task %q: %w", taskID, ctx.Err())
		case <-b.waits.life.Done():
			return protocol.Result{}, b.failed(ctx, redis.ErrClosed)
		}
		if r, heard := b.waits.heard(w); heard {
			return r, nil
		}
		r, err := b.Load(ctx, taskID)
		switch {
		case errors.Is(err, resultbackend.ErrNotFound):
		case err != nil || r.Status.Ready():
			return r, err
		}
	}
}

// Forget deletes the record of a task.
func (b *Backend) Forget(ctx context.Context, taskID string) error {
	if err := b.client.Del(ctx, b.prefix+taskID).Err(); err != nil {
		return b.failed(ctx, err)
	}
	return nil
}

// A listener holds the connection on which records are announced to everybody in Wait. Its reader runs
// while somebody waits, and a little longer.
type listener struct {
	client *redis.Client
	decode func([]byte) (protocol.Result, error)

	turn   chan struct{}      // capacity 1: held by who changes what is subscribed, network and all
	life   context.Context    // ends at close
	end    context.CancelFunc // ends life
	reader sync.WaitGroup

	mu      sync.Mutex
	ps      *redis.PubSub        // nil: no reader. Guarded by mu, changed by who has the turn
	waiting map[string][]*waiter // by channel
}

// A waiter is one Wait.
type waiter struct {
	channel string
	wake    chan struct{} // capacity 1: the record came, or must be read
	ended   *protocol.Result
}

func newListener(client *redis.Client, decode func([]byte) (protocol.Result, error)) *listener {
	l := &listener{client: client, decode: decode, turn: make(chan struct{}, 1), waiting: map[string][]*waiter{}}
	l.life, l.end = context.WithCancel(context.Background())
	return l
}

func (l *listener) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.life.Done():
		return redis.ErrClosed
	}
	if l.life.Err() != nil {
		<-l.turn
		return redis.ErrClosed
	}
	return nil
}

// join subscribes. The waiter is woken once the subscription stands.
func (l *listener) join(ctx context.Context, channel string) (*waiter, error) {
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	defer func() { <-l.turn }()
	w := &waiter{channel: channel, wake: make(chan struct{}, 1)}
	l.mu.Lock()
	first := len(l.waiting[channel]) == 0
	l.waiting[channel] = append(l.waiting[channel], w)
	ps := l.ps
	l.mu.Unlock()
	if !first {
		// The subscription stands, or else its confirmation, still to come, wakes us once more.
		w.poke()
		return w, nil
	}
	network, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.life, cancel)()
	if ps == nil {
		ps = l.client.Subscribe(l.life)
		if err := ps.Subscribe(network, channel); err != nil {
			l.remove(w)
			_ = ps.Close()
			return nil, err
		}
		l.set(ps)
		l.reader.Go(func() { l.read(ps) })
		return w, nil
	}
	if err := ps.Subscribe(network, channel); err != nil {
		_ = ps.Close() // so that the reader surely notices, and subscribes us with all the others
		if network.Err() != nil {
			l.remove(w)
			return nil, err
		}
	}
	return w, nil
}

// leave undoes join. It does not need the context to be alive.
func (l *listener) leave(ctx context.Context, w *waiter) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := l.take(ctx); err != nil {
		l.remove(w) // the channel stays subscribed, for nobody
		return
	}
	defer func() { <-l.turn }()
	last := l.remove(w)
	l.mu.Lock()
	ps := l.ps
	l.mu.Unlock()
	if last && ps != nil {
		_ = ps.Unsubscribe(ctx, w.channel) // a broken connection is the reader's to notice
	}
}

func (l *listener) remove(w *waiter) (last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := slices.DeleteFunc(l.waiting[w.channel], func(o *waiter) bool { return o == w })
	if len(rest) > 0 {
		l.waiting[w.channel] = rest
		return false
	}
	delete(l.waiting, w.channel)
	return true
}

func (l *listener) set(ps *redis.PubSub) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ps = ps
}

// heard is the end that was announced to w, if one was.
func (l *listener) heard(w *waiter) (protocol.Result, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.ended == nil {
		return protocol.Result{}, false
	}
	return *w.ended, true
}

// poke never blocks.
func (w *waiter) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// read hands out what comes until nobody waits any more. A PubSub would connect again by itself, and miss
// what happens in between; so every error makes a new one, after which everybody reads.
func (l *listener) read(ps *redis.PubSub) {
	unanswered, attempt := 0, 0
	for ps != nil && l.life.Err() == nil {
		msg, err := ps.ReceiveTimeout(l.life, listenFor)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() && unanswered == 0 {
			unanswered++
			if l.idle(ps) {
				return
			}
			if err = ps.Ping(l.life); err == nil {
				continue
			}
		}
		if err == nil {
			unanswered, attempt = 0, 0
			l.hear(msg)
			continue
		}
		unanswered = 0
		ps = l.revive(ps, &attempt)
	}
}

func (l *listener) hear(msg any) {
	switch msg := msg.(type) {
	case *redis.Subscription:
		if msg.Kind == "subscribe" {
			l.tell(msg.Channel, nil)
		}
	case *redis.Message:
		r, err := l.decode([]byte(msg.Payload))
		switch {
		case err != nil: // whoever waits reads the record, and says what is wrong with it
			l.tell(msg.Channel, nil)
		case r.Status.Ready():
			l.tell(msg.Channel, &r)
		}
	}
}

// tell wakes who waits for the channel, "" for all: to read the record, or with the first end announced.
func (l *listener) tell(channel string, r *protocol.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	told := l.waiting
	if channel != "" {
		told = map[string][]*waiter{channel: l.waiting[channel]}
	}
	for _, ws := range told {
		for _, w := range ws {
			if w.ended == nil {
				w.ended = r
			}
			w.poke()
		}
	}
}

// idle ends the listening when nobody waits.
func (l *listener) idle(ps *redis.PubSub) bool {
	if l.take(l.life) != nil {
		return true
	}
	defer func() { <-l.turn }()
	l.mu.Lock()
	nobody := len(l.waiting) == 0
	if nobody {
		l.ps = nil
	}
	l.mu.Unlock()
	if nobody {
		_ = ps.Close()
	}
	return nobody
}

// revive listens again with a new connection; nil when nobody waits any more. Whoever waits then reads,
// and so learns of a store that is away, or of an end that was announced meanwhile.
func (l *listener) revive(ps *redis.PubSub, attempt *int) *redis.PubSub {
	for {
		_ = ps.Close()
		if *attempt > 0 {
			pause := time.NewTimer(min(50*time.Millisecond<<min(*attempt, 10), reviveMax))
			select {
			case <-pause.C:
			case <-l.life.Done():
				pause.Stop()
				return nil
			}
		}
		*attempt++
		if l.idle(ps) || l.take(l.life) != nil {
			return nil
		}
		l.mu.Lock()
		channels := make([]string, 0, len(l.waiting))
		for c := range l.waiting {
			channels = append(channels, c)
		}
		l.mu.Unlock()
		ps = l.client.Subscribe(l.life)
		ctx, cancel := context.WithTimeout(l.life, listenFor)
		var err error
		if len(channels) > 0 {
			err = ps.Subscribe(ctx, channels...)
		}
		cancel()
		l.set(ps)
		<-l.turn
		l.tell("", nil)
		if err == nil {
			return ps
		}
	}
}

// close ends every Wait and the reader, and waits for the latter.
func (l *listener) close() {
	l.end()
	l.turn <- struct{}{} // whoever has it is bounded in time, or ends with life
	l.mu.Lock()
	ps := l.ps
	l.mu.Unlock()
	if ps != nil {
		_ = ps.Close()
	}
	<-l.turn
	l.reader.Wait()
}
