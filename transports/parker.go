package transports

import (
	"context"
	"time"
)

// A Parker is a Receipt of a broker that takes back what stays unsettled too long, and with it everything else that
// came the same way (RabbitMQ's consumer_timeout). Whoever keeps a delivery waiting asserts it.
type Parker interface {
	// BeginBy is until when the delivery may wait to be begun and still have time to run, by the broker's limit as far
	// as it is known; zero: for ever. What waits longer is parked, or given back.
	BeginBy() time.Time
	// Park puts the message away, durably, and settles the delivery. The broker brings the message back to its queue,
	// where any worker may take it, after at most wait; often earlier, and then it may be parked again. As with Move, it
	// is never lost in between, but may be doubled. An error wrapping ErrRefused: it cannot be put away, and is still ours.
	Park(ctx context.Context, wait time.Duration) error
}

// A TimeLimiter is a Transport of such a broker.
type TimeLimiter interface {
	// ConsumerTimeout is how long a delivery may stay unsettled, as far as it is known; 0: for ever.
	ConsumerTimeout() time.Duration
}
