package main

import (
	"cmp"
	"context"
	"net"
	"os"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// redisClient is the suite's get_redis_connection: REDIS_HOST, REDIS_PORT, database 0.
var redisClient = sync.OnceValue(func() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort(cmp.Or(os.Getenv("REDIS_HOST"), "localhost"), cmp.Or(os.Getenv("REDIS_PORT"), "6379")),
	})
})

// echo appends to the list of the key; None is no text.
func echo(ctx context.Context, key string, message protocol.Value) error {
	if message == nil {
		return protocol.NewException("DataError", "Invalid input of type: 'NoneType'. Convert to a bytes, string, int or float first.")
	}
	return redisClient().RPush(ctx, key, message).Err()
}

func count(ctx context.Context, key string) error { return redisClient().Incr(ctx, key).Err() }

// redisTasks leave a trace in Redis that the suite looks for.
func redisTasks() []handlers.Handler {
	type errback struct {
		RequestID string `json:"request_id"`
	}
	type newErrback struct {
		Request protocol.Value `json:"request"`
		Exc     protocol.Value `json:"exc"`
		TB      protocol.Value `json:"tb"`
	}
	return []handlers.Handler{
		task("redis_echo", func(ctx context.Context, in struct {
			Message  protocol.Value `json:"message"`
			RedisKey string         `json:"redis_key" default:"redis-echo"`
		},
		) (none, error) {
			return none{}, echo(ctx, in.RedisKey, in.Message)
		}),
		task("redis_echo_group_id", func(ctx context.Context, in struct {
			Ignored  protocol.Value `json:"_"`
			RedisKey string         `json:"redis_key" default:"redis-group-ids"`
		},
		) (none, error) {
			return none{}, echo(ctx, in.RedisKey, text(info(ctx).Group))
		}),
		task("redis_count", func(ctx context.Context, in struct {
			RedisKey string `json:"redis_key" default:"redis-count"`
		},
		) (none, error) {
			return none{}, count(ctx, in.RedisKey)
		}),
		task("sum_and_record", func(ctx context.Context, in struct {
			Values   protocol.Value `json:"values"`
			RedisKey string         `json:"redis_key"`
		},
		) (protocol.Value, error) {
			total, err := sum(in.Values)
			if err != nil {
				return nil, err
			}
			return total, echo(ctx, in.RedisKey, info(ctx).ID)
		}),
		task("errback_old_style", func(ctx context.Context, in errback) (string, error) {
			return in.RequestID, count(ctx, in.RequestID)
		}),
		task("errback_old_style_with_args", func(ctx context.Context, in struct {
			errback
			Label string `json:"label"`
		},
		) (none, error) {
			return none{}, echo(ctx, in.RequestID, in.Label)
		}),
		task("errback_new_style", func(ctx context.Context, in newErrback) (string, error) {
			id, err := requestID(in.Request)
			if err != nil {
				return "", err
			}
			return id, count(ctx, id)
		}),
		task("errback_new_style_with_args", func(ctx context.Context, in struct {
			newErrback
			Label string `json:"label"`
		},
		) (none, error) {
			id, err := requestID(in.Request)
			if err != nil {
				return none{}, err
			}
			return none{}, echo(ctx, id, in.Label)
		}),
	}
}
