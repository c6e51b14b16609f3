package worker

import (
	"context"
	"fmt"
	"testing"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// tight is a broker that finds every envelope too large, and knows its headers all the same.
type tight struct{ *membroker.Broker }

func (b tight) Connect(ctx context.Context) (transports.Conn, error) {
	c, err := b.Broker.Connect(ctx)
	return tightConn{c}, err
}

type tightConn struct{ transports.Conn }

func (c tightConn) Consume(ctx context.Context, queues []transports.Queue, window int) (transports.Consumer, error) {
	k, err := c.Conn.Consume(ctx, queues, window)
	return tightConsumer{k}, err
}

type tightConsumer struct{ transports.Consumer }

func (k tightConsumer) Receive(ctx context.Context) (*transports.Delivery, error) {
	d, err := k.Consumer.Receive(ctx)
	if err == nil {
		d.Malformed = &protocol.DecodeError{Part: "envelope", Err: fmt.Errorf("test: %w", protocol.ErrTooLarge)}
	}
	return d, err
}

func TestTheCallerOfAnEnvelopeThatIsTooLargeIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Transport = tight{c.Transport.(*membroker.Broker)} }, handlers.Func("double", double))
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		pass(0)
		r.wantException("a", "DecodeError")
		r.wantQueue(transports.Quarantine("q"), 1, 0)
		r.wantQueue("q", 0, 0)
	})
}
