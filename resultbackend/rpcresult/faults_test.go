package rpcresult_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/rpcresult"
	"github.com/stalkworker/stalk/transports/rabbitmq"
)

// TestRepliesOverABrokenRabbitMQ: what Store says when its broker is away, silent or broken off, and that the next one
// arrives. The caller's connection is not touched, until it goes with its queue.
func TestRepliesOverABrokenRabbitMQ(t *testing.T) {
	direct := env(t, "CELERY_AMQP_URL")
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		left := goleak.Find(before)
		for began := time.Now(); left != nil && time.Since(began) < 30*time.Second; { // Find itself waits half a second
			left = goleak.Find(before)
		}
		if left != nil {
			t.Error(left)
		}
	})
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	proxy := faultproxy.New(t, u.Host)
	backend := func(url string) *rpcresult.Backend {
		tr, err := rabbitmq.New(rabbitmq.Config{URL: url, ConnectTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return open(t, rpcresult.Config{Transport: tr})
	}
	caller, worker := backend(direct), backend(proxy.Through(t, direct))
	defer worker.Close()
	defer caller.Close()
	replies := caller.Replies()
	queue, err := replies.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store := func(id string, d time.Duration) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		began := time.Now()
		err := worker.Store(ctx, resultbackend.Record{
			Result:  protocol.Result{TaskID: id, Status: protocol.Success, Value: id},
			ReplyTo: protocol.ReplyTo{Queue: queue, CorrelationID: id},
		})
		return time.Since(began), err
	}
	arrives := func(id string) { // however often it is to be stored, as the worker does
		t.Helper()
		replies.Expect(id)
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		for {
			_, err := store(id, 5*time.Second)
			if err == nil {
				break
			}
			if !errors.Is(err, resultbackend.ErrUnavailable) || ctx.Err() != nil {
				t.Fatalf("%s: %v, want ErrUnavailable until it is stored", id, err)
			}
		}
		if r, err := replies.Wait(ctx, id); err != nil || r.Value != id {
			t.Errorf("%s: %v, %v", id, r.Value, err)
		}
	}
	arrives("at first")
	for _, fault := range []struct {
		name string
		hurt func()
		heal func()
	}{
		{"away", func() { proxy.Refuse(true) }, func() { proxy.Refuse(false) }},
		{"silent", func() { proxy.Freeze(faultproxy.Both) }, func() { proxy.Cut(); proxy.Thaw() }},
		{"deaf", func() { proxy.Freeze(faultproxy.ToServer) }, func() { proxy.Cut(); proxy.Thaw() }},
	} {
		fault.hurt()
		took, err := store("lost", 500*time.Millisecond)
		if !errors.Is(err, resultbackend.ErrUnavailable) || took > 20*time.Second {
			t.Errorf("%s: %v after %v, want ErrUnavailable soon", fault.name, err, took)
		}
		fault.heal()
		arrives("after it was " + fault.name)
	}
	for i, n := range []int{1, 30, 90, 200} {
		proxy.CutAfter([]faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient}[i%2], n)
		arrives(fmt.Sprint("half a frame of ", n))
	}
	proxy.Cut()
	arrives("reconnected")
	if err := caller.Close(); err != nil { // and its queue with it
		t.Error(err)
	}
	if _, err := store("for nobody", 10*time.Second); err != nil {
		t.Errorf("for a caller that has gone: %v, want it to vanish", err)
	}
}
