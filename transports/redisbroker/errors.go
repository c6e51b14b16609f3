package redisbroker

import (
	"errors"
	"fmt"
	"slices"
	"strings"

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

// Replies of a server that cannot at present and may soon.
var notNowPrefixes = []string{"OOM", "MISCONF", "NOREPLICAS", "BUSY ", "max number of clients reached"}

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
	switch {
	case begins(err, credentialPrefixes):
		return unknown
	case begins(err, reconnectPrefixes):
		return gone
	}
	return refused
}

// begins reports whether the reply has one of these codes. Before Redis 7 that of a command in a script stands behind
// some words about the script: "ERR Error running script (call to f_…): @user_script:1: -READONLY You can't …".
func begins(err error, prefixes []string) bool {
	inner := ""
	if redis.HasErrorPrefix(err, "Error running script") {
		_, inner, _ = strings.Cut(err.Error(), ": -")
	}
	return slices.ContainsFunc(prefixes, func(p string) bool {
		return redis.HasErrorPrefix(err, p) || inner != "" && strings.HasPrefix(inner, p)
	})
}

// outcome turns an error of an operation into the contract's, and breaks the connection when that is
// what the error means.
func (c *conn) outcome(what string, err error) error {
	switch fateOf(err) {
	case fine:
		return nil
	case refused:
		if begins(err, notNowPrefixes) {
			return fmt.Errorf("redisbroker: %s: %w: %v", what, transports.ErrBlocked, err)
		}
		return fmt.Errorf("redisbroker: %s: %w: %v", what, transports.ErrRefused, err)
	}
	why := fmt.Errorf("redisbroker: %s: %w: %v", what, transports.ErrDisconnected, err)
	c.fail(why)
	if c.Err() == nil { // Close is under way, and whatever else it does would wait as long, and in vain
		c.hangUp()
	}
	return why
}

// waitFailed is outcome for what waits on a socket of its own, and ends when Close begins.
func (c *conn) waitFailed(what string, err error) {
	c.fail(fmt.Errorf("redisbroker: %s: %w: %v", what, transports.ErrDisconnected, err))
}
