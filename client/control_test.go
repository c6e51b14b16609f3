package client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/client"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// A crew is nodes that answer every command; what they heard is kept.
type crew struct {
	t     *testing.T
	conn  transports.Conn
	heard []protocol.ControlRequest // touched by the goroutine that answers; read when it is blocked
}

// answer makes the crew answer each command with the messages that reply returns.
func (r *rig) answer(reply func(c *crew, q protocol.ControlRequest)) *crew {
	r.Helper()
	conn, err := r.broker.Connect(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	c := &crew{t: r.T, conn: conn}
	s, err := conn.Subscribe(r.Context(), transports.Fanout{Exchange: "celery.pidbox", Type: "fanout", Queue: "x"})
	if err != nil {
		r.Fatal(err)
	}
	ended := make(chan struct{})
	r.Cleanup(func() { _ = conn.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			m, err := s.Next(context.Background())
			if err != nil {
				return
			}
			q, err := protocol.DecodeControl(m, protocol.DecodeOptions{})
			if err != nil {
				r.Errorf("the request cannot be read: %v", err)
				return
			}
			c.heard = append(c.heard, q)
			reply(c, q)
		}
	}()
	return c
}

func (c *crew) say(q protocol.ControlRequest, m protocol.Message) {
	p := transports.Publishing{
		Exchange: q.ReplyTo.Exchange, RoutingKey: q.ReplyTo.RoutingKey, ExchangeType: "direct", Message: m,
	}
	if err := c.conn.Publish(context.Background(), p); err != nil && !errors.Is(err, transports.ErrDisconnected) {
		c.t.Errorf("reply: %v", err)
	}
}

func (c *crew) pong(q protocol.ControlRequest, node string) {
	m, err := q.Reply(protocol.Encoding{}, node, protocol.ObjectOf(protocol.Member{Key: "ok", Value: "pong"}), 3)
	if err != nil {
		c.t.Error(err)
	}
	c.say(q, m)
}

func nodesOf(replies []client.Reply) []string {
	var out []string
	for _, r := range replies {
		out = append(out, r.Node)
	}
	return out
}

func TestTheTimeoutStartsAgainAtEachAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.answer(func(c *crew, q protocol.ControlRequest) {
			for _, node := range []string{"a@h", "b@h", "a@h"} {
				time.Sleep(800 * time.Millisecond)
				c.pong(q, node)
			}
			time.Sleep(1200 * time.Millisecond)
			c.pong(q, "late@h")
		})
		began := time.Now()
		var seen []string
		replies, err := r.client.Broadcast(t.Context(), protocol.ControlRequest{Method: "ping"}, client.BroadcastOptions{
			Reply: func(reply client.Reply) { seen = append(seen, reply.Node) },
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"a@h", "b@h", "a@h"}
		if diff := cmp.Diff(want, nodesOf(replies)); diff != "" || !slices.Equal(want, seen) {
			t.Errorf("answers (-want +got), told %v:\n%s", seen, diff)
		}
		if took := time.Since(began); took != 3400*time.Millisecond {
			t.Errorf("took %v, want 3 x 0.8 s and the timeout of a second", took)
		}
		if dup := client.Duplicates(replies); !slices.Equal(dup, []string{"a@h"}) {
			t.Errorf("Duplicates = %v", dup)
		}
	})
}

func TestWithDestinationsTheCallEndsAtTheLastAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		c := r.answer(func(c *crew, q protocol.ControlRequest) {
			for _, node := range q.Destination {
				c.pong(q, node)
			}
		})
		began := time.Now()
		q := protocol.ControlRequest{Method: "ping", Destination: []string{"a@h", "b@h"}}
		for range 2 {
			replies, err := r.client.Broadcast(t.Context(), q, client.BroadcastOptions{Timeout: time.Minute})
			if err != nil || !slices.Equal(nodesOf(replies), q.Destination) {
				t.Fatalf("Broadcast = %v, %v", replies, err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v, want no waiting", took)
		}
		synctest.Wait()
		first, second := c.heard[0], c.heard[1]
		if first.Ticket == second.Ticket || first.ReplyTo.RoutingKey == second.ReplyTo.RoutingKey {
			t.Error("two calls share a ticket or a reply queue")
		}
		if first.ReplyTo.Exchange != "reply.celery.pidbox" || second.Clock <= first.Clock {
			t.Errorf("reply exchange %q, clocks %d and %d", first.ReplyTo.Exchange, first.Clock, second.Clock)
		}
	})
}

func TestWhatIsNoAnswerToThisCallIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.answer(func(c *crew, q protocol.ControlRequest) {
			other := q
			other.Ticket = "of another call"
			c.pong(other, "other@h")

			expired, _ := q.Reply(protocol.Encoding{}, "expired@h", nil, 1)
			expired.Headers.Set("expires", 1.5)
			c.say(q, expired)

			pickled, _ := q.Reply(protocol.Encoding{}, "pickled@h", nil, 1)
			pickled.Properties.ContentType = "application/x-python-serialize"
			c.say(q, pickled)

			bare, _ := q.Reply(protocol.Encoding{}, "bare@h", nil, 1)
			bare.Headers = nil
			bare.Body = []byte(`{"bare@h": {"result_backend_max_retries": Infinity}}`)
			c.say(q, bare)
		})
		bad := 0
		replies, err := r.client.Broadcast(t.Context(), protocol.ControlRequest{Method: "conf"}, client.BroadcastOptions{
			Malformed: func(error) { bad++ },
		})
		if err != nil || !slices.Equal(nodesOf(replies), []string{"bare@h"}) {
			t.Errorf("Broadcast = %v, %v; want bare@h only", replies, err)
		}
		if bad != 1 {
			t.Errorf("%d answers were reported as unreadable, want 1", bad)
		}
	})
}

func TestBroadcastSaysWhyThereIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		q := protocol.ControlRequest{Method: "ping"}
		if _, err := r.client.Broadcast(ctx, q, client.BroadcastOptions{Timeout: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's time ran out: %v", err)
		}
		if replies, err := r.client.Broadcast(t.Context(), q, client.BroadcastOptions{}); err != nil || len(replies) != 0 {
			t.Errorf("nobody there: %v, %v; want no answers and no error", replies, err)
		}
		time.AfterFunc(time.Second, r.broker.Cut)
		if _, err := r.client.Broadcast(t.Context(), q, client.BroadcastOptions{Timeout: time.Hour}); !errors.Is(err, transports.ErrDisconnected) {
			t.Errorf("the connection broke: %v", err)
		}
		r.broker.Fail(membroker.Connect, -1, transports.ErrDisconnected)
		if _, err := r.client.Broadcast(t.Context(), q, client.BroadcastOptions{}); !errors.Is(err, transports.ErrDisconnected) {
			t.Errorf("no broker: %v", err)
		}
		r.broker.Fail(membroker.Connect, 1, transports.ErrDisconnected) // the second address answers
		if err := r.client.Cast(t.Context(), q); err != nil {
			t.Errorf("Cast at the second attempt: %v", err)
		}
	})
}

func TestACastWantsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(cfg *client.Config) { cfg.Control.Exchange = "celery" })
		c := r.answer(func(*crew, protocol.ControlRequest) {})
		q := protocol.ControlRequest{Method: "shutdown", Destination: []string{"a@h"}}
		if err := r.client.Cast(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(c.heard) != 1 || c.heard[0].ReplyTo != nil || c.heard[0].Ticket != nil {
			t.Errorf("heard %+v, want one request without ticket and reply_to", c.heard)
		}
	})
}
