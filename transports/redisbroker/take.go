package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// takeMost bounds what one call takes, so that neither the script nor the reply grows without limit.
const takeMost = 64

// maxClaims bounds the takes that are looked for; each of them has cost a connection.
const maxClaims = 200

// take pops as many messages as the window has room for into the buffer and says how many.
func (k *consumer) take() (int, error) {
	t := k.c.t
	t.mu.Lock()
	want := min(k.window-k.held, takeMost)
	names := slices.Clone(k.cycle)
	ttls := make([]int64, len(names))
	for i, name := range names {
		ttls[i] = t.expires[name]
	}
	t.mu.Unlock()
	if want < 1 || len(names) == 0 {
		return 0, nil
	}
	keys := []string{t.set.key(t.set.unacked), t.set.key(t.set.index)}
	for _, step := range t.set.steps {
		for _, name := range names {
			keys = append(keys, t.set.list(name, step))
		}
	}
	base := ids.New() + ":"
	ctx, cancel := k.c.own()
	defer cancel()
	replies, err := k.pop(ctx, keys, names, ttls, base, want)
	if fateOf(err) == gone || fateOf(err) == unknown {
		t.mu.Lock()
		if len(t.unknown) < maxClaims { // before fail, so that no adoption misses it
			t.unknown = append(t.unknown, claim{base, want, time.Now().Add(claimLife)})
		}
		t.mu.Unlock()
	}
	if err := k.c.outcome("take", err); err != nil {
		return 0, err
	}
	taken := k.unpack(ctx, replies, names, base)
	return len(taken), k.accept(taken)
}

// pop runs the script, or what stands in for it where scripts are forbidden.
func (k *consumer) pop(ctx context.Context, keys, names []string, ttls []int64, base string, want int) ([]any, error) {
	if k.c.plain.Load() {
		return k.c.plainTake(ctx, keys, base+"1", func(list int) string { return names[list%len(names)] })
	}
	fair := "0"
	if k.c.t.set.strategy == "round_robin" {
		fair = "1"
	}
	args := []any{score(k.c.now()), want, base, len(names), fair}
	for _, name := range names {
		args = append(args, jsonText(name))
	}
	for _, ms := range ttls {
		args = append(args, strconv.FormatInt(ms, 10))
	}
	return k.c.script(ctx, takeScript, keys, args...).Slice()
}

// unpack makes leases of the script's answer: pairs of list index and text.
func (k *consumer) unpack(ctx context.Context, replies []any, names []string, base string) []delivery {
	var out []delivery
	for i := 0; i+1 < len(replies); i += 2 {
		at, _ := replies[i].(int64)
		raw, ok := replies[i+1].(string)
		if at == -2 {
			k.c.t.once("list "+raw, "a key of a queue's list holds something else; the queue's other lists are served", "key", raw)
		}
		if !ok || at < 0 {
			continue // -1 would be a repeated call, and we make none
		}
		l := &lease{
			t: k.c.t, field: fmt.Sprintf("%s%d", base, i/2+1), queue: names[int(at)%len(names)],
			raw: []byte(raw), gone: make(chan struct{}), consumer: k, owner: k.c,
		}
		l.value = stashValue(l.raw, l.queue)
		d := &transports.Delivery{Queue: l.queue, Receipt: l}
		d.Message, d.Redelivered, d.Malformed = protocol.DecodeEnvelope(l.raw, k.c.t.set.limits)
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
			d.Message.Body = l.raw
		} else if p := d.Message.Properties.Priority; p != nil {
			l.priority = *p
		}
		out = append(out, delivery{d, l})
	}
	return out
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
		if !slices.Contains(k.cycle, b.l.queue) {
			back = append(back, b.l)
			continue
		}
		k.buffer = append(k.buffer, b)
		if t.set.strategy == "round_robin" {
			i := slices.Index(k.cycle, b.l.queue)
			k.cycle = append(slices.Delete(k.cycle, i, i+1), b.l.queue)
		}
	}
	t.mu.Unlock()
	slices.Reverse(back)
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
	n, err := shieldScript.Run(ctx, c.main, []string{c.t.set.key(c.t.set.unacked)}, l.field, l.value, value).Int()
	if err == nil && n == 1 {
		l.value = value
	}
}

// shieldEnvelope is an envelope whose body is the element, byte for byte.
func shieldEnvelope(raw []byte) string {
	m := protocol.Message{Body: raw, Properties: protocol.Properties{ContentType: "application/data", ContentEncoding: "binary"}}
	e, err := protocol.EncodeEnvelope(m, ids.New())
	if err != nil {
		return "{}"
	}
	return string(e)
}
