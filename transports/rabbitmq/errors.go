package rabbitmq

import (
	"errors"
	"fmt"

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
// 530 is also RabbitMQ's answer to a connection limit reached; only its text differs, and we do not
// match text.
func connectError(address string, err error, saysWhy bool) error {
	kind := transports.ErrDisconnected
	switch c := code(err); {
	case c == amqp.AccessRefused, c == amqp.NotAllowed, c == amqp.InvalidPath:
		kind = transports.ErrCredentials
	case err == amqp.ErrSASL, err == amqp.ErrCredentials && !saysWhy:
		kind = transports.ErrCredentials
	case err == amqp.ErrCredentials, err == amqp.ErrVhost:
		err = errors.New("connection lost during the handshake") // the driver only guesses
	}
	return fmt.Errorf("rabbitmq: %s: %w: %v", address, kind, err)
}
