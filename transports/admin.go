package transports

import (
	"context"
	"errors"
)

// ErrNoQueue: the broker has no queue of that name.
var ErrNoQueue = errors.New("transports: no such queue")

// QueueAdmin is what a Conn can do whose broker lets queues be looked at and emptied; assert it. Brokers that
// make a queue of whatever is sent to (Redis) know no missing queue: there it is an empty one.
type QueueAdmin interface {
	// QueueSize is how many messages wait, and how many consumers there are. A missing queue is an error
	// wrapping ErrNoQueue.
	QueueSize(ctx context.Context, name string) (QueueSize, error)
	// Purge deletes what waits in the queue and says how many messages that were; what consumers hold is
	// left alone. A missing queue is an error wrapping ErrNoQueue.
	Purge(ctx context.Context, name string) (int, error)
	// Peek is at most the next n messages, the next one first. They stay where they are, though a consumer
	// may see them flagged as redelivered afterwards. Receipts are nil. A missing queue is an error wrapping ErrNoQueue.
	Peek(ctx context.Context, name string, n int) ([]*Delivery, error)
	// Transfer looks at the next n messages of a queue, in order, and moves those that pick chooses, byte for
	// byte but for a count of deliveries, to the end of another queue, or deletes them when to is "". The
	// others stay where they are, as after Peek. None is lost: one of which it is not known whether it arrived
	// is in both queues. It returns how many were moved, with an error too. A missing queue is an error wrapping
	// ErrNoQueue or, when it is the one to move to, ErrRefused.
	Transfer(ctx context.Context, from, to string, n int, pick func(*Delivery) bool) (int, error)
}

// A QueueSize is what a queue holds.
type QueueSize struct {
	Ready     int // messages that wait to be taken
	Consumers int // -1 where the broker cannot tell
}

// BindingLister is a Conn that can tell the bindings it knows, sorted by queue. RabbitMQ's protocol cannot.
type BindingLister interface {
	Bindings(ctx context.Context) ([]Binding, error)
}

// A Binding ties a queue to an exchange.
type Binding struct{ Queue, Exchange, RoutingKey string }

// StartCounter is a Conn that remembers how often a run was begun without coming to an end; what it promises is the same as
// resultbackend.StartCounter does. The worker asks it when the result store remembers nothing.
type StartCounter interface {
	Starts(ctx context.Context, run string) (int, error)
	AddStart(ctx context.Context, run string) error
	ForgetStarts(ctx context.Context, run string) error
}
