package redisbroker

import (
	"context"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"
)

// This file is where settlings and publishes of many tasks share a round trip: all that comes while one is under way is
// one pipeline, in which one script drops what is acked.

// The bounds of one batch.
const (
	writesMost  = 512
	writesBytes = 1 << 20
)

var errNoAnswer = errors.New("no answer")

// A write is an ack, or one element for one list. What is behind the blank line is the answer, and nobody's before the
// batcher says that it is there.
type write struct {
	lease *lease // not nil: drop it
	key   string
	raw   []byte

	there bool // the lease was
	err   error
}

func writeSize(w *write) int { return len(w.raw) }

// drop removes the stash of l: ack, and reject for good. false: it was not there. The error of a ctx that has ended says
// nothing about whether it was done.
func (c *conn) drop(ctx context.Context, l *lease) (bool, error) {
	w := &write{lease: l}
	if err := c.writes.Do(ctx, w); err != nil {
		return false, err
	}
	return w.there, w.err
}

// lpush puts an element behind what waits in a list.
func (c *conn) lpush(ctx context.Context, key string, raw []byte) error {
	w := &write{key: key, raw: raw}
	if err := c.writes.Do(ctx, w); err != nil {
		return err
	}
	return w.err
}

// sendWrites makes one round trip. No caller's context ends it; what the socket may take does.
func (c *conn) sendWrites(ws []*write) {
	ctx := context.Background()
	p := c.main.Pipeline()
	var drops []*write
	for _, w := range ws {
		if w.lease != nil {
			drops = append(drops, w)
		}
	}
	answered := func() {}
	if len(drops) > 0 {
		answered = c.queueDrops(ctx, p, drops)
	}
	pushes := make([]*redis.IntCmd, 0, len(ws)-len(drops))
	for _, w := range ws {
		if w.lease == nil {
			pushes = append(pushes, p.LPush(ctx, w.key, w.raw))
		}
	}
	cmds, err := p.Exec(ctx)
	if err != nil && !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != nil }) {
		// Each command tells its own error, but for that of a connection that was not even granted: refused by the server
		// (another password, too many clients), it is told by Exec alone, and no command was sent.
		for _, w := range ws {
			w.err = err
		}
		return
	}
	answered()
	c.finishDrops(drops)
	for _, w := range ws {
		if w.lease == nil {
			w.err = pushes[0].Err()
			pushes = pushes[1:]
		}
	}
}

// queueDrops adds to p what drops all of ws; answered tells each of them, after p was executed.
func (c *conn) queueDrops(ctx context.Context, p redis.Pipeliner, ws []*write) (answered func()) {
	keys := []string{c.t.set.key(c.t.set.unacked), c.t.set.key(c.t.set.index)}
	fields := make([]any, len(ws))
	for i, w := range ws {
		fields[i] = w.lease.field
	}
	if c.plain.Load() {
		return plainDrops(ctx, p, keys, ws, fields)
	}
	cmd := dropScript.EvalSha(ctx, p, keys, fields...)
	return func() {
		got, err := cmd.Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") { // a new server, or one that was told to forget
			got, err = dropScript.Eval(ctx, c.main, keys, fields...).Result()
		}
		if redis.HasErrorPrefix(err, "NOPERM") {
			_ = c.mayRunScripts(ctx)
		}
		missing, ok := got.(string)
		if err == nil && (!ok || len(missing) != len(ws)) {
			err = errNoAnswer
		}
		for i, w := range ws {
			if w.err = err; err == nil {
				w.there = missing[i] == '1'
			}
		}
	}
}

// finishDrops ends the leases of a batch all at once, so that the next take sees all the room there is. It also ends those
// whose caller has given up meanwhile.
func (c *conn) finishDrops(ws []*write) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	for _, w := range ws {
		switch {
		case w.err != nil:
		case w.there || w.lease.uncertain:
			w.lease.finish(settled)
		default:
			w.lease.finish(lost)
		}
	}
}
