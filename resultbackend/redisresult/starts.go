package redisresult

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/resultbackend"
)

// startsFor is how long starts are remembered after the last one. It is longer than the pause between two deliveries
// of a message, which on Redis is the visibility timeout: an hour, and more for those who have long tasks.
const startsFor = 3 * 24 * time.Hour

var _ resultbackend.StartCounter = (*Backend)(nil)

// Starts reads the run's own key.
func (b *Backend) Starts(ctx context.Context, run string) (int, error) {
	text, err := b.client.Get(ctx, b.starts+run).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return 0, nil
	case err != nil:
		return 0, b.failed(ctx, err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("redisresult: %s: %w: %q holds no number", b.address, resultbackend.ErrDamaged, b.starts+run)
	}
	return n, nil
}

// AddStart counts in the run's own key, which expires.
func (b *Backend) AddStart(ctx context.Context, run string) error {
	_, err := b.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, b.starts+run)
		p.Expire(ctx, b.starts+run, startsFor)
		return nil
	})
	if err != nil {
		return b.failed(ctx, err)
	}
	return nil
}

// ForgetStarts deletes the key.
func (b *Backend) ForgetStarts(ctx context.Context, run string) error {
	if err := b.client.Del(ctx, b.starts+run).Err(); err != nil {
		return b.failed(ctx, err)
	}
	return nil
}
