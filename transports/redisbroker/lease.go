package redisbroker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

type leaseState int

const (
	fetched   leaseState = iota // taken, not yet handed to Receive's caller
	delivered                   // the caller's
	settling                    // a settling is under way
	settled
	lost
)

// A lease is one stashed message that is ours, and the receipt of its delivery.
type lease struct {
	t        *Transport
	field    string
	queue    string
	raw      string // the list element, byte for byte
	value    string // what the stash holds for field; "": the element as it is, see stashed
	priority int
	bad      bool // Python workers fail on it: never goes back to its queue
	free     bool // a broadcast: nothing is stashed
	seq      uint64

	// guarded by t.mu
	gone      chan struct{} // closed when lost; nil: nobody has asked for it
	owner     *conn         // nil: its connection broke
	consumer  *consumer
	state     leaseState
	uncertain bool // a settling may have happened
}

var _ transports.Receipt = (*lease)(nil)

// finish ends l with t.mu held.
func (l *lease) finish(s leaseState) {
	if l.state == settled || l.state == lost {
		return
	}
	l.state = s
	delete(l.t.leases, l)
	if s == lost && l.gone != nil {
		close(l.gone)
	}
	if k := l.consumer; k != nil && !l.free {
		k.held--
		if k.held == k.window-1 { // now there is room
			signal(k.wake)
		}
	}
}

// stashed is what the stash holds.
func (l *lease) stashed() string {
	if l.value != "" {
		return l.value
	}
	return stashValue(l.raw, l.queue)
}

// leasesOf are the connection's unsettled leases that which accepts (nil: all), newest first.
func (c *conn) leasesOf(which func(*lease) bool) []*lease {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	var out []*lease
	for l := range c.t.leases {
		if l.owner == c && (l.state == fetched || l.state == delivered) && (which == nil || which(l)) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b *lease) int { return cmp.Compare(b.seq, a.seq) })
	return out
}

// renew sets the scores of what is held; what is not stashed any more is lost.
func (c *conn) renew(ctx context.Context, held []*lease) error {
	held = slices.DeleteFunc(held, func(l *lease) bool { return l.free })
	for chunk := range slices.Chunk(held, 100) {
		fields := make([]string, len(chunk))
		for i, l := range chunk {
			fields[i] = l.field
		}
		there, err := c.renewFields(ctx, fields)
		if err != nil {
			return c.outcome("renewing", err)
		}
		lostNow := 0
		c.t.mu.Lock()
		for i, l := range chunk {
			// One that is being settled right now is absent because of that; its settling tells.
			if !there[i] && (l.state == fetched || l.state == delivered) {
				if k := l.consumer; k != nil {
					k.buffer.remove(func(o *lease) bool { return o == l }) // lost before anybody received it
				}
				l.finish(lost)
				lostNow++
			}
		}
		c.t.mu.Unlock()
		if lostNow == 0 {
			continue
		}
		c.t.mu.Lock()
		restarted := c.restarted && lostNow == len(chunk)
		c.t.mu.Unlock()
		if restarted {
			c.t.alarm("redis broker has restarted and does not know what it had delivered to us", "count", lostNow)
		} else {
			c.t.warning("deliveries are no longer ours: restored by another worker, or the broker lost data", "count", lostNow, "of", len(chunk))
		}
	}
	return nil
}

// adopt takes over leases without a connection: what was delivered is renewed, what was only fetched
// goes back untouched, and takes whose answer was lost are looked up and given back likewise.
func (c *conn) adopt(ctx context.Context) error {
	c.t.mu.Lock()
	var orphans []*lease
	for l := range c.t.leases {
		if l.owner == nil {
			l.owner, l.consumer = c, nil
			orphans = append(orphans, l)
		}
	}
	c.t.mu.Unlock()
	mine := func(s leaseState) []*lease {
		return c.leasesOf(func(l *lease) bool { return l.state == s && slices.Contains(orphans, l) })
	}
	err := c.renew(ctx, mine(delivered))
	if err == nil {
		err = c.giveBack(mine(fetched))
	}
	if err == nil {
		err = c.lookForClaims(ctx)
	}
	return err
}

