package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
)

const sweepBatch = 100

// sweepLoop restores overdue deliveries of anybody who died, under the lock Python workers use. Only
// connections that consume run it.
func (c *conn) sweepLoop() {
	tick := time.NewTicker(c.t.set.restoreInterval)
	defer tick.Stop()
	for {
		if err := c.sweep(); err != nil && c.gone() == nil {
			c.t.once("sweep", "redis broker refuses the sweep for overdue deliveries", "err", err)
		}
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
	}
}

// sweep is one round. Not getting the lock is no error: somebody else sweeps.
func (c *conn) sweep() error {
	if err := c.enter(); err != nil { // Close waits: a lock left behind keeps everybody from sweeping
		return err
	}
	defer c.ops.Done()
	ctx, cancel := context.WithTimeout(context.Background(), c.t.set.mutexExpire*2/3)
	defer cancel()
	if err := c.lookForClaims(ctx); err != nil {
		return err
	}
	mutex, token := c.t.set.key(c.t.set.mutex), ids.New()
	err := c.main.SetArgs(ctx, mutex, token, redis.SetArgs{Mode: "NX", TTL: c.t.set.mutexExpire}).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return c.outcome("sweep", err)
	}
	restored, err := c.restoreOverdue(ctx)
	if restored > 0 {
		c.t.warning("restored deliveries of workers that are gone", "count", restored)
	}
	return errors.Join(err, c.unlock(mutex, token))
}

func (c *conn) unlock(mutex, token string) error {
	ctx, cancel := c.own()
	defer cancel()
	if c.plain.Load() {
		if got, err := c.main.Get(ctx, mutex).Result(); err != nil || got != token {
			return c.outcome("sweep", err)
		}
		return c.outcome("sweep", c.main.Del(ctx, mutex).Err())
	}
	return c.outcome("sweep", c.script(ctx, unlockScript, []string{mutex}, token).Err())
}

// restoreOverdue goes through the index from the newest overdue entry to the oldest, as Python does, so
// that the oldest ends in front. Entries that stay are stepped over.
func (c *conn) restoreOverdue(ctx context.Context) (restored int, err error) {
	latest := score(c.now().Add(-c.t.set.visibility))
	index := c.t.set.key(c.t.set.index)
	mine := map[string]bool{}
	for _, l := range c.leasesOf(nil) {
		mine[l.field] = true
	}
	for skip, seen := int64(0), 0; ; {
		fields, err := c.main.ZRangeArgs(ctx, redis.ZRangeArgs{
			Key: index, Start: latest, Stop: "0", ByScore: true, Rev: true, Offset: skip, Count: sweepBatch,
		}).Result()
		if err != nil {
			return restored, c.outcome("sweep", err)
		}
		for _, field := range fields {
			if limit := c.t.set.restoreLimit; limit > 0 && seen >= limit {
				return restored, nil
			}
			if ctx.Err() != nil || c.gone() != nil { // the lock is about to expire, or we are to close
				return restored, nil
			}
			seen++
			left, moved, err := c.restore(ctx, field, latest, mine[field])
			if err != nil {
				return restored, err
			}
			if left {
				skip++
			}
			if moved {
				restored++
			}
		}
		if len(fields) < sweepBatch {
			return restored, nil
		}
	}
}

// restore returns one overdue entry to its queues. left: it is still in the index.
func (c *conn) restore(ctx context.Context, field, latest string, ours bool) (left, moved bool, err error) {
	if ours { // our renewal is late, but we live
		return true, false, nil
	}
	value, err := c.main.HGet(ctx, c.t.set.key(c.t.set.unacked), field).Result()
	if errors.Is(err, redis.Nil) {
		return false, false, c.forget(ctx, field)
	}
	if err != nil {
		return true, false, c.outcome("sweep", err)
	}
	targets, text, err := c.destination(ctx, value)
	if err != nil {
		if c.gone() != nil {
			return true, false, err
		}
		c.t.once("stash "+field, "an overdue delivery cannot be restored; it stays in the stash", "field", field, "err", err)
		return true, false, nil
	}
	moved, err = c.move(ctx, field, value, "RPUSH", text, latest, targets...)
	return !moved, moved, c.outcome("sweep", err)
}

func (c *conn) forget(ctx context.Context, field string) error {
	keys := []string{c.t.set.key(c.t.set.unacked), c.t.set.key(c.t.set.index)}
	if c.plain.Load() {
		return c.outcome("sweep", c.main.ZRem(ctx, keys[1], field).Err())
	}
	return c.outcome("sweep", c.script(ctx, forgetScript, keys, field).Err())
}

// destination is where a stash value goes back to and what is pushed there.
func (c *conn) destination(ctx context.Context, value string) (lists []string, text []byte, err error) {
	raw, exchange, key, err := readStash(value)
	if err != nil {
		return nil, nil, err
	}
	if text, err = protocol.MarkRedelivered(raw); err != nil {
		return nil, nil, err
	}
	queues := []string{key}
	if exchange != "" {
		if queues, err = c.lookup(ctx, exchange, key); err != nil {
			return nil, nil, err
		}
	}
	if len(queues) == 0 || queues[0] == "" {
		return nil, nil, fmt.Errorf("redisbroker: nothing is bound to exchange %q for key %s", exchange, strconv.Quote(key))
	}
	priority := priorityOf(raw)
	for _, q := range queues {
		lists = append(lists, c.t.set.listFor(q, priority))
	}
	return lists, text, nil
}

// lookup is the queues bound to a named exchange for a key.
func (c *conn) lookup(ctx context.Context, exchange, key string) ([]string, error) {
	table, _ := c.t.set.bindingKeys(exchange)
	members, err := c.main.SMembers(ctx, table).Result()
	if err != nil {
		return nil, c.outcomeIn(ctx, "looking up exchange "+strconv.Quote(exchange), err)
	}
	return c.t.set.route(members, key), nil
}
