package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// A breaker is a broker that closes the connection over the queue "bad" while it is told to, refuses the queue
// "refused" and does not answer about "slow".
type breaker struct {
	*membroker.Broker
	breaking *bool
}

func (b breaker) Connect(ctx context.Context) (transports.Conn, error) {
	c, err := b.Broker.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return breakingConn{c, b}, nil
}

type breakingConn struct {
	transports.Conn
	b breaker
}

func (c breakingConn) Consume(ctx context.Context, queues []transports.Queue, window int) (transports.Consumer, error) {
	if err := c.b.object(queues); err != nil {
		return nil, err
	}
	k, err := c.Conn.Consume(ctx, queues, window)
	if err != nil {
		return nil, err
	}
	return breakingConsumer{k, c.b}, nil
}

type breakingConsumer struct {
	transports.Consumer
	b breaker
}

func (k breakingConsumer) SetQueues(ctx context.Context, queues []transports.Queue) error {
	if err := k.b.object(queues); err != nil {
		return err
	}
	return k.Consumer.SetQueues(ctx, queues)
}

func (b breaker) object(queues []transports.Queue) error {
	named := func(name string) bool {
		return slices.ContainsFunc(queues, func(q transports.Queue) bool { return q.Name == name })
	}
	switch {
	case named("refused"):
		return fmt.Errorf("breaker: no: %w", transports.ErrRefused)
	case named("slow"):
		return context.DeadlineExceeded
	case named("bad") && *b.breaking:
		b.Cut()
		return transports.ErrDisconnected
	}
	return nil
}

// TestAQueueThatBreaksConnectionsIsGivenUp: the worker comes back, without it.
func TestAQueueThatBreaksConnectionsIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		breaking := true
		r := startRig(t, func(c *Config) {
			c.Transport = breaker{c.Transport.(*membroker.Broker), &breaking}
		}, handlers.Func("double", double))
		synctest.Wait()
		r.broadcast(protocol.ControlRequest{Method: "add_consumer", Arguments: protocol.ObjectOf(arg("queue", "bad"))})
		pass(10 * time.Minute)
		c := r.client()
		if got := c.ask("active_queues"); strings.Contains(got, "bad") {
			t.Errorf("active_queues = %s", got)
		}
		if n := strings.Count(r.log.String(), "Connection to broker lost"); n != strikesMax {
			t.Errorf("%d connections broke, want %d", n, strikesMax)
		}
		r.wantLog("it is given up")
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		synctest.Wait()
		r.wantState("a", protocol.Success)
		c.want("add_consumer", `{"ok": "add consumer refused"}`, arg("queue", "refused"))
		synctest.Wait()
		r.wantLog("cannot consume from a queue that remote control added; it is given up")
		if got := c.ask("active_queues"); strings.Contains(got, "refused") || r.broker.Consumers("q") != 1 {
			t.Errorf("active_queues = %s", got)
		}
		c.want("add_consumer", `{"ok": "add consumer slow"}`, arg("queue", "slow"))
		pass(time.Minute)
		if got := c.ask("active_queues"); strings.Contains(got, "slow") || r.broker.Consumers("q") != 1 {
			t.Errorf("active_queues = %s", got)
		}
		breaking = false
		c.want("add_consumer", `{"ok": "add consumer bad"}`, arg("queue", "bad"))
		synctest.Wait()
		if r.broker.Consumers("bad") != 1 {
			t.Error("the queue is not consumed when it does no harm any more")
		}
	})
}
