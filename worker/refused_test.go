package worker

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// strict is a broker that lets nobody move a message into quarantine: for want of a permission, or as that is full.
type strict struct {
	*membroker.Broker
	refuse atomic.Bool
}

func (b *strict) Connect(ctx context.Context) (transports.Conn, error) {
	c, err := b.Broker.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return strictConn{c, b}, nil
}

type strictConn struct {
	transports.Conn
	b *strict
}

func (c strictConn) Consume(ctx context.Context, queues []transports.Queue, window int) (transports.Consumer, error) {
	k, err := c.Conn.Consume(ctx, queues, window)
	if err != nil {
		return nil, err
	}
	return strictConsumer{k, c.b}, nil
}

type strictConsumer struct {
	transports.Consumer
	b *strict
}

func (k strictConsumer) Receive(ctx context.Context) (*transports.Delivery, error) {
	d, err := k.Consumer.Receive(ctx)
	if err == nil {
		d.Receipt = strictReceipt{d.Receipt, k.b}
	}
	return d, err
}

type strictReceipt struct {
	transports.Receipt
	b *strict
}

func (r strictReceipt) Move(ctx context.Context, queue string) error {
	if r.b.refuse.Load() && strings.HasSuffix(queue, ".quarantine") {
		return fmt.Errorf("test: queue %q: %w", queue, transports.ErrRefused)
	}
	return r.Receipt.Move(ctx, queue)
}

func strictRig(t *testing.T, change func(*Config), hs ...handlers.Handler) (*rig, *strict) {
	t.Helper()
	b := &strict{}
	b.refuse.Store(true)
	r := startRig(t, func(c *Config) {
		b.Broker = c.Transport.(*membroker.Broker)
		c.Transport = b
		if change != nil {
			change(c)
		}
	}, hs...)
	return r, b
}

// TestAQuarantineThatIsRefusedStopsNoOtherTask: messages that can neither run nor be set aside take turns with the others.
func TestAQuarantineThatIsRefusedStopsNoOtherTask(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, b := strictRig(t, func(c *Config) { c.Settling = 2 }, handlers.Func("double", double))
		r.broker.Counting(false)
		for i := range 5 {
			r.broker.Send("q", protocol.Message{Body: fmt.Append(nil, "no task ", i), RoutingKey: "q"})
		}
		for i := range 3 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "double", Args: args(int64(4))})
			pass(5 * time.Minute)
			r.wantState(fmt.Sprint(i), protocol.Success)
		}
		b.refuse.Store(false)
		pass(5 * time.Minute)
		r.wantQueue("q", 0, 0)
		r.wantQueue("q.quarantine", 5, 0)
	})
}

// TestATaskThatEndsWorkersDoesNotStartForWantOfAQuarantine: what is known of it stays known.
func TestATaskThatEndsWorkersDoesNotStartForWantOfAQuarantine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		runs := 0
		r, b := strictRig(t, func(c *Config) {
			died(t, c.Results.(resultbackend.StartCounter), "a/0", 9)
			c.Queues[0].Name = "dead"
			leftBehind(t, c.Transport.(*strict).Broker, message(t, protocol.Task{ID: "a", Name: "poison"}))
		}, handlers.Func("poison", func(context.Context, nothing) (int, error) { runs++; return 0, nil }))
		pass(10 * time.Minute)
		r.wantException("a", "WorkerLostError")
		b.refuse.Store(false)
		pass(5 * time.Minute)
		r.wantQueue("dead", 0, 0)
		r.wantQueue("dead.quarantine", 1, 0)
		if runs != 0 {
			t.Errorf("it ran %d times", runs)
		}
		if n, err := r.results.Starts(t.Context(), "a/0"); n != 0 || err != nil {
			t.Errorf("%d starts are remembered (%v)", n, err)
		}
	})
}
