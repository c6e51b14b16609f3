package redisbroker

import (
	"cmp"
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// This file is what is done where an ACL forbids scripts: the same in transactions, which fail when somebody else was
// faster, and are tried again.

// plainTake takes one message: it reads the end of a list, and pops and stashes it if it is still there. As with the
// script a lost answer loses nothing: either the message is in the stash, under a name that is looked for, or it was not popped.
func (c *conn) plainTake(ctx context.Context, keys []string, field string, queueOf func(list int) string) ([]any, error) {
	for i, list := range keys[2:] {
		var last []string
		var err error = redis.TxFailedErr
		for try := 0; try < 20 && errors.Is(err, redis.TxFailedErr); try++ {
			err = c.main.Watch(ctx, func(tx *redis.Tx) (err error) {
				last, err = tx.LRange(ctx, list, -1, -1).Result()
				if err != nil || len(last) == 0 {
					return err
				}
				_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
					p.RPop(ctx, list)
					p.HSet(ctx, keys[0], field, stashValue(last[0], queueOf(i)))
					p.ZAdd(ctx, keys[1], redis.Z{Score: float64(c.now().UnixMicro()) / 1e6, Member: field})
					return nil
				})
				return err
			}, list)
		}
		switch {
		case errors.Is(err, redis.TxFailedErr), err == nil && len(last) == 0: // the others are busy here
			continue
		case err != nil:
			return nil, err
		}
		return []any{int64(i), int64(1), last[0]}, nil
	}
	return nil, nil
}

func (c *conn) plainMove(ctx context.Context, field, expected, push string, text []byte, keys []string) (bool, error) {
	moved := false
	for range 20 { // others change the hash all the time; WATCH sees every one of their writes
		err := c.main.Watch(ctx, func(tx *redis.Tx) error {
			value, err := tx.HGet(ctx, keys[0], field).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			if value != expected {
				moved = false
				return nil
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.HDel(ctx, keys[0], field)
				p.ZRem(ctx, keys[1], field)
				for _, target := range keys[2:] {
					p.Do(ctx, push, target, text)
				}
				return nil
			})
			moved = err == nil
			return err
		}, keys[0])
		if !errors.Is(err, redis.TxFailedErr) {
			return moved, err
		}
	}
	return false, redis.TxFailedErr
}

func (c *conn) plainRenew(ctx context.Context, keys []string, at string, fields []string) ([]bool, error) {
	there := make([]*redis.BoolCmd, len(fields))
	_, err := c.main.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, f := range fields {
			there[i] = p.HExists(ctx, keys[0], f)
			p.Do(ctx, "ZADD", keys[1], "XX", at, f) // XX: one swept meanwhile does not come back
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]bool, len(fields))
	for i, cmd := range there {
		out[i] = cmd.Val()
	}
	return out, nil
}

// plainDrops is no transaction: one left half way leaves an index entry that every sweep removes.
func plainDrops(ctx context.Context, p redis.Pipeliner, keys []string, ws []*write, fields []any) (answered func()) {
	there := make([]*redis.IntCmd, len(ws))
	for i, w := range ws {
		there[i] = p.HDel(ctx, keys[0], w.lease.field)
	}
	index := p.ZRem(ctx, keys[1], fields...)
	return func() {
		for i, w := range ws {
			w.there, w.err = there[i].Val() > 0, cmp.Or(there[i].Err(), index.Err())
		}
	}
}
