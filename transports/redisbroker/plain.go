package redisbroker

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// This file is what is done where an ACL forbids scripts: the same in transactions, except that taking
// cannot pop and stash in one step, as it cannot in Python.

// plainTake pops one message. If the stash refuses it, it goes back where it was.
func (c *conn) plainTake(ctx context.Context, keys []string, field string, queueOf func(list int) string) ([]any, error) {
	for i, list := range keys[2:] {
		raw, err := c.main.RPop(ctx, list).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return nil, err
		}
		_, err = c.main.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.HSet(ctx, keys[0], field, stashValue([]byte(raw), queueOf(i)))
			p.ZAdd(ctx, keys[1], redis.Z{Score: float64(c.now().UnixMicro()) / 1e6, Member: field})
			return nil
		})
		if fateOf(err) == refused {
			if back := c.main.RPush(ctx, list, raw).Err(); back != nil {
				return nil, errors.Join(err, back)
			}
			return nil, err
		}
		return []any{int64(i), raw}, err
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

// plainDrop is no transaction: one left half way leaves an index entry that every sweep removes.
func (c *conn) plainDrop(ctx context.Context, keys []string, field string) (bool, error) {
	var n *redis.IntCmd
	_, err := c.main.Pipelined(ctx, func(p redis.Pipeliner) error {
		n = p.HDel(ctx, keys[0], field)
		p.ZRem(ctx, keys[1], field)
		return nil
	})
	if err != nil {
		return false, err
	}
	return n.Val() > 0, nil
}
