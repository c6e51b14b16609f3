package rpcresult_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/rpcresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// pair is a client's side and a worker's side, with the queue between them.
func pair(t *testing.T, broker *membroker.Broker) (replies resultbackend.Replies, worker *rpcresult.Backend, queue string) {
	t.Helper()
	client, worker := open(t, rpcresult.Config{Transport: broker}), open(t, rpcresult.Config{Transport: broker})
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), worker.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	replies = client.Replies()
	queue, err := replies.Listen(t.Context())
	if err != nil {
		t.Fatalf("Listen: %v", err)
	}
	return replies, worker, queue
}

func reply(t *testing.T, worker *rpcresult.Backend, queue string, r protocol.Result) {
	t.Helper()
	rec := resultbackend.Record{Result: r, ReplyTo: protocol.ReplyTo{Queue: queue, CorrelationID: r.TaskID}}
	if err := worker.Store(t.Context(), rec); err != nil {
		t.Fatalf("Store: %v", err)
	}
}

func TestRepliesArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := membroker.New()
		replies, worker, queue := pair(t, broker)
		again, err := replies.Listen(t.Context())
		if again != queue || err != nil || broker.Consumers(queue) != 1 {
			t.Errorf("Listen again = %q, %v with %d consumers", again, err, broker.Consumers(queue))
		}
		for _, id := range []string{"a", "b"} {
			replies.Expect(id)
		}
		if _, err := replies.Load(t.Context(), "a"); !errors.Is(err, resultbackend.ErrNotFound) {
			t.Errorf("Load: %v, want ErrNotFound", err)
		}
		got := make(chan error, 1)
		go func() {
			r, err := replies.Wait(t.Context(), "a")
			if err == nil && r.Value != int64(1) {
				err = fmt.Errorf("value is %v", r.Value)
			}
			got <- err
		}()
		reply(t, worker, queue, protocol.Result{TaskID: "a", Status: protocol.Started})
		synctest.Wait()
		if r, err := replies.Load(t.Context(), "a"); r.Status != protocol.Started || err != nil {
			t.Errorf("Load = %v, %v", r.Status, err)
		}
		select {
		case err := <-got:
			t.Fatalf("Wait returned %v at STARTED", err)
		default:
		}
		reply(t, worker, queue, protocol.Result{TaskID: "stranger", Status: protocol.Success})
		reply(t, worker, queue, protocol.Result{TaskID: "a", Status: protocol.Success, Value: int64(1)})
		reply(t, worker, queue, protocol.Result{TaskID: "a", Status: protocol.Failure, Exception: protocol.NewException("ValueError")})
		if err := <-got; err != nil {
			t.Errorf("Wait: %v", err)
		}
		synctest.Wait()
		if r, err := replies.Wait(t.Context(), "a"); r.Status != protocol.Success || err != nil {
			t.Errorf("Wait = %v, %v; want the first end", r.Status, err)
		}
		if n := broker.Ready(queue) + broker.Unsettled(queue); n != 0 {
			t.Errorf("%d replies are left", n)
		}
		for _, id := range []string{"stranger", "nobody"} {
			if _, err := replies.Wait(t.Context(), id); !errors.Is(err, resultbackend.ErrNotFound) {
				t.Errorf("Wait for %s: %v, want ErrNotFound", id, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := replies.Wait(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait: %v, want DeadlineExceeded", err)
		}
	})
}

func TestAReplyThatCannotBeReadIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := membroker.New()
		replies, _, queue := pair(t, broker)
		replies.Expect("a")
		broker.Send(queue, protocol.Message{Body: []byte("{"), Properties: protocol.Properties{ContentType: "application/json", CorrelationID: "a"}})
		_, err := replies.Wait(t.Context(), "a")
		if _, ok := errors.AsType[*protocol.DecodeError](err); !ok {
			t.Errorf("Wait: %v, want a *DecodeError", err)
		}
	})
}

func TestTheReplyQueueComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := membroker.New()
		replies, worker, queue := pair(t, broker)
		replies.Expect("a")
		broker.Fail(membroker.Connect, 5, transports.ErrDisconnected)
		broker.Cut()
		time.Sleep(time.Minute)
		if n := broker.Consumers(queue); n != 1 {
			t.Fatalf("%d consumers after the cut", n)
		}
		reply(t, worker, queue, protocol.Result{TaskID: "a", Status: protocol.Success})
		if _, err := replies.Wait(t.Context(), "a"); err != nil {
			t.Errorf("Wait: %v", err)
		}
	})
}

func TestListenTellsThatTheBrokerIsAway(t *testing.T) {
	broker := membroker.New()
	b := open(t, rpcresult.Config{Transport: broker})
	for _, op := range []membroker.Op{membroker.Connect, membroker.Consume} {
		broker.Fail(op, 1, transports.ErrDisconnected)
		if _, err := b.Replies().Listen(t.Context()); !errors.Is(err, resultbackend.ErrUnavailable) || !errors.Is(err, transports.ErrDisconnected) {
			t.Errorf("Listen: %v, want ErrUnavailable", err)
		}
	}
	if _, err := b.Replies().Listen(t.Context()); err != nil {
		t.Errorf("Listen: %v", err)
	}
	b.Replies().Expect("a")
	ended := make(chan error, 1)
	go func() {
		_, err := b.Replies().Wait(t.Context(), "a")
		ended <- err
	}()
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-ended; !errors.Is(err, resultbackend.ErrUnavailable) {
		t.Errorf("Wait: %v, want ErrUnavailable", err)
	}
	if _, err := b.Replies().Listen(t.Context()); !errors.Is(err, resultbackend.ErrUnavailable) {
		t.Errorf("Listen after Close: %v, want ErrUnavailable", err)
	}
	if n := broker.Conns(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

func TestWhatNobodyAsksForIsForgottenInTheEnd(t *testing.T) {
	b := open(t, rpcresult.Config{Transport: membroker.New()})
	defer b.Close()
	r := b.Replies()
	ctx, cancel := context.WithCancel(t.Context())
	r.Expect("first")
	ended := make(chan error, 1)
	go func() {
		_, err := r.Wait(ctx, "first")
		ended <- err
	}()
	for !rpcresult.Waiting(r, "first") {
		time.Sleep(time.Millisecond)
	}
	r.Expect("second")
	for i := range rpcresult.MaxExpected - 1 {
		r.Expect(fmt.Sprint(i))
	}
	if _, err := r.Wait(ctx, "second"); !errors.Is(err, resultbackend.ErrNotFound) {
		t.Errorf("Wait for the oldest that nobody waits for: %v, want ErrNotFound", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Wait for the oldest, that somebody waits for: %v", err)
	}
}
