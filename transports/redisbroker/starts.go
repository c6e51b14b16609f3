package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/transports"
)

// startsFor is how long starts are remembered after the last one; a message comes back after the visibility timeout.
const startsFor = 3 * 24 * time.Hour

var _ transports.StartCounter = (*conn)(nil)

func (c *conn) startsKey(run string) string { return c.t.set.key("unacked_starts." + run) }

// Starts reads the run's own key.
func (c *conn) Starts(ctx context.Context, run string) (n int, err error) {
	text := "0"
	err = c.administer(ctx, "count starts", func(ctx context.Context) error {
		got, err := c.main.Get(ctx, c.startsKey(run)).Result()
		switch {
		case errors.Is(err, redis.Nil):
			return nil
		case err == nil:
			text = got
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if n, err = strconv.Atoi(text); err != nil { // no fault of the connection
		return 0, fmt.Errorf("redisbroker: count starts: %w: %q holds no number", transports.ErrRefused, c.startsKey(run))
	}
	return n, nil
}

// AddStart counts in the run's own key, which expires.
func (c *conn) AddStart(ctx context.Context, run string) error {
	return c.administer(ctx, "count a start", func(ctx context.Context) error {
		_, err := c.main.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, c.startsKey(run))
			p.Expire(ctx, c.startsKey(run), max(startsFor, 2*c.t.set.visibility))
			return nil
		})
		return err
	})
}

// ForgetStarts deletes the key.
func (c *conn) ForgetStarts(ctx context.Context, run string) error {
	return c.administer(ctx, "forget starts", func(ctx context.Context) error {
		return c.main.Del(ctx, c.startsKey(run)).Err()
	})
}
