package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/batch"
	"github.com/stalkworker/stalk/internal/redisopt"
	"github.com/stalkworker/stalk/transports"
)

const (
	block      = time.Second     // of one blocking command
	blockGrace = 5 * time.Second // how much longer than that its answer may take
	watchEvery = time.Second     // how soon a silent loss is noticed
	maxSkew    = 5 * time.Second
)

var errPulse = errors.New("the server closed our connection")

// A conn is what the contract calls one connection: a few sockets that live and break together.
type conn struct {
	t     *Transport
	main  *redis.Client // commands that answer at once
	block *redis.Client // BLMOVE and the watch, so that none of them holds a socket others need
	pulse *redis.Client // one socket that stays open; its end is the connection's
	dials atomic.Int32  // of pulse: a second one means that the first socket is gone

	instance string // the server's run_id, "" when it does not tell; written by open alone

	writes batch.Batcher[*write] // settlings and publishes, over main

	done chan struct{} // closed by end
	hang sync.Once

	wg    sync.WaitGroup // goroutines
	ops   sync.WaitGroup // operations under way; added to under t.mu while why is nil
	skew  atomic.Int64   // server's clock minus ours, when that is more than maxSkew; else 0
	plain atomic.Bool    // scripts are forbidden

	// guarded by t.mu
	why       error // not nil: ended
	restarted bool  // the server is not the run of it that the connection before this one was to
	consumers map[*consumer]struct{}
	subs      map[*subscription]struct{}
	declared  map[string]bool
	sweeping  bool
}

var _ transports.Conn = (*conn)(nil)

func newConn(t *Transport, server int, master string) *conn {
	c := &conn{
		t:         t,
		main:      t.opts.Client(server, redisopt.Tune{PoolSize: mainPool, Master: master}),
		block:     t.opts.Client(server, redisopt.Tune{PoolSize: blockPool, Buffer: smallBuffer, Master: master}),
		done:      make(chan struct{}),
		consumers: map[*consumer]struct{}{},
		subs:      map[*subscription]struct{}{},
		declared:  map[string]bool{},
	}
	c.writes.Send, c.writes.Size = c.sendWrites, writeSize
	c.writes.Most, c.writes.Bytes = writesMost, writesBytes
	// Only one is used. A pool of one would begin to dial by itself after a failure, and go on for a while.
	c.pulse = t.opts.Client(server, redisopt.Tune{PoolSize: 2, Buffer: smallBuffer, Master: master, Wrap: func(n net.Conn) net.Conn {
		c.dials.Add(1)
		return n
	}})
	return c
}

func (c *conn) Done() <-chan struct{} { return c.done }

func (c *conn) Err() error {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if errors.Is(c.why, errClosed) {
		return nil
	}
	return c.why
}

// gone is why the connection ended, nil while it lives.
func (c *conn) gone() error {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	return c.why
}

// begin starts an operation that Close has to wait for; ops.Done ends it. Called with t.mu held.
func (c *conn) begin() error {
	if c.why == nil {
		c.ops.Add(1)
	}
	return c.why
}

func (c *conn) enter() error {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	return c.begin()
}

// start runs a goroutine that Close waits for, unless the connection has ended.
func (c *conn) start(run func()) error {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.why != nil {
		return c.why
	}
	c.wg.Go(run)
	return nil
}

// end marks the connection as over, once, and says whether this call did.
func (c *conn) end(why error) bool {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.why != nil {
		return false
	}
	c.why = why
	close(c.done)
	delete(c.t.conns, c)
	return true
}

// fail breaks the connection. Nothing is given back: the leases wait for the next Conn.
func (c *conn) fail(why error) {
	if !c.end(why) {
		return
	}
	c.t.mu.Lock()
	for l := range c.t.leases {
		if l.owner == c {
			l.owner = nil
		}
	}
	for k := range c.consumers {
		k.buffer = buffer{}
	}
	c.t.mu.Unlock()
	c.hangUp()
}

// hangUp closes the sockets, which ends whatever waits on them.
func (c *conn) hangUp() {
	c.hang.Do(func() {
		c.endWaits()
		_ = c.main.Close()
		_ = c.pulse.Close()
	})
}

// endWaits closes the sockets that wait for something. A BLMOVE onto the same list loses nothing by it.
func (c *conn) endWaits() {
	c.t.mu.Lock()
	var subs []*subscription
	for s := range c.subs {
		subs = append(subs, s)
	}
	c.t.mu.Unlock()
	for _, s := range subs {
		_ = s.ps.Close()
	}
	_ = c.block.Close()
}

// Close gives back what is unsettled, the newest first, so that the oldest is consumed next. A
// connection that broke before gives back nothing. A server that does not answer holds it up for as long as one
// command may take, and not for each of them.
func (c *conn) Close() error {
	var err error
	if c.end(errClosed) {
		c.endWaits()
		for _, k := range c.consumersNow() {
			k.halt()
		}
		c.ops.Wait() // settlings under way finish on this connection
		err = c.giveBack(c.leasesOf(nil))
		c.hangUp()
	}
	c.ops.Wait()
	c.wg.Wait()
	return err
}

