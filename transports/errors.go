package transports

import (
	"errors"
	"fmt"
)

var (
	// ErrDisconnected: the connection is gone; dial again. Every method of a broken Conn, and of what it
	// made, returns an error wrapping it, promptly.
	ErrDisconnected = errors.New("transports: disconnected")
	// ErrCredentials: the broker refused user, password or virtual host; dialling again will not help.
	// Connect returns it, wrapped together with the broker's text.
	ErrCredentials = errors.New("transports: credentials refused")
	// ErrUnfit: the broker is of a kind that cannot be used; dialling again will not help. Connect returns it, as an
	// ErrCredentials: who gives up for the one gives up for the other.
	ErrUnfit error = unfit{}
	// ErrRefused: the broker lives but will not do this: a publish nacked or unroutable, no permission, no memory.
	ErrRefused = errors.New("transports: refused by the broker")
	// ErrUnroutable: nothing is there to take a Mandatory message. It comes together with ErrRefused.
	ErrUnroutable = fmt.Errorf("%w: nobody takes it", ErrRefused)
	// ErrBlocked: the broker takes no messages for now, as it is short of memory or disk; nothing is wrong with the
	// message, and the same publish may be made again for as long as it takes. It comes together with ErrRefused.
	ErrBlocked = fmt.Errorf("%w: it takes no messages for now", ErrRefused)
	// ErrSettled: this receipt was used before.
	ErrSettled = errors.New("transports: delivery already settled")
	// ErrLost: the delivery is no longer ours; it has been or will be delivered again.
	ErrLost = errors.New("transports: delivery lost")
)

type unfit struct{}

func (unfit) Error() string        { return "transports: not a broker for Celery" }
func (unfit) Is(target error) bool { return target == ErrCredentials }
