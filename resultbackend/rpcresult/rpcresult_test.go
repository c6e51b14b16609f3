package rpcresult_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/resultbackendtest"
	"github.com/stalkworker/stalk/resultbackend/rpcresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

func open(t *testing.T, cfg rpcresult.Config) *rpcresult.Backend {
	t.Helper()
	b, err := rpcresult.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return b
}

// Not parallel: the suite looks for goroutines left behind.
func TestSuite(t *testing.T) {
	resultbackendtest.Run(t, func(t *testing.T) resultbackendtest.Backend {
		broker := membroker.New()
		broker.Declare("replies")
		c := &client{waiting: map[string]chan protocol.Result{}}
		c.listen(t, broker)
		return resultbackendtest.Backend{
			Backend: open(t, rpcresult.Config{Transport: broker}),
			ReplyTo: protocol.ReplyTo{Queue: "replies"},
			Watch:   func(_ *testing.T, id string) <-chan protocol.Result { return c.wait(id) },
			Away: func(away bool) {
				if !away {
					broker.Fail(membroker.Connect, 0, nil)
					return
				}
				broker.Fail(membroker.Connect, -1, transports.ErrDisconnected)
				broker.Cut()
			},
		}
	})
}

// A client is the caller's side: one reply queue for all its tasks.
type client struct {
	mu      sync.Mutex
	waiting map[string]chan protocol.Result // guarded by mu
}

func (c *client) wait(id string) <-chan protocol.Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[id] = make(chan protocol.Result, 100)
	return c.waiting[id]
}

func (c *client) listen(t *testing.T, broker *membroker.Broker) {
	conn, err := broker.Connect(t.Context())
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	k, err := conn.Consume(t.Context(), []transports.Queue{{Name: "replies"}}, 1)
	if err != nil {
		t.Fatalf("Consume: %v", err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			d, err := k.Receive(context.Background())
			if err != nil {
				return
			}
			r, err := protocol.DecodeResult("json", d.Message.Body, protocol.Limits{})
			if err != nil || r.TaskID != d.Message.Properties.CorrelationID {
				t.Errorf("reply %q to %q: %v", d.Message.Body, d.Message.Properties.CorrelationID, err)
			}
			c.mu.Lock()
			ch := c.waiting[r.TaskID]
			c.mu.Unlock()
			if ch != nil {
				ch <- r
			}
			_ = d.Receipt.Ack(context.Background())
		}
	}()
}