func (c *conn) consumersNow() []*consumer {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	out := make([]*consumer, 0, len(c.consumers))
	for k := range c.consumers {
		out = append(out, k)
	}
	return out
}

// timeout bounds a command by its caller's context and ours.
func (c *conn) timeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.t.opts.SocketTimeout)
}

// own is a context for work of the connection itself, which no caller's cancelling may cut in half.
func (c *conn) own() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.t.opts.SocketTimeout)
}

// watch notices that the server has gone or stopped answering while nobody else asks it anything, and
// compares the clocks.
func (c *conn) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	clock := time.Now()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		// What is written to a master that was replaced is lost, and it may live on for long: it is left as soon as the
		// sentinels say so. When none of them answers there is nothing to learn.
		ctx, cancel := context.WithTimeout(context.Background(), blockGrace)
		_, _ = c.t.opts.Master(ctx)
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), blockGrace)
		err := c.pulse.Ping(ctx).Err()
		if err == nil && time.Since(clock) >= clockEvery {
			clock, err = time.Now(), c.readClock(ctx)
		}
		cancel()
		if err == nil && c.dials.Load() > 1 {
			err = errPulse // a pool replaces a socket it finds closed without a word
		}
		if f := fateOf(err); f == gone || f == unknown {
			c.waitFailed("watch", err)
			return
		}
	}
}

// readClock asks for the server's time. A slow local clock would make others take our fresh deliveries
// for overdue.
func (c *conn) readClock(ctx context.Context) error {
	before := time.Now()
	there, err := c.main.Time(ctx).Result()
	if err != nil {
		if redis.HasErrorPrefix(err, "NOPERM") { // then our own clock has to do
			return nil
		}
		return err
	}
	here := before.Add(time.Since(before) / 2)
	skew := there.Sub(here)
	if skew.Abs() <= maxSkew {
		skew = 0
	} else if c.skew.Load() == 0 {
		c.t.warning("clock differs from the broker's; using the broker's", "skew", skew.String())
	}
	c.skew.Store(int64(skew))
	return nil
}

func (c *conn) now() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }

// score is a time as Python's time.time() has it.
func score(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMicro())/1e6, 'f', 6, 64)
}

// keep renews the leases and heals the bindings until the connection ends.
func (c *conn) keep() {
	every := min(c.t.set.visibility/4, time.Minute)
	renew, heal := time.NewTicker(every), time.NewTicker(c.t.set.heal)
	defer renew.Stop()
	defer heal.Stop()
	for {
		var err error
		select {
		case <-c.done:
			return
		case <-renew.C:
			ctx, cancel := c.own()
			err = c.adopt(ctx) // those whose own connection broke while this one lived, too
			if err == nil {
				err = c.renew(ctx, c.leasesOf(nil))
			}
			cancel()
		case <-heal.C:
			for _, k := range c.consumersNow() {
				ctx, cancel := c.own()
				err = errors.Join(err, c.bind(ctx, k.bindings()))
				cancel()
			}
		}
		if err != nil && c.gone() == nil {
			c.t.warning("redis broker: renewing refused, trying again", "err", err)
		}
	}
}

// bind writes the binding of each queue to both sets: the second is what a sweep of Kombu 5.7 respects.
//
// One that had been written before and was not there any more tells of a database that was flushed, or of a server that
// came back without its data, and then messages are gone, too.
func (c *conn) bind(ctx context.Context, queues []transports.Queue) error {
	if len(queues) == 0 {
		return nil
	}
	added := map[string]*redis.IntCmd{}
	_, err := c.main.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, q := range queues {
			if q.Unbound {
				continue
			}
			table, permanent := c.t.set.bindingKeys(q.Exchange)
			member := c.t.set.bindingMember(q)
			p.SAdd(ctx, table, member)
			added[permanent+"\x00"+member] = p.SAdd(ctx, permanent, member)
		}
		return nil
	})
	if err == nil {
		c.missed(added)
	}
	return c.outcomeIn(ctx, "binding", err)
}

// missed tells of bindings that were there before and had to be written again.
func (c *conn) missed(added map[string]*redis.IntCmd) {
	vanished := 0
	c.t.mu.Lock()
	for key, n := range added {
		if c.t.written[key] && n.Val() == 1 {
			vanished++
		} else if len(c.t.written) < 10_000 {
			c.t.written[key] = true
		}
	}
	restarted := c.restarted
	c.t.mu.Unlock()
	switch {
	case vanished == 0:
	case restarted:
		c.t.alarm("redis broker has restarted without its data: messages that waited in its queues are gone", "bindings", vanished)
	default:
		c.t.alarm("bindings of our queues had vanished from redis and are written again: was the database flushed, or a queue deleted?", "bindings", vanished)
	}
}

// outcomeIn is outcome for an operation in a caller's context: its running out says nothing about the
// connection.
func (c *conn) outcomeIn(ctx context.Context, what string, err error) error {
	if fateOf(err) == gone && ctx.Err() != nil {
		return fmt.Errorf("redisbroker: %s: %w: %w", what, transports.ErrDisconnected, ctx.Err())
	}
	return c.outcome(what, err)
}
