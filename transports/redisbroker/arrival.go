package redisbroker

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/redisopt"
)

// This file is what a connection looks at first: does the server take writes, may we run scripts, has it lost what it
// had, will it keep what it is given.

// open makes the first round trips.
func (c *conn) open(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.hangUp) // a cancelled context does not end a read by itself
	defer stop()
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, c.t.opts.ConnectTimeout+c.t.opts.SocketTimeout)
	defer cancel()
	err := c.pulse.Ping(ctx).Err()
	if fateOf(err) == fine || begins(err, []string{"NOPERM", "MISCONF"}) { // a full disk forbids even that
		err = c.readClock(ctx)
	}
	if err == nil {
		err = c.mayRunScripts(ctx)
	}
	if err == nil {
		err = c.takesWrites(ctx)
	}
	if err == nil {
		err = c.lookAtServer(ctx)
	}
	if redisopt.OfCluster("", err) {
		err = fmt.Errorf("%w (%v)", redisopt.ErrCluster, err)
	}
	if err != nil && outer.Err() != nil {
		err = joinContext(outer, err)
	}
	return err
}

// mayRunScripts finds out whether an ACL forbids scripts, before anything depends on one.
func (c *conn) mayRunScripts(ctx context.Context) error {
	err := probeScript.Run(ctx, c.main, nil).Err()
	if err == nil || !redis.HasErrorPrefix(err, "NOPERM") {
		return err
	}
	c.plain.Store(true)
	c.t.once("plain", "redis broker forbids scripts: messages are taken one at a time, in transactions", "err", err)
	return nil
}

// script runs s. When it is refused for want of permission, the ACL may have changed since the connection was made: the
// next call asks plain.
func (c *conn) script(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	cmd := s.Run(ctx, c.main, keys, args...)
	if redis.HasErrorPrefix(cmd.Err(), "NOPERM") {
		_ = c.mayRunScripts(ctx) // an error of its own comes again with the next command
	}
	return cmd
}

// takesWrites finds out whether this is a replica, which would take us in and break with us at the first write. A
// server that refuses for another reason may do so at present only.
func (c *conn) takesWrites(ctx context.Context) error {
	err := c.main.HDel(ctx, c.t.set.key(c.t.set.unacked), "").Err()
	if fateOf(err) == refused {
		return nil
	}
	return err
}

// lookAtServer remembers which run of the server this is, and warns of one that may evict messages. A server that does
// not let us look is believed to be what it should.
func (c *conn) lookAtServer(ctx context.Context) error {
	var server, memory *redis.StringCmd
	_, err := c.main.Pipelined(ctx, func(p redis.Pipeliner) error {
		server, memory = p.Info(ctx, "server"), p.Info(ctx, "memory")
		return nil
	})
	if fateOf(err) != fine && fateOf(err) != refused {
		return err
	}
	if redisopt.OfCluster(server.Val(), nil) {
		return redisopt.ErrCluster
	}
	if policy := redisopt.InfoField(memory.Val(), "maxmemory_policy"); policy != "" && policy != "noeviction" {
		c.t.once("policy", "redis broker may evict messages when its memory is full: set maxmemory-policy to noeviction",
			"maxmemory-policy", policy, "maxmemory", redisopt.InfoField(memory.Val(), "maxmemory_human"))
	}
	if run := redisopt.InfoField(server.Val(), "run_id"); run != "" { // a proxy or an ACL may not let it say
		c.instance = run
		c.t.mu.Lock()
		c.restarted = c.t.run != "" && c.t.run != run
		c.t.run = run
		c.t.mu.Unlock()
	}
	return nil
}
