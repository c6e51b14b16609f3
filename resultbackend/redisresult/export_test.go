package redisresult

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// ForbidScripts is what a server's refusal does.
func (b *Backend) ForbidScripts() { b.unscripted.Store(true) }

// Scripted reports whether scripts are still used.
func (b *Backend) Scripted() bool { return !b.unscripted.Load() }

// SetMaxValue lowers the size limit, for tests of small memory.
func (b *Backend) SetMaxValue(n int) { b.maxValue = n }

// Commands counts what is sent to the server from now on.
func (b *Backend) Commands() *atomic.Int64 {
	n := new(atomic.Int64)
	b.client.AddHook(counter{n})
	return n
}

type counter struct{ n *atomic.Int64 }

func (c counter) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// AfterFirst runs f once, when the first command named name (or the first pipeline, for "") was answered.
func (b *Backend) AfterFirst(name string, f func()) {
	b.client.AddHook(&interloper{name: name, f: f})
}

type interloper struct {
	name string
	once sync.Once
	f    func()
}

func (i *interloper) DialHook(next redis.DialHook) redis.DialHook { return next }

func (i *interloper) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == i.name {
			i.once.Do(i.f)
		}
		return err
	}
}

func (i *interloper) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if i.name == "" {
			i.once.Do(i.f)
		}
		return err
	}
}

// StoreTogether stores documents in one batch, each to live for so many seconds.
func (b *Backend) StoreTogether(ids []string, seconds []int64) []error {
	calls, errs := make([]*call, len(ids)), make([]error, len(ids))
	for i, id := range ids {
		calls[i] = &call{key: b.prefix + id, doc: []byte(`{"status": "SUCCESS", "result": 1, "task_id": "` + id + `"}`), ttl: seconds[i]}
	}
	b.sendBatch(calls)
	for i, c := range calls {
		errs[i] = c.err
	}
	return errs
}