func TestReply(t *testing.T) {
	t.Parallel()
	done := time.Date(2026, 11, 21, 6, 51, 42, 429_996_000, time.UTC)
	result := protocol.Result{TaskID: "t-1", Status: protocol.Success, Value: int64(5), DateDone: done, ParentID: "p"}
	const body = `{"status": "SUCCESS", "result": 5, "traceback": null, "children": [],` +
		` "date_done": "2026-11-21T06:51:42.429996+00:00", "parent_id": "p", "task_id": "t-1"}`
	for _, tt := range []struct {
		name string
		cfg  rpcresult.Config
		to   protocol.ReplyTo
		want protocol.Message
	}{
		{
			"the full document goes to the reply queue as a transient message",
			rpcresult.Config{},
			protocol.ReplyTo{Queue: "r", CorrelationID: "c"},
			protocol.Message{RoutingKey: "r", Body: []byte(body), Properties: protocol.Properties{
				ContentType: "application/json", ContentEncoding: "utf-8", CorrelationID: "c", DeliveryMode: 1, Priority: new(0),
			}},
		},
		{
			"without a correlation id the task id takes its place, and result_persistent and compression change only the mode",
			rpcresult.Config{Persistent: true, Encoding: protocol.Encoding{Compression: "gzip"}},
			protocol.ReplyTo{Queue: "r"},
			protocol.Message{RoutingKey: "r", Body: []byte(body), Properties: protocol.Properties{
				ContentType: "application/json", ContentEncoding: "utf-8", CorrelationID: "t-1", DeliveryMode: 2, Priority: new(0),
			}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			broker := membroker.New()
			broker.Declare("r")
			tt.cfg.Transport = broker
			b := open(t, tt.cfg)
			defer b.Close()
			if err := b.Store(t.Context(), resultbackend.Record{Result: result, ReplyTo: tt.to}); err != nil {
				t.Fatalf("Store: %v", err)
			}
			got := broker.Messages("r")
			if len(got) != 1 {
				t.Fatalf("%d replies, want 1", len(got))
			}
			if got[0].Headers == nil || got[0].Headers.Len() != 0 {
				t.Errorf("headers = %v, want {}", got[0].Headers)
			}
			got[0].Headers = nil
			if diff := cmp.Diff(tt.want, got[0]); diff != "" {
				t.Errorf("reply (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMsgpackReply(t *testing.T) {
	t.Parallel()
	broker := membroker.New()
	broker.Declare("r")
	b := open(t, rpcresult.Config{Transport: broker, Encoding: protocol.Encoding{Serializer: "msgpack"}})
	defer b.Close()
	r := resultbackend.Record{Result: protocol.Result{TaskID: "t", Status: protocol.Success, Value: "v"}, ReplyTo: protocol.ReplyTo{Queue: "r"}}
	if err := b.Store(t.Context(), r); err != nil {
		t.Fatalf("Store: %v", err)
	}
	m := broker.Messages("r")[0]
	if m.Properties.ContentType != "application/x-msgpack" || m.Properties.ContentEncoding != "binary" {
		t.Errorf("content type %q, encoding %q", m.Properties.ContentType, m.Properties.ContentEncoding)
	}
	if got, err := protocol.DecodeResult("msgpack", m.Body, protocol.Limits{}); err != nil || got.Value != "v" {
		t.Errorf("DecodeResult = %v, %v", got.Value, err)
	}
}

func TestNobodyToTell(t *testing.T) {
	t.Parallel()
	broker := membroker.New()
	b := open(t, rpcresult.Config{Transport: broker})
	defer b.Close()
	r := resultbackend.Record{Result: protocol.Result{TaskID: "t", Status: protocol.Success}}
	if err := b.Store(t.Context(), r); err != nil || broker.Conns() != 0 {
		t.Errorf("without reply_to: %v and %d connections, want nil and 0", err, broker.Conns())
	}
	r.ReplyTo.Queue = "gone"
	if err := b.Store(t.Context(), r); err != nil {
		t.Errorf("to a client that has gone: %v, want nil", err)
	}
	if got := broker.Queues(); len(got) != 0 {
		t.Errorf("queues %q were declared, want none", got)
	}
}

func TestRedials(t *testing.T) {
	t.Parallel()
	broker := membroker.New()
	broker.Declare("r")
	b := open(t, rpcresult.Config{Transport: broker})
	defer b.Close()
	r := resultbackend.Record{Result: protocol.Result{TaskID: "t", Status: protocol.Success}, ReplyTo: protocol.ReplyTo{Queue: "r"}}
	for round := 1; round <= 3; round++ {
		if err := b.Store(t.Context(), r); err != nil {
			t.Fatalf("Store %d: %v", round, err)
		}
		broker.Cut()
	}
	if got := broker.Ready("r"); got != 3 {
		t.Errorf("%d replies, want 3", got)
	}
	broker.Lose(membroker.Publish, 1)
	if err := b.Store(t.Context(), r); !errors.Is(err, resultbackend.ErrUnavailable) {
		t.Errorf("Store whose answer is lost: %v, want ErrUnavailable", err)
	}
	broker.Fail(membroker.Publish, 1, transports.ErrRefused)
	if err := b.Store(t.Context(), r); !errors.Is(err, resultbackend.ErrUnavailable) {
		t.Errorf("Store that is nacked: %v, want ErrUnavailable", err)
	}
}

func TestRefusedForSize(t *testing.T) {
	t.Parallel()
	broker := membroker.New()
	broker.Declare("r")
	broker.Fail(membroker.Publish, 1, transports.ErrRefused)
	b := open(t, rpcresult.Config{Transport: broker})
	defer b.Close()
	big := string(bytes.Repeat([]byte("x"), 17<<20))
	r := resultbackend.Record{Result: protocol.Result{TaskID: "t", Status: protocol.Success, Value: big}, ReplyTo: protocol.ReplyTo{Queue: "r"}}
	if err := b.Store(t.Context(), r); !errors.Is(err, resultbackend.ErrTooLarge) {
		t.Errorf("Store: %v, want ErrTooLarge", err)
	}
}

func TestOneDialForMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := membroker.New()
		broker.Declare("r")
		broker.Delay(membroker.Connect, time.Second)
		b := open(t, rpcresult.Config{Transport: broker})
		r := resultbackend.Record{Result: protocol.Result{TaskID: "t", Status: protocol.Success}, ReplyTo: protocol.ReplyTo{Queue: "r"}}
		began := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := b.Store(t.Context(), r); err != nil {
					t.Errorf("Store: %v", err)
				}
			})
		}
		wg.Wait()
		if broker.Conns() != 1 || time.Since(began) != time.Second {
			t.Errorf("%d connections after %v, want 1 after 1s", broker.Conns(), time.Since(began))
		}
		if err := b.Close(); err != nil || broker.Conns() != 0 {
			t.Errorf("Close: %v, %d connections left", err, broker.Conns())
		}
	})
}

func TestCloseEndsADial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := membroker.New()
		broker.Delay(membroker.Connect, time.Hour)
		b := open(t, rpcresult.Config{Transport: broker})
		got := make(chan error, 1)
		go func() {
			got <- b.Store(t.Context(), resultbackend.Record{ReplyTo: protocol.ReplyTo{Queue: "r"}})
		}()
		synctest.Wait()
		began := time.Now()
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-got; !errors.Is(err, resultbackend.ErrUnavailable) || time.Since(began) != 0 {
			t.Errorf("Store: %v after %v, want ErrUnavailable at once", err, time.Since(began))
		}
	})
}

// TestAnAlarmIsNotTheRepliesSize: a large reply that is refused for what the broker is short of is kept and sent later, not replaced.
func TestAnAlarmIsNotTheRepliesSize(t *testing.T) {
	t.Parallel()
	broker := membroker.New()
	broker.Declare("r")
	b := open(t, rpcresult.Config{Transport: broker})
	defer b.Close()
	large := resultbackend.Record{
		Result:  protocol.Result{TaskID: "t", Status: protocol.Success, Value: strings.Repeat("x", 17<<20)},
		ReplyTo: protocol.ReplyTo{Queue: "r"},
	}
	broker.Fail(membroker.Publish, 1, transports.ErrBlocked)
	if err := b.Store(t.Context(), large); !errors.Is(err, resultbackend.ErrUnavailable) || errors.Is(err, resultbackend.ErrTooLarge) {
		t.Errorf("during an alarm: %v, want ErrUnavailable alone", err)
	}
	broker.Fail(membroker.Publish, 1, transports.ErrRefused)
	if err := b.Store(t.Context(), large); !errors.Is(err, resultbackend.ErrTooLarge) {
		t.Errorf("refused: %v, want ErrTooLarge", err)
	}
	if err := b.Store(t.Context(), large); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