// lookForClaims gives back what our unanswered takes have popped, those of other connections of ours included.
func (c *conn) lookForClaims(ctx context.Context) error {
	now := time.Now()
	c.t.mu.Lock()
	c.t.unknown = slices.DeleteFunc(c.t.unknown, func(cl claim) bool { return now.After(cl.till) })
	claims := slices.Clone(c.t.unknown)
	c.t.mu.Unlock()
	for _, cl := range claims {
		if err := c.resolve(ctx, cl); err != nil {
			return err
		}
	}
	return nil
}

// resolve returns what a take popped whose answer never arrived.
func (c *conn) resolve(ctx context.Context, cl claim) error {
	fields := make([]string, cl.want)
	for i := range fields {
		fields[i] = fieldOf(cl.base, i+1)
	}
	values, err := c.main.HMGet(ctx, c.t.set.key(c.t.set.unacked), fields...).Result()
	if err != nil {
		return c.outcome("looking for unread deliveries", err)
	}
	for i := len(values) - 1; i >= 0; i-- {
		value, ok := values[i].(string)
		if !ok {
			continue
		}
		raw, _, queue, err := readStash(value)
		if err != nil {
			// The splice of an element that is no JSON. A stash made by our script ends the same way always.
			c.t.warning("an unread delivery is not readable; it stays in the stash", "field", fields[i], "err", err)
			continue
		}
		l := &lease{t: c.t, field: fields[i], queue: queue, raw: string(raw), value: value, state: fetched, owner: c}
		l.priority = priorityOf(raw)
		if err := c.returnAll([]back{c.backOf(l, false)})[l]; err != nil {
			return err
		}
	}
	return nil
}

// backMost and backBytes bound what goes back in one round trip.
const (
	backMost  = 64
	backBytes = 1 << 20
)

// giveBack moves leases to the front of their lists, in the order given.
func (c *conn) giveBack(ls []*lease) error {
	type one struct {
		l   *lease
		was leaseState
	}
	var errs []error
	for len(ls) > 0 && !errors.Is(errors.Join(errs...), transports.ErrDisconnected) {
		var batch []one
		size := 0
		c.t.mu.Lock()
		for len(ls) > 0 && len(batch) < backMost && size < backBytes {
			l := ls[0]
			ls = ls[1:]
			if l.state == fetched || l.state == delivered {
				batch = append(batch, one{l, l.state})
				size += len(l.raw)
				l.state = settling
			}
		}
		c.t.mu.Unlock()
		var backs []back
		for _, o := range batch {
			if !o.l.free {
				backs = append(backs, c.backOf(o.l, o.was == delivered))
			}
		}
		failed := c.returnAll(backs)
		c.t.mu.Lock()
		for _, o := range batch {
			switch err := failed[o.l]; {
			case err == nil:
				o.l.finish(lost)
			default:
				errs = append(errs, err)
				o.l.state = o.was
				if o.l.owner == c {
					o.l.owner = nil // the next Conn tries, or the sweep does
				}
			}
		}
		c.t.mu.Unlock()
	}
	c.t.mu.Lock()
	for _, l := range ls { // not even tried
		if l.owner == c && (l.state == fetched || l.state == delivered) {
			l.owner = nil
		}
	}
	c.t.mu.Unlock()
	return errors.Join(errs...)
}

// A back is how a lease returns.
type back struct {
	l      *lease
	push   string
	text   []byte
	target string
}

func (c *conn) backOf(l *lease, mark bool) back {
	b := back{l: l, push: "RPUSH", text: []byte(l.raw), target: c.t.set.listFor(l.queue, l.priority)}
	if l.bad { // no Python worker could read it
		b.push, b.target = "LPUSH", c.t.set.key(transports.Quarantine(l.queue))
		c.t.warning("unreadable element moved aside", "queue", l.queue, "to", transports.Quarantine(l.queue))
	} else if mark {
		if marked, err := protocol.MarkRedelivered([]byte(l.raw)); err == nil {
			b.text = marked
		}
	}
	return b
}

