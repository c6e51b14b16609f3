// Package transports is the contract between the worker and a message broker: dial, consume, settle,
// publish, subscribe.
//
// Implementations are rabbitmq, redisbroker and membroker; each passes the suite in transporttest,
// which is the contract in executable form. Anybody may implement Transport: a new broker is a package
// that passes the suite and one case in dial.
package transports

import (
	"context"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A Transport knows how to reach one broker (or a failover list). It is safe for concurrent use.
type Transport interface {
	// Connect dials once: one attempt at one address of a failover list, the next address at the next
	// call. It returns an error wrapping ErrCredentials when the broker refuses who we are, and
	// ErrDisconnected when it cannot be reached. The Conn does not depend on ctx afterwards.
	Connect(ctx context.Context) (Conn, error)
	// String is the address without credentials, as Celery prints it: "redis://localhost:6379/0".
	String() string
}

// A Conn is one connection. It never reconnects: once broken, each of its methods, and of what it made,
// promptly returns an error wrapping ErrDisconnected. It is safe for concurrent use.
type Conn interface {
	// Consume starts taking from the queues, at most window unsettled deliveries at a time.
	Consume(ctx context.Context, queues []Queue, window int) (Consumer, error)
	// Subscribe receives what is broadcast (control messages), or what is sent to a key of a direct exchange
	// (the answers to them). Messages sent before it returns are missed.
	Subscribe(ctx context.Context, f Fanout) (Subscription, error)
	// Publish returns nil when the broker has the message safely. An error wrapping ErrRefused means the
	// broker said no (ErrUnroutable: p.Mandatory, and nothing is bound to take it).
	Publish(ctx context.Context, p Publishing) error
	// Done is closed when the connection breaks or is closed.
	Done() <-chan struct{}
	// Err says why Done was closed; nil before that, and after Close.
	Err() error
	// Close ends the connection and waits for its goroutines. Unsettled deliveries go back to their queue
	// by the broker's own means; on Redis they are moved back now.
	Close() error
}

// A Consumer delivers messages. Receive is for one goroutine at a time; the rest is safe for concurrent use.
type Consumer interface {
	// Receive blocks for the next message. Cancelled or not, it loses nothing.
	Receive(ctx context.Context) (*Delivery, error)
	// SetWindow changes how many unsettled deliveries we accept; at least 1. What was fetched past a narrower window and
	// not yet received goes back to its queue, so that others may take it; at which place is the broker's affair. What stays
	// fetched may be n beside what had been received before.
	SetWindow(ctx context.Context, n int) error
	// SetQueues gives the wanted set of queues, not a change.
	SetQueues(ctx context.Context, queues []Queue) error
	// Close stops taking. What was delivered stays ours until settled or the Conn is closed; what was
	// fetched but not yet received goes back.
	Close() error
}

// A Subscription delivers broadcast messages, none of which is settled. Next is for one goroutine at a time.
type Subscription interface {
	Next(ctx context.Context) (protocol.Message, error)
	Close() error
}

// A Queue is a queue to consume or to publish to, described as Celery's task_queues would.
type Queue struct {
	Name string
	// Exchange, Type and RoutingKey are how the queue is bound. An empty Exchange means Name, an empty Type
	// "direct", an empty RoutingKey Name. Redis writes the binding for every queue consumed; RabbitMQ only
	// when it creates the queue.
	Exchange   string
	Type       string
	RoutingKey string
	// Create: declare the queue when the broker has none of that name. Never redeclares one that exists.
	// Without it Consume waits (retries) until somebody else has made the queue.
	Create bool
	// Arguments for creating: x-max-priority, x-queue-type, x-expires, ...; nil means none.
	Arguments *protocol.Object
	// Transient: not durable. AutoDelete, Exclusive: as AMQP means them. Only looked at when creating.
	Transient  bool
	AutoDelete bool
	Exclusive  bool
	// Unbound: bound to no exchange, so that only what is sent to its name arrives, as in a reply queue.
	// Exchange, Type and RoutingKey are not looked at.
	Unbound bool
}

// Quarantine names the queue beside queue that keeps what could not be run, for people to look at.
func Quarantine(queue string) string { return queue + ".quarantine" }

// A Fanout is a broadcast to listen to: Celery's pidbox (Type fanout, on AMQP through a queue of our own),
// or events (topic on AMQP, fanout on Redis); or, with Type direct, a reply queue: what is in it or still to
// come when the Subscription is closed is dropped.
type Fanout struct {
	Exchange   string // "celery.pidbox"
	Type       string // "fanout", "topic" or "direct", as declared on AMQP
	Durable    bool   // the exchange's, on AMQP
	RoutingKey string // "" or a pattern such as "worker.#"; of a direct exchange the key
	Queue      string // on AMQP the queue to declare; on Redis the binding member, of a direct exchange the list too
	Arguments  *protocol.Object
	Exclusive  bool
}

// A Publishing is one message on its way out.
type Publishing struct {
	Exchange   string // "": the default exchange, RoutingKey is the queue's name
	RoutingKey string
	Message    protocol.Message // its own Exchange and RoutingKey are not looked at
	// Mandatory: nothing there to take it, or nobody who listens to a broadcast, is an error wrapping ErrUnroutable. Without it such a message
	// vanishes, as rpc replies to a client that has gone should.
	Mandatory bool
	// Declare is made (passive first) before the first publish on this connection; nil: nothing.
	Declare *Queue
	// ExchangeType declares Exchange with this type before the first publish ("topic", "fanout", "direct"); "": no declaration.
	ExchangeType    string
	ExchangeDurable bool
	// Linger, when not 0, is how long a reply waits for a reader that may have gone: on Redis, where nobody else
	// deletes its list, it goes so long after the last one. On AMQP the queue is its reader's to limit.
	Linger time.Duration
	// Broadcast: for whoever has subscribed to Exchange, whatever its type. On Redis, where a topic exchange of
	// this kind is a channel (Celery's events), it goes there and nowhere else.
	Broadcast bool
	// Delay: the message is not wanted before a while, which its own eta says too. A broker that can keep it until
	// then does; any other takes it now, and whoever consumes it waits. nil: it is wanted now.
	Delay *Delay
}

// A Delay says how long a message is not wanted, and which queue it is for then.
type Delay struct {
	For        time.Duration
	Queue      Queue
	RoutingKey string // "": the queue's
}

// A Delayer is a Conn of a broker that can keep messages for a while.
type Delayer interface {
	// PrepareDelay sets up what messages for these queues are kept in, also for other publishers. The error is the
	// first one; the other queues may be set up all the same.
	PrepareDelay(ctx context.Context, queues []Queue) error
}

// A Delivery is one message that is ours until it is settled.
type Delivery struct {
	Message     protocol.Message
	Queue       string // the queue it was taken from
	Redelivered bool
	Count       int // deliveries so far where the broker counts (x-delivery-count + 1), else 0
	Limit       int // the broker itself gives the message up after more deliveries than these and one; 0: never, or nobody told us
	// Malformed is not nil when the broker's own wrapping could not be read (a Redis list element that is
	// no envelope). Message.Body then holds the raw bytes and only Move and Ack make sense. Of one that is only too
	// large (protocol.ErrTooLarge) there are headers, if they could be read.
	Malformed error
	Receipt   Receipt
}

// A Receipt settles its delivery once; a second call returns ErrSettled. Until then the delivery is
// ours for as long as the connection lives; a transport with leases (Redis) renews them by itself, and
// there a receipt outlives its Conn: the next Conn of the same Transport adopts it. It is safe for
// concurrent use.
//
// Each method returns nil when the broker has done it; ErrLost when the delivery is not ours any more;
// an error wrapping ErrDisconnected when that is not known. After an error other than ErrSettled and
// ErrLost the call may be made again.
type Receipt interface {
	Ack(ctx context.Context) error
	// Reject gives the message up (requeue false: dead-lettered where the queue has a dead-letter exchange,
	// else dropped) or returns it to its queue.
	Reject(ctx context.Context, requeue bool) error
	// Move puts the message, byte for byte, into another queue, which is created when missing, and then
	// settles the delivery. It is never lost in between; on AMQP it may be doubled.
	Move(ctx context.Context, queue string) error
	// Lost is closed when the delivery has stopped being ours without being settled.
	Lost() <-chan struct{}
}

// A Returner is a Receipt of a broker that gives messages up which come back too often. Its Return gives the
// message back to its queue as Reject does, but so that this does not count, or not for long: a worker that stops
// returns what it has not begun, and no number of restarts may cost a message that nobody has tried. It may then
// stand at another place of the queue, and may be doubled.
type Returner interface {
	Return(ctx context.Context) error
}

// Return gives a message back of which nothing is to be learnt from its coming back.
func Return(ctx context.Context, r Receipt) error {
	if r, ok := r.(Returner); ok {
		return r.Return(ctx)
	}
	return r.Reject(ctx, true)
}
