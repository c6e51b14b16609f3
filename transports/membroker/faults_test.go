package membroker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

func message(body string) protocol.Message { return protocol.Message{Body: []byte(body)} }

func connect(t *testing.T, b *membroker.Broker) transports.Conn {
	t.Helper()
	c, err := b.Connect(t.Context())
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func consume(t *testing.T, c transports.Conn, window int, names ...string) transports.Consumer {
	t.Helper()
	var qs []transports.Queue
	for _, name := range names {
		qs = append(qs, transports.Queue{Name: name, Create: true})
	}
	k, err := c.Consume(t.Context(), qs, window)
	if err != nil {
		t.Fatalf("Consume: %v", err)
	}
	return k
}

func receive(t *testing.T, k transports.Consumer) *transports.Delivery {
	t.Helper()
	d, err := k.Receive(t.Context())
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return d
}

func bodies(ms []protocol.Message) []string {
	out := make([]string, len(ms))
	for i, m := range ms {
		out[i] = string(m.Body)
	}
	return out
}

// In a bubble a waiting Receive counts as blocked, whatever wakes it later.
func TestBlocksDurably(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := membroker.New()
		c := connect(t, b)
		k := consume(t, c, 1, "q")
		s, err := c.Subscribe(t.Context(), transports.Fanout{Exchange: "x", Type: "fanout"})
		if err != nil {
			t.Fatalf("Subscribe: %v", err)
		}
		received, heard := 0, 0
		go func() {
			for {
				d, err := k.Receive(context.Background())
				if err != nil {
					return
				}
				received++
				time.Sleep(time.Hour)
				_ = d.Receipt.Ack(context.Background())
			}
		}()
		go func() {
			for {
				if _, err := s.Next(context.Background()); err != nil {
					return
				}
				heard++
			}
		}()
		synctest.Wait()
		b.Send("q", message("one"))
		b.Send("q", message("two"))
		if n := b.Broadcast("x", "", message("all")); n != 1 {
			t.Errorf("Broadcast reached %d, want 1", n)
		}
		synctest.Wait()
		if received != 1 || heard != 1 || b.Ready("q") != 1 || b.Unsettled("q") != 1 {
			t.Errorf("received %d, heard %d, ready %d, unsettled %d; want 1 each", received, heard, b.Ready("q"), b.Unsettled("q"))
		}
		time.Sleep(time.Hour) // fake time
		synctest.Wait()
		if received != 2 || b.Ready("q") != 0 {
			t.Errorf("an hour later: received %d, ready %d; want 2, 0", received, b.Ready("q"))
		}
		time.Sleep(time.Hour)
		c.Close() // both goroutines end, or the bubble complains
	})
}

func TestDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := membroker.New()
		c := connect(t, b)
		k := consume(t, c, 1, "q")
		b.Send("q", message("one"))
		d := receive(t, k)
		b.Delay(membroker.Settle, time.Minute)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Receipt.Ack(ctx); !errors.Is(err, context.DeadlineExceeded) || b.Unsettled("q") != 1 {
			t.Errorf("Ack cut short: %v, %d unsettled; want the context's error and 1", err, b.Unsettled("q"))
		}
		began := time.Now()
		if err := d.Receipt.Ack(t.Context()); err != nil || time.Since(began) != time.Minute {
			t.Errorf("Ack again: %v after %v, want nil after 1m", err, time.Since(began))
		}

		b.Delay(membroker.Publish, time.Minute)
		got := make(chan error)
		go func() {
			got <- c.Publish(context.Background(), transports.Publishing{RoutingKey: "q", Message: message("two")})
		}()
		synctest.Wait()
		b.Cut()
		if err := <-got; !errors.Is(err, transports.ErrDisconnected) || b.Ready("q") != 0 {
			t.Errorf("Publish through a cut: %v, %d ready; want ErrDisconnected and 0", err, b.Ready("q"))
		}
	})
}

func TestFail(t *testing.T) {
	t.Parallel()
	b := membroker.New()
	c := connect(t, b)
	b.Declare("q")
	publish := func() error {
		return c.Publish(t.Context(), transports.Publishing{RoutingKey: "q", Message: message("m")})
	}
	b.Fail(membroker.Publish, 2, fmt.Errorf("test: %w", transports.ErrRefused))
	for n, want := range []error{transports.ErrRefused, transports.ErrRefused, nil} {
		if err := publish(); !errors.Is(err, want) {
			t.Errorf("publish %d: %v, want %v", n, err, want)
		}
	}
	b.Fail(membroker.Publish, -1, transports.ErrRefused)
	for range 5 {
		if err := publish(); !errors.Is(err, transports.ErrRefused) {
			t.Errorf("publish: %v, want ErrRefused", err)
		}
	}
	b.Fail(membroker.Publish, 0, nil)
	if err := publish(); err != nil || b.Ready("q") != 2 {
		t.Errorf("publish: %v, %d ready; want nil and 2", err, b.Ready("q"))
	}

	b.Fail(membroker.Connect, 1, transports.ErrCredentials)
	if _, err := b.Connect(t.Context()); !errors.Is(err, transports.ErrCredentials) {
		t.Errorf("Connect: %v, want ErrCredentials", err)
	}

	// A settling that fails leaves the delivery ours, to be settled again.
	k := consume(t, c, 1, "q")
	d := receive(t, k)
	b.Fail(membroker.Settle, 1, transports.ErrRefused)
	if err := d.Receipt.Ack(t.Context()); !errors.Is(err, transports.ErrRefused) || b.Unsettled("q") != 1 {
		t.Errorf("Ack: %v, %d unsettled; want ErrRefused and 1", err, b.Unsettled("q"))
	}
	if err := d.Receipt.Ack(t.Context()); err != nil || b.Unsettled("q") != 0 {
		t.Errorf("Ack again: %v, %d unsettled; want nil and 0", err, b.Unsettled("q"))
	}
}