// returnAll moves them, in one round trip where scripts are allowed, and says which were not moved, and why.
func (c *conn) returnAll(backs []back) map[*lease]error {
	failed := map[*lease]error{}
	alone := backs
	if !c.plain.Load() && len(backs) > 1 {
		ctx := context.Background() // the socket's own deadlines hold
		p := c.main.Pipeline()
		cmds := make([]*redis.Cmd, len(backs))
		for i, b := range backs {
			keys := []string{c.t.set.key(c.t.set.unacked), c.t.set.key(c.t.set.index), b.target}
			cmds[i] = moveScript.EvalSha(ctx, p, keys, b.l.field, b.l.stashed(), b.push, b.text, "")
		}
		_, exec := p.Exec(ctx)
		alone = nil
		for i, b := range backs {
			answer, err := cmds[i].Result()
			if err == nil && answer == nil { // no connection was granted: see sendWrites
				err = cmp.Or(exec, errNoAnswer)
			}
			switch {
			case redis.HasErrorPrefix(err, "NOSCRIPT"), redis.HasErrorPrefix(err, "NOPERM"):
				alone = append(alone, b) // all of them: their order is kept
			default:
				if err := c.outcome("giving back", err); err != nil {
					failed[b.l] = err
				}
			}
		}
	}
	for i, b := range alone {
		ctx, cancel := c.own()
		_, err := c.move(ctx, b.l.field, b.l.stashed(), b.push, b.text, "", b.target)
		cancel()
		if err := c.outcome("giving back", err); err != nil {
			failed[b.l] = err
			if errors.Is(err, transports.ErrDisconnected) { // nor will the others
				for _, b := range alone[i:] {
					failed[b.l] = err
				}
				break
			}
		}
	}
	return failed
}

// readStash splits a stash value without changing the envelope's text.
func readStash(value string) (envelope json.RawMessage, exchange, key string, err error) {
	var parts []json.RawMessage
	if err := json.Unmarshal([]byte(value), &parts); err != nil {
		return nil, "", "", fmt.Errorf("redisbroker: stash: %w", err)
	}
	if len(parts) != 3 {
		return nil, "", "", fmt.Errorf("redisbroker: stash: %d parts, want 3", len(parts))
	}
	for i, into := range []*string{&exchange, &key} {
		if string(parts[i+1]) == "null" {
			continue
		}
		if err := json.Unmarshal(parts[i+1], into); err != nil {
			return nil, "", "", fmt.Errorf("redisbroker: stash: part %d: %w", i+1, err)
		}
	}
	return parts[0], exchange, key, nil
}

// priorityOf is the priority of a raw envelope as Kombu reads it: what is not a number is 0.
func priorityOf(raw []byte) int {
	m, _, _ := protocol.DecodeEnvelope(raw, protocol.Limits{}) // one that is too large has it all the same
	if m.Properties.Priority == nil {
		return 0
	}
	return *m.Properties.Priority
}

// move is the compare-and-move: latest "" or the score above which the message is not overdue any more.
func (c *conn) move(ctx context.Context, field, expected, push string, text []byte, latest string, targets ...string) (bool, error) {
	keys := append([]string{c.t.set.key(c.t.set.unacked), c.t.set.key(c.t.set.index)}, targets...)
	if c.plain.Load() {
		return c.plainMove(ctx, field, expected, push, text, keys)
	}
	n, err := c.script(ctx, moveScript, keys, field, expected, push, text, latest).Int()
	return n == 1, err
}

func (c *conn) renewFields(ctx context.Context, fields []string) ([]bool, error) {
	keys := []string{c.t.set.key(c.t.set.unacked), c.t.set.key(c.t.set.index)}
	at := score(c.now())
	if c.plain.Load() {
		return c.plainRenew(ctx, keys, at, fields)
	}
	args := make([]any, 0, len(fields)+1)
	args = append(args, at)
	for _, f := range fields {
		args = append(args, f)
	}
	there, err := c.script(ctx, renewScript, keys, args...).Int64Slice()
	if err != nil {
		return nil, err
	}
	if len(there) != len(fields) {
		return nil, fmt.Errorf("redisbroker: renewing %d fields was answered by %d numbers", len(fields), len(there))
	}
	out := make([]bool, len(fields))
	for i, n := range there {
		out[i] = n == 1
	}
	return out, nil
}
