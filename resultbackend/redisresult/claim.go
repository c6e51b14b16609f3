package redisresult

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// A claim is the right to end one chord.
type claim struct {
	b     *Backend
	group string // the record's key
	token string
}

func (c *claim) keys(suffixes ...string) []string {
	keys := make([]string, len(suffixes))
	for i, s := range suffixes {
		keys[i] = c.group + s
	}
	return keys
}

// Renew keeps the claim while the body is published, and shows it to Python for so long.
func (c *claim) Renew(ctx context.Context) error { return c.renew(ctx, "1") }

// keep keeps the claim while the header's results are waited for.
func (c *claim) keep(ctx context.Context) error { return c.renew(ctx, "0") }

func (c *claim) renew(ctx context.Context, show string) error {
	return c.run(ctx, renewClaim, c.keys(ownKey, claimKey, sizeKey), wholeSeconds(max(publishClaim, c.b.claimLife)), show)
}

// Finish forgets the chord.
func (c *claim) Finish(ctx context.Context) error {
	return c.run(ctx, finishChord, c.keys(claimKey, ownKey, partsKey, grownKey, sizeKey, knownKey), wholeSeconds(max(doneMark, 2*c.b.claimLife)))
}

// Fail ends the chord without a body.
func (c *claim) Fail(ctx context.Context) error {
	return c.run(ctx, failChord, c.keys(claimKey, ownKey, sizeKey))
}

func (c *claim) run(ctx context.Context, s *redis.Script, keys []string, args ...any) error {
	n, err := s.Run(ctx, c.b.client, keys, append([]any{c.token}, args...)...).Int64()
	switch {
	case err != nil:
		return c.b.failed(ctx, err)
	case n == 0:
		return fmt.Errorf("redisresult: %s: %w", c.group, resultbackend.ErrClaimLost)
	}
	return nil
}

// Results reads the parts, and, for a header with groups in it, the records of its tasks.
func (c *claim) Results(ctx context.Context) (resultbackend.Header, error) {
	b := c.b
	p := b.client.Pipeline()
	saved, kind := p.Get(ctx, c.group), p.Type(ctx, c.group+partsKey)
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return resultbackend.Header{}, b.failed(ctx, err)
	}
	var parts []string
	var err error
	switch kind.Val() {
	case "zset":
		parts, err = b.client.ZRange(ctx, c.group+partsKey, 0, -1).Result()
	case "list":
		parts, err = b.client.LRange(ctx, c.group+partsKey, 0, -1).Result()
	}
	if err != nil {
		return resultbackend.Header{}, b.failed(ctx, err)
	}
	if len(parts) == 0 { // somebody has completed it since
		return resultbackend.Header{}, fmt.Errorf("redisresult: %s: %w", c.group, resultbackend.ErrClaimLost)
	}
	if record, err := saved.Bytes(); err == nil {
		return c.join(ctx, record, parts)
	}
	return resultbackend.ReadParts(parts, c.read)
}

func (c *claim) read(part string) (protocol.Result, error) {
	return protocol.DecodePart(c.b.encoding.Serializer, []byte(part), c.b.limits)
}

// The pauses between two looks at records that are not there yet.
const (
	firstLook  = 10 * time.Millisecond
	lastLook   = 250 * time.Millisecond
	loadAtOnce = 1000 // records in one MGET
)

// join puts together what the record tells of.
func (c *claim) join(ctx context.Context, record []byte, parts []string) (resultbackend.Header, error) {
	tuple, err := protocol.DecodeGroup(c.b.encoding.Serializer, record, c.b.limits)
	if err != nil {
		return resultbackend.Header{}, resultbackend.Unreadable(err)
	}
	pause, renewed := firstLook, time.Now()
	values, err := resultbackend.Join{
		Load:     c.b.loadAll,
		Reported: resultbackend.PartsByTask(parts, c.read),
		Timeout:  c.b.joinTimeout,
		Nested:   max(nestedTimeout, c.b.joinTimeout),
		Changed: func(ctx context.Context) error {
			if time.Since(renewed) > c.b.claimLife/3 {
				if err := c.keep(ctx); err != nil {
					return err
				}
				renewed = time.Now()
			}
			timer := time.NewTimer(pause)
			defer timer.Stop()
			pause = min(2*pause, lastLook)
			select {
			case <-timer.C:
				return nil
			case <-ctx.Done():
				return c.b.failed(ctx, ctx.Err())
			}
		},
	}.Run(ctx, tuple)
	return resultbackend.Header{Values: values}, err
}

// loadAll reads the records of many tasks; a zero Result where there is none.
func (b *Backend) loadAll(ctx context.Context, ids []string) ([]protocol.Result, error) {
	results := make([]protocol.Result, 0, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), loadAtOnce)
		keys := make([]string, n)
		for i, id := range ids[:n] {
			keys[i] = b.prefix + id
		}
		ids = ids[n:]
		docs, err := b.client.MGet(ctx, keys...).Result()
		if err != nil {
			return nil, b.failed(ctx, err)
		}
		for _, doc := range docs {
			text, there := doc.(string)
			if !there {
				results = append(results, protocol.Result{})
				continue
			}
			r, err := b.decode([]byte(text))
			if err != nil {
				return nil, resultbackend.Unreadable(err)
			}
			results = append(results, r)
		}
	}
	return results, nil
}
