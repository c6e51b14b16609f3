package redisbroker

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/transports"
)

// SetHealing changes how often bindings are written again by connections made from now on.
func SetHealing(t *Transport, every time.Duration) { t.set.heal = every }

// RefuseSockets has every command of the connection answered as by a server that refuses it a new socket.
func RefuseSockets(c transports.Conn, err error) { c.(*conn).main.AddHook(refusal{err}) }

type refusal struct{ err error }

func (h refusal) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h refusal) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { return h.err }
}

func (h refusal) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return h.err }
}

// ForbidScripts is what a server's refusal does.
func ForbidScripts(c transports.Conn) { c.(*conn).plain.Store(true) }
