package redisresult

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// The bounds of one batch. Past the bytes a batch is sent as it is, so that one huge result does not hold
// up many small ones.
const (
	batchCalls = 128
	batchBytes = 1 << 20
	lanes      = 2 // batches on their way at once
)

var errNoAnswer = errors.New("no answer to the script")

// A batcher runs the store script for many tasks at once: what callers want while a batch is on its way
// travels together in the next one. It never waits for more to come, so a lone caller pays nothing.
//
// It has no goroutine of its own. A caller who finds a lane free leads: it sends what is queued, and hands
// the lane, with the next batch, to the first caller in it.
type batcher struct {
	client *redis.Client

	mu    sync.Mutex
	queue []*call // guarded by mu; not yet in any batch
	busy  int     // guarded by mu; lanes in use
}

// A call is one run of the script.
type call struct {
	key  string
	args []any
	size int

	lead chan []*call  // capacity 1: this caller shall send that batch, of which it is the first
	done chan struct{} // closed when answer and err are there

	answer any
	err    error
}

// run returns the script's answer. When ctx ends while the batch is on its way the answer is given up; the
// leader itself stays for it, for as long as the connection's own deadlines allow.
func (b *batcher) run(ctx context.Context, key string, size int, args []any) (any, error) {
	c := &call{key: key, args: args, size: size, lead: make(chan []*call, 1), done: make(chan struct{})}
	b.mu.Lock()
	b.queue = append(b.queue, c)
	if b.busy < lanes {
		b.busy++
		b.handOver()
	}
	b.mu.Unlock()
	select {
	case batch := <-c.lead:
		b.send(ctx, batch)
	case <-c.done:
	case <-ctx.Done():
		batch := b.leave(c)
		if batch == nil {
			return nil, ctx.Err()
		}
		b.send(ctx, batch) // the others rely on it
	}
	return c.answer, c.err
}

// handOver makes the next batch and gives it to its first caller, or frees the lane. Called with mu held.
func (b *batcher) handOver() {
	n, size := 0, 0
	for n < len(b.queue) && n < batchCalls && (n == 0 || size+b.queue[n].size <= batchBytes) {
		size += b.queue[n].size
		n++
	}
	if n == 0 {
		b.busy--
		return
	}
	batch := slices.Clone(b.queue[:n])
	b.queue = slices.Delete(b.queue, 0, n)
	batch[0].lead <- batch // has capacity and is sent to once
}

// leave takes c out of the queue. If it has become a leader meanwhile, its batch is returned.
func (b *batcher) leave(c *call) []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = slices.DeleteFunc(b.queue, func(o *call) bool { return o == c })
	select {
	case batch := <-c.lead:
		return batch
	default:
		return nil
	}
}

// send runs a batch as one pipeline, then hands the lane over.
func (b *batcher) send(ctx context.Context, batch []*call) {
	ctx = context.WithoutCancel(ctx) // it carries other callers' results
	b.pipeline(ctx, batch, store.EvalSha)
	if unknown := slices.DeleteFunc(slices.Clone(batch), func(c *call) bool { return !redis.HasErrorPrefix(c.err, "NOSCRIPT") }); len(unknown) > 0 {
		b.pipeline(ctx, unknown, store.Eval) // a new server, or one that was told to forget
	}
	b.mu.Lock()
	b.handOver()
	b.mu.Unlock()
	for _, c := range batch {
		close(c.done)
	}
}

func (b *batcher) pipeline(ctx context.Context, batch []*call, run func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd) {
	p := b.client.Pipeline()
	cmds := make([]*redis.Cmd, len(batch))
	for i, c := range batch {
		cmds[i] = run(ctx, p, []string{c.key}, c.args...)
	}
	_, err := p.Exec(ctx)
	for i, c := range batch {
		c.answer, c.err = cmds[i].Result()
		// Each command tells its own error, but for that of a connection that was not even granted: refused by the server
		// (another password, too many clients), it is told by Exec alone, and the command looks as if nil were its answer.
		// The script never answers nil.
		if c.err == nil && c.answer == nil {
			c.err = cmp.Or(err, errNoAnswer)
		}
	}
}
