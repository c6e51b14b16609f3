package rabbitmq

import (
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// code is the AMQP reply code the broker sent, or 0 when err did not come from the broker.
func code(err error) int {
	if e, ok := errors.AsType[*amqp.Error](err); ok && e.Server {
		return e.Code
	}
	return 0
}

// limitReached reports whether a 530 is about the number of connections: of the node ("connection refused: node connection limit (N)
// is reached"), of the virtual host ("access to vhost '…' refused for user '…': connection limit (N) is reached"), or of
// the user ("… user connection limit (N) is reached").
func limitReached(err error) bool {
	e, ok := errors.AsType[*amqp.Error](err)
	return ok && strings.HasSuffix(e.Reason, ") is reached") && strings.Contains(e.Reason, "connection limit (")
}

// refusal reports whether err closed only a channel: the broker lives and said no.
func refusal(err error) bool {
	e, ok := errors.AsType[*amqp.Error](err)
	return ok && e.Server && e.Recover
}

// mapped turns an error of the driver into one of package transports. It is the only place that does,
// besides connectError.
func mapped(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, transports.ErrDisconnected), errors.Is(err, transports.ErrRefused):
		return err
	case refusal(err):
		return fmt.Errorf("rabbitmq: %s: %w: %v", what, transports.ErrRefused, err)
	}
	return fmt.Errorf("rabbitmq: %s: %w: %v", what, transports.ErrDisconnected, err)
}

// connectError maps what a handshake ended with. saysWhy: the broker promised to answer wrong
// credentials with a close frame; one that did not simply hangs up on them.
//
// 530 is RabbitMQ's answer to a virtual host that is not there or not ours, and to a limit of connections that is reached. Only
// the text tells them apart. Here it is looked at all the same, as the two ask for opposite things: a limit is waited for,
// as there is room again when another connection ends.
func connectError(address string, err error, saysWhy bool) error {
	kind := transports.ErrDisconnected
	switch c := code(err); {
	case c == amqp.NotAllowed && limitReached(err):
		return fmt.Errorf("rabbitmq: %s: %w: the broker takes no more connections, its limit is reached: %v", address, kind, err)
	case c == amqp.AccessRefused, c == amqp.NotAllowed, c == amqp.InvalidPath:
		kind = transports.ErrCredentials
	case err == amqp.ErrSASL, err == amqp.ErrCredentials && !saysWhy:
		kind = transports.ErrCredentials
	case err == amqp.ErrCredentials, err == amqp.ErrVhost:
		err = errors.New("connection lost during the handshake") // the driver only guesses
	}
	return fmt.Errorf("rabbitmq: %s: %w: %v", address, kind, err)
}