// The broker did it, and the caller cannot know.
func TestLose(t *testing.T) {
	t.Parallel()
	b := membroker.New()
	c := connect(t, b)
	k := consume(t, c, 1, "q")
	b.Lose(membroker.Publish, 1)
	err := c.Publish(t.Context(), transports.Publishing{RoutingKey: "q", Message: message("m")})
	if !errors.Is(err, transports.ErrDisconnected) || b.Ready("q") != 1 {
		t.Errorf("Publish: %v, %d ready; want ErrDisconnected and 1", err, b.Ready("q"))
	}
	if _, err := k.Receive(t.Context()); !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("Receive: %v, want ErrDisconnected", err)
	}

	d := receive(t, consume(t, connect(t, b), 1, "q"))
	b.Lose(membroker.Settle, 1)
	if err := d.Receipt.Ack(t.Context()); !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("Ack: %v, want ErrDisconnected", err)
	}
	if err := d.Receipt.Ack(t.Context()); !errors.Is(err, transports.ErrLost) {
		t.Errorf("Ack again: %v, want ErrLost", err)
	}
	<-d.Receipt.Lost()
	if b.Ready("q") != 0 || b.Unsettled("q") != 0 {
		t.Errorf("%d ready, %d unsettled; want none: the ack had happened", b.Ready("q"), b.Unsettled("q"))
	}
}

// What a cut gives back goes to its old place, before what came later.
func TestCutKeepsTheOrder(t *testing.T) {
	t.Parallel()
	b := membroker.New()
	c := connect(t, b)
	k := consume(t, c, 3, "q")
	for n := range 5 {
		b.Send("q", message(fmt.Sprint(n)))
	}
	for range 3 {
		receive(t, k)
	}
	b.Cut()
	if diff := cmp.Diff([]string{"0", "1", "2", "3", "4"}, bodies(b.Messages("q"))); diff != "" {
		t.Errorf("queue after a cut (-want +got):\n%s", diff)
	}
	d := receive(t, consume(t, connect(t, b), 1, "q"))
	if !d.Redelivered || d.Count != 2 {
		t.Errorf("redelivered %v, count %d; want true, 2", d.Redelivered, d.Count)
	}
	if b.Conns() != 1 || b.Consumers("q") != 1 {
		t.Errorf("%d connections, %d consumers; want 1, 1", b.Conns(), b.Consumers("q"))
	}
}

func TestDeadLetter(t *testing.T) {
	t.Parallel()
	b := membroker.New()
	c := connect(t, b)
	b.Declare("dead")
	k, err := c.Consume(t.Context(), []transports.Queue{{Name: "q", Create: true, Arguments: protocol.ObjectOf(
		protocol.Member{Key: "x-dead-letter-exchange", Value: ""},
		protocol.Member{Key: "x-dead-letter-routing-key", Value: "dead"},
	)}}, 1)
	if err != nil {
		t.Fatalf("Consume: %v", err)
	}
	b.Send("q", message("bad"))
	if err := receive(t, k).Receipt.Reject(t.Context(), false); err != nil {
		t.Fatalf("Reject: %v", err)
	}
	if diff := cmp.Diff([]string{"bad"}, bodies(b.Messages("dead"))); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	b := membroker.New()
	c := connect(t, b)
	for _, tt := range []struct {
		pattern, key string
		want         int
	}{
		{"worker.#", "worker.heartbeat", 1},
		{"worker.#", "worker", 1},
		{"worker.#", "task.sent", 0},
		{"#", "a.b.c", 1},
		{"*.b", "a.b", 1},
		{"*.b", "a.a.b", 0},
		{"#.b", "a.a.b", 1},
		{"a.#.z", "a.z", 1},
		{"a.*.z", "a.z", 0},
	} {
		s, err := c.Subscribe(t.Context(), transports.Fanout{Exchange: "x", Type: "topic", RoutingKey: tt.pattern})
		if err != nil {
			t.Fatalf("Subscribe: %v", err)
		}
		if got := b.Broadcast("x", tt.key, message("m")); got != tt.want {
			t.Errorf("%q to %q: %d, want %d", tt.key, tt.pattern, got, tt.want)
		}
		s.Close()
	}
}

// BenchmarkJourney is a message's way in and out of a long queue.
func BenchmarkJourney(b *testing.B) {
	broker := membroker.New()
	c, err := broker.Connect(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	k, err := c.Consume(b.Context(), []transports.Queue{{Name: "q", Create: true}}, 1)
	if err != nil {
		b.Fatal(err)
	}
	for range 100_000 {
		broker.Send("q", message("m"))
	}
	b.ReportAllocs()
	for b.Loop() {
		broker.Send("q", message("m"))
		d, err := k.Receive(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Receipt.Ack(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
