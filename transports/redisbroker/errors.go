package redisbroker

import (
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/transports"
)

var (
	errClosed = fmt.Errorf("redisbroker: connection closed: %w", transports.ErrDisconnected)
	errNoConn = fmt.Errorf("redisbroker: no connection: %w", transports.ErrDisconnected)
)

// A fate is what an error of the driver means for us.
type fate int

const (
	fine    fate = iota // no error, or redis.Nil
	refused             // a reply: the server lives and will not do this
	gone                // the connection, or this server as a master, is of no use any more
	unknown             // the server wants other credentials
)

// Replies after which another connection may do better: a demoted or loading server, a killed wait.
var reconnectPrefixes = []string{"READONLY", "UNBLOCKED", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"}

// Replies that say we are nobody here. A database that does not exist is, as AMQP has it, a wrong virtual
// host. HasErrorPrefix cuts the code ERR off.
var credentialPrefixes = []string{"NOAUTH", "WRONGPASS", "AUTH ", "invalid password", "DB index", "invalid DB index"}

func fateOf(err error) fate {
	if err == nil || errors.Is(err, redis.Nil) {
		return fine
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return gone
	}
	for _, p := range credentialPrefixes {
		if redis.HasErrorPrefix(err, p) {
			return unknown
		}
	}
	for _, p := range reconnectPrefixes {
		if redis.HasErrorPrefix(err, p) {
			return gone
		}
	}
	return refused
}

// outcome turns an error of an operation into the contract's, and breaks the connection when that is
// what the error means.
func (c *conn) outcome(what string, err error) error {
	switch fateOf(err) {
	case fine:
		return nil
	case refused:
		return fmt.Errorf("redisbroker: %s: %w: %v", what, transports.ErrRefused, err)
	}
	c.fail(fmt.Errorf("redisbroker: %s: %w: %v", what, transports.ErrDisconnected, err))
	return fmt.Errorf("redisbroker: %s: %w: %v", what, transports.ErrDisconnected, err)
}
