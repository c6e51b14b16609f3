package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stalkworker/stalk/internal/redisopt"
	"github.com/stalkworker/stalk/transports"
)

// mainPool bounds the connections of one Conn for commands that do not block, blockPool those that wait.
const (
	mainPool  = 32
	blockPool = 128

	// smallBuffer is what connections have that wait for one message or ask for a sign of life. What is longer
	// passes the buffer by.
	smallBuffer = 4 << 10
)

// A Transport knows one Redis broker and keeps the leases of what was delivered by any of its Conns.
type Transport struct {
	set     settings
	opts    *redisopt.Options
	warning func(msg string, args ...any)
	alarm   func(msg string, args ...any)

	// mu guards what follows and every field of conns, consumers and leases that says so. Nothing blocks
	// under it.
	mu      sync.Mutex
	next    int // the failover entry to dial
	conns   map[*conn]struct{}
	joined  chan struct{}       // closed and replaced by each Connect
	leases  map[*lease]struct{} // ours and unsettled
	unknown []claim             // takes whose answer was never read
	run     string              // the server's run_id; "" not known
	written map[string]bool     // bindings that were written: set and member
	expires map[string]int64    // queues with x-expires, ms
	fanouts map[string]bool     // exchanges known to be fanout
	warned  map[string]bool
	seq     uint64 // of deliveries
	last    string // instance of the latest Connect
	nobodys int    // connections to servers that do not tell who they are
}

// A claim is a take that may have happened: the fields base1 to baseN. It may also happen yet: what was sent over a
// connection that we gave up is still delivered when a frozen server or a broken path comes back. So it is looked for
// again until then.
type claim struct {
	base string
	want int
	till time.Time
}

// claimLife is how long a claim is looked for. Linux gives a connection up after a quarter of an hour without an answer.
const claimLife = 16 * time.Minute

var (
	_ transports.Transport = (*Transport)(nil)
	_ transports.Instancer = (*Transport)(nil)
)

// New checks the configuration; it does not connect.
func New(cfg Config) (*Transport, error) {
	opts, err := redisopt.Broker(cfg.URL, cfg.Options, cfg.SSL)
	if err != nil {
		return nil, fmt.Errorf("redisbroker: %w", err)
	}
	set, err := readSettings(cfg.Options, opts)
	set.limits = cfg.Limits
	if err != nil {
		return nil, fmt.Errorf("redisbroker: %w", err)
	}
	t := &Transport{
		set:     set,
		opts:    opts,
		warning: cfg.Warn,
		alarm:   cfg.Alarm,
		conns:   map[*conn]struct{}{},
		joined:  make(chan struct{}),
		leases:  map[*lease]struct{}{},
		expires: map[string]int64{},
		fanouts: map[string]bool{},
		warned:  map[string]bool{},
		written: map[string]bool{},
	}
	if t.warning == nil {
		t.warning = func(string, ...any) {}
	}
	if t.alarm == nil {
		t.alarm = t.warning
	}
	fanouts := cfg.Fanouts
	if fanouts == nil {
		fanouts = []string{"celeryev"}
	}
	for _, x := range fanouts {
		t.fanouts[x] = true
	}
	for _, w := range opts.Warnings {
		t.warning(w, "url", opts.String())
	}
	return t, nil
}

// String is the broker's first address with the password masked, as Kombu prints it: the mask stands there even
// where there is no password.
func (t *Transport) String() string {
	scheme, rest, _ := strings.Cut(t.opts.String(), "://")
	user, host, named := strings.Cut(rest, "@")
	switch {
	case strings.HasPrefix(rest, "/"): // a socket
		return scheme + "://" + rest
	case !named:
		return scheme + "://:**@" + rest
	}
	return scheme + "://" + strings.TrimSuffix(user, ":**") + ":**@" + host
}

// Connect dials once. Leases that lost their Conn are renewed over this one before it returns.
func (t *Transport) Connect(ctx context.Context) (transports.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("redisbroker: connect: %w: %w", transports.ErrDisconnected, err)
	}
	t.mu.Lock()
	at := t.next
	t.mu.Unlock()
	// All sockets of a connection lead to one server: a message taken from the old master must not be acknowledged at
	// the new one.
	master, err := t.opts.Master(ctx)
	c := newConn(t, at, master)
	if err == nil {
		err = c.open(ctx)
	}
	if err != nil {
		c.hangUp()
		t.mu.Lock()
		if t.next == at {
			t.next++
		}
		t.mu.Unlock()
		where := t.opts.Address(at)
		if errors.Is(err, redisopt.ErrCluster) {
			return nil, fmt.Errorf("redisbroker: connect %s: %w: %w", where, transports.ErrUnfit, err)
		}
		if fateOf(err) == unknown {
			return nil, fmt.Errorf("redisbroker: connect %s: %w: %v", where, transports.ErrCredentials, err)
		}
		return nil, fmt.Errorf("redisbroker: connect %s: %w: %w", where, transports.ErrDisconnected, err)
	}
	t.mu.Lock()
	if t.last = c.instance; t.last == "" {
		t.nobodys++
		t.last = strconv.Itoa(t.nobodys)
	}
	t.conns[c] = struct{}{} // after the name: from here on something can be settled over it
	t.mu.Unlock()
	if err := c.adopt(ctx); errors.Is(err, transports.ErrRefused) {
		t.warning("redis broker refuses the renewal of what is held, trying again", "err", err) // keep does
	} else if err != nil {
		c.fail(err)
		_ = c.Close()
		return nil, fmt.Errorf("redisbroker: connect %s: %w", t.opts.Address(at), err)
	}
	t.mu.Lock()
	close(t.joined)
	t.joined = make(chan struct{})
	t.mu.Unlock()
	c.wg.Go(c.watch)
	c.wg.Go(c.keep)
	return c, nil
}

// live is a connection to settle l with: its own, or any. Without one, joined is closed when there may be.
func (t *Transport) live(l *lease) (c *conn, joined chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.owner != nil && l.owner.begin() == nil {
		return l.owner, nil
	}
	for c := range t.conns {
		if c.begin() == nil {
			return c, nil
		}
	}
	return nil, t.joined
}

// once warns of each key one time.
func (t *Transport) once(key, msg string, args ...any) {
	t.mu.Lock()
	seen := t.warned[key] || len(t.warned) >= 1000 // of so many, those suffice
	if !seen {
		t.warned[key] = true
	}
	t.mu.Unlock()
	if !seen {
		t.warning(msg, args...)
	}
}

// Instance names the server process that the latest Connect has reached.
func (t *Transport) Instance() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// joinContext is an error with the end of its context, so that callers may ask for either.
func joinContext(ctx context.Context, err error) error {
	if errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

const clockEvery = time.Minute
