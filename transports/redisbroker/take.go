package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// takeMost and takeBytes bound what one call takes, so that neither the script nor the reply grows without limit. A call
// may go past the bytes by what it pops at a time.
const (
	takeMost  = 128
	takeBytes = 256 << 10
)

// maxClaims bounds the takes that are looked for; each of them has cost a connection.
const maxClaims = 200

// longField makes a field longer than a sorted set keeps in its compact form (zset-max-listpack-value: 64). In that
// form each ZADD and ZREM reads every score there, as text: with a hundred messages in work that was most of what
// a message cost the server.
var longField = strings.Repeat("-", 32)

func newBase() string { return ids.New() + longField + ":" }

// fieldOf is the n-th field of a take; in three digits, so that what is restored together comes back in its order.
func fieldOf(base string, n int) string {
	return base + string([]byte{byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}

// take pops as many messages as the window has room for into the buffer and says how many, and whether that was all
// there were.
func (k *consumer) take() (n int, all bool, err error) {
	t := k.c.t
	t.mu.Lock()
	want := min(k.window-k.held, takeMost)
	k.ahead = false
	names := slices.Clone(k.cycle)
	ttls := make([]int64, len(names))
	for i, name := range names {
		ttls[i] = t.expires[name]
	}
	t.mu.Unlock()
	if want < 1 || len(names) == 0 {
		return 0, false, nil
	}
	keys := make([]string, 0, 2+len(t.set.steps)*len(names))
	keys = append(keys, t.set.key(t.set.unacked), t.set.key(t.set.index))
	for _, step := range t.set.steps {
		for _, name := range names {
			keys = append(keys, t.set.list(name, step))
		}
	}
	base := newBase()
	ctx := context.Background() // the socket's own deadlines hold
	replies, err := k.pop(ctx, keys, names, ttls, base, want)
	if fateOf(err) == gone || fateOf(err) == unknown {
		t.mu.Lock()
		if len(t.unknown) < maxClaims { // before fail, so that no adoption misses it
			t.unknown = append(t.unknown, claim{base, want, time.Now().Add(claimLife)})
		}
		t.mu.Unlock()
	}
	if err := k.c.outcome("take", err); err != nil {
		return 0, false, err
	}
	taken := k.unpack(ctx, replies, names, base)
	bytes := 0
	for _, b := range taken {
		bytes += len(b.l.raw)
	}
	return len(taken), len(taken) < want && bytes < takeBytes && !k.c.plain.Load(), k.accept(taken)
}

// pop runs the script, or what stands in for it where scripts are forbidden.
func (k *consumer) pop(ctx context.Context, keys, names []string, ttls []int64, base string, want int) ([]any, error) {
	if k.c.plain.Load() {
		ctx, cancel := k.c.own() // of all its tries
		defer cancel()
		return k.c.plainTake(ctx, keys, fieldOf(base, 1), func(list int) string { return names[list%len(names)] })
	}
	fair := "0"
	if k.c.t.set.strategy == "round_robin" {
		fair = "1"
	}
	args := make([]any, 0, 6+2*len(names))
	args = append(args, score(k.c.now()), want, base, len(names), fair, takeBytes)
	for _, name := range names {
		args = append(args, jsonText(name))
	}
	for _, ms := range ttls {
		args = append(args, strconv.FormatInt(ms, 10))
	}
	return k.c.script(ctx, takeScript, keys, args...).Slice()
}

// unpack makes deliveries of the script's answer.
func (k *consumer) unpack(ctx context.Context, replies []any, names []string, base string) []delivery {
	out := make([]delivery, 0, len(replies))
	for i := 0; i+2 < len(replies); {
		at, _ := replies[i].(int64)
		if at < 0 {
			break
		}
		n, _ := replies[i+1].(int64)
		for i += 2; i < len(replies); i++ {
			raw, ok := replies[i].(string)
			if !ok {
				break
			}
			out = append(out, k.deliver(ctx, raw, names[int(at)%len(names)], fieldOf(base, int(n))))
			n++
		}
	}
	for i, reply := range replies[:max(len(replies)-1, 0)] {
		if at, ok := reply.(int64); ok && at == -2 {
			k.c.t.once(fmt.Sprint("list ", replies[i+1]), "a key of a queue's list holds something else; the queue's other lists are served", "key", replies[i+1])
		}
	}
	return out
}

// deliver makes a lease and a delivery of what was stashed under field.
func (k *consumer) deliver(ctx context.Context, raw string, queue, field string) delivery {
	both := &struct {
		l lease
		d transports.Delivery
	}{}
	l, d := &both.l, &both.d
	*l = lease{t: k.c.t, field: field, queue: queue, raw: raw, consumer: k, owner: k.c}
	d.Queue, d.Receipt = queue, l
	d.Message, d.Redelivered, d.Malformed = protocol.DecodeEnvelopeText(raw, k.c.t.set.limits)
	l.bad = d.Malformed != nil && d.Message.Headers == nil || lacksID(d.Message.Headers) // not what is only too large for us
	if l.bad {
		k.c.shield(ctx, l)
	}
	if d.Redelivered {
		// The flag a restore leaves in the headers is the broker's, not the sender's: a retry shall not carry
		// it on. The raw text keeps it.
		d.Message.Headers.Delete("redelivered")
	}
	if d.Malformed != nil {
		d.Message.Body = []byte(raw)
	} else if p := d.Message.Properties.Priority; p != nil {
		l.priority = *p
	}
	return delivery{d, l}
}

// lacksID finds the message a Python worker would stash, fail on, and take again, for ever: a task of
// protocol 2 without an id. It is readable, so it is delivered as it is; but it must not go back.
func lacksID(h *protocol.Object) bool {
	task, _ := h.Get("task")
	_, there := h.Get("id")
	return task != nil && !there
}

// accept puts what was taken into the buffer; what came too late goes back.
func (k *consumer) accept(taken []delivery) error {
	t := k.c.t
	var back []*lease
	t.mu.Lock()
	for _, b := range taken {
		t.seq++
		b.l.seq = t.seq
		t.leases[b.l] = struct{}{}
		k.held++
		if k.c.why != nil && !errors.Is(k.c.why, errClosed) {
			b.l.owner = nil // the next Conn returns it
			continue
		}
		if len(k.cycle) != 1 || k.cycle[0] != b.l.queue {
			i := slices.Index(k.cycle, b.l.queue)
			if i < 0 {
				back = append(back, b.l)
				continue
			}
			if t.set.strategy == "round_robin" {
				k.cycle = append(slices.Delete(k.cycle, i, i+1), b.l.queue)
			}
		}
		k.buffer.push(b)
	}
	if len(taken) > 0 {
		k.dry = false
	}
	slices.Reverse(back)
	back = append(k.excess(), back...) // the window may have been narrowed meanwhile
	t.mu.Unlock()
	return k.c.giveBack(back)
}

// shield replaces the stash of an unreadable element: left as it is, a Python sweep would fail on it, and
// a readable one without id would be given back to a Python worker. What a sweep restores instead is a
// wrapper in the quarantine list.
func (c *conn) shield(ctx context.Context, l *lease) {
	value := `[` + shieldEnvelope(l.raw) + `, "", ` + jsonText(transports.Quarantine(l.queue)) + `]`
	if c.plain.Load() {
		return
	}
	n, err := shieldScript.Run(ctx, c.main, []string{c.t.set.key(c.t.set.unacked)}, l.field, l.stashed(), value).Int()
	if err == nil && n == 1 {
		l.value = value
	}
}

// shieldEnvelope is an envelope whose body is the element, byte for byte.
func shieldEnvelope(raw string) string {
	m := protocol.Message{Body: []byte(raw), Properties: protocol.Properties{ContentType: "application/data", ContentEncoding: "binary"}}
	e, err := protocol.EncodeEnvelope(m, ids.New())
	if err != nil {
		return "{}"
	}
	return string(e)
}
