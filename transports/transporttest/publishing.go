package transporttest

import (
	"context"
	"errors"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func publishFirst(b *bench) {
	q := b.Name()
	c := b.dial()
	b.create(c, transports.Queue{Name: q})
	b.send(c, q, numbered(3)...)
	b.close(c)
	k := b.consume(b.dial(), 3, q)
	ds := b.receiveAll(k, 3)
	b.wantBodies(ds, numbered(3))
	b.ack(ds...)
}

func unroutable(b *bench) {
	c, missing := b.dial(), b.Name()
	to := func(exchange string, mandatory bool) error {
		p := transports.Publishing{Exchange: exchange, RoutingKey: missing, Message: text("nobody"), Mandatory: mandatory}
		if exchange != "" {
			p.ExchangeType = "direct"
		}
		return b.promptly("Publish", func() error { return c.Publish(b.ctx, p) })
	}
	exchange := b.Name()
	if err := to(exchange, true); !errors.Is(err, transports.ErrUnroutable) || !errors.Is(err, transports.ErrRefused) {
		b.Errorf("mandatory to an exchange without bindings: %v, want ErrUnroutable", err)
	}
	if err := to(exchange, false); err != nil {
		b.Errorf("not mandatory to an exchange without bindings: %v, want nil", err)
	}
	if !b.AnyQueue {
		if err := to("", true); !errors.Is(err, transports.ErrUnroutable) {
			b.Errorf("mandatory to a missing queue: %v, want ErrUnroutable", err)
		}
	}
	if err := to("", false); err != nil {
		b.Errorf("not mandatory to a missing queue: %v, want nil", err)
	}
	cast := transports.Publishing{Exchange: b.Name(), ExchangeType: "fanout", Broadcast: true, Message: text("nobody"), Mandatory: true}
	if err := b.promptly("Publish", func() error { return c.Publish(b.ctx, cast) }); !errors.Is(err, transports.ErrUnroutable) {
		b.Errorf("a mandatory broadcast without listeners: %v, want ErrUnroutable", err)
	}
	// The connection has not suffered.
	q := b.Name()
	k := b.consume(c, 1, q)
	b.send(c, q, "after")
	b.ack(b.receive(k))
}

func declare(b *bench) {
	c, q := b.dial(), b.Name()
	for _, body := range numbered(3) {
		p := transports.Publishing{RoutingKey: q, Message: text(body), Mandatory: true, Declare: &transports.Queue{Name: q}}
		if err := c.Publish(b.ctx, p); err != nil {
			b.Fatalf("Publish with Declare: %v", err)
		}
	}
	k, err := b.dial().Consume(b.ctx, []transports.Queue{{Name: q}}, 3)
	if err != nil {
		b.Fatalf("Consume: %v", err)
	}
	ds := b.receiveAll(k, 3)
	b.wantBodies(ds, numbered(3))
	b.ack(ds...)
}

func bound(b *bench) {
	for _, tt := range []struct{ kind, key, hit, miss string }{
		{"direct", "red", "red", "blue"},
		{"topic", "image.*.done", "image.7.done", "image.7.failed"},
	} {
		c, x, q := b.dial(), b.Name(), b.Name()
		k, err := c.Consume(b.ctx, []transports.Queue{{Name: q, Exchange: x, Type: tt.kind, RoutingKey: tt.key, Create: true}}, 5)
		if err != nil {
			b.Fatalf("Consume: %v", err)
		}
		for _, key := range []string{tt.miss, tt.hit} {
			p := transports.Publishing{Exchange: x, RoutingKey: key, Message: text(key), ExchangeType: tt.kind, ExchangeDurable: true}
			if err := c.Publish(b.ctx, p); err != nil {
				b.Fatalf("Publish: %v", err)
			}
		}
		d := b.receive(k)
		b.wantBodies([]*transports.Delivery{d}, []string{tt.hit})
		if d.Queue != q || d.Message.Exchange != x || d.Message.RoutingKey != tt.hit {
			b.Errorf("queue %q, exchange %q, key %q; want %q, %q, %q", d.Queue, d.Message.Exchange, d.Message.RoutingKey, q, x, tt.hit)
		}
		b.ack(d)
		b.nothing(k)
	}
}

func created(b *bench) {
	c, q := b.dial(), b.Name()
	args := protocol.ObjectOf(protocol.Member{Key: "x-expires", Value: int64(600_000)})
	k, err := c.Consume(b.ctx, []transports.Queue{{Name: q, Create: true, Arguments: args}}, 1)
	if err != nil {
		b.Fatalf("Consume: %v", err)
	}
	b.send(c, q, "one")
	b.ack(b.receive(k))
}

func unbound(b *bench) {
	c, x, q := b.dial(), b.Name(), b.Name()
	k, err := c.Consume(b.ctx, []transports.Queue{{Name: q, Exchange: x, Create: true, Unbound: true}}, 1)
	if err != nil {
		b.Fatalf("Consume: %v", err)
	}
	p := transports.Publishing{Exchange: x, RoutingKey: q, Message: text("bound"), Mandatory: true, ExchangeType: "direct", ExchangeDurable: true}
	if err := c.Publish(b.ctx, p); !errors.Is(err, transports.ErrRefused) {
		b.Errorf("Publish to an exchange it is not bound to: %v, want ErrRefused", err)
	}
	b.send(c, q, "one")
	d := b.receive(k)
	b.wantBodies([]*transports.Delivery{d}, []string{"one"})
	b.ack(d)
}

func waitedFor(b *bench) {
	q, c := b.Name(), b.dial()
	type answer struct {
		d   *transports.Delivery
		err error
	}
	got := make(chan answer, 1)
	ctx, cancel := context.WithTimeout(b.ctx, 3*b.patience())
	defer cancel()
	go func() { // Consume may wait, or return and wait in Receive
		k, err := c.Consume(ctx, []transports.Queue{{Name: q}}, 1)
		if err != nil {
			got <- answer{err: err}
			return
		}
		d, err := k.Receive(ctx)
		got <- answer{d, err}
	}()
	select {
	case a := <-got:
		b.Fatalf("consuming a missing queue = %+v, %v; want it to wait", a.d, a.err)
	case <-time.After(b.quiet()):
	}
	other := b.dial()
	p := transports.Publishing{RoutingKey: q, Message: text("at last"), Mandatory: true, Declare: &transports.Queue{Name: q}}
	if err := other.Publish(b.ctx, p); err != nil {
		b.Fatalf("Publish: %v", err)
	}
	a := <-got
	if a.err != nil {
		b.Fatalf("after the queue was made: %v", a.err)
	}
	b.wantBodies([]*transports.Delivery{a.d}, []string{"at last"})
	b.ack(a.d)
}

func notRedeclared(b *bench) {
	c, q := b.dial(), b.Name()
	args := protocol.ObjectOf(protocol.Member{Key: "x-max-priority", Value: int64(5)})
	b.create(c, transports.Queue{Name: q, Arguments: args})
	// Other arguments now: a redeclaration would be refused.
	k, err := c.Consume(b.ctx, []transports.Queue{{Name: q, Create: true, Transient: true}}, 1)
	if err != nil {
		b.Fatalf("Consume with other arguments: %v", err)
	}
	p := transports.Publishing{RoutingKey: q, Message: text("one"), Mandatory: true, Declare: &transports.Queue{Name: q, AutoDelete: true}}
	if err := c.Publish(b.ctx, p); err != nil {
		b.Fatalf("Publish with other arguments: %v", err)
	}
	b.ack(b.receive(k))
}

func fanout(b *bench) {
	x := b.Name()
	c1, c2 := b.dial(), b.dial()
	subscribe := func(c transports.Conn, queue string) transports.Subscription {
		s, err := c.Subscribe(b.ctx, transports.Fanout{Exchange: x, Type: "fanout", Queue: queue})
		if err != nil {
			b.Fatalf("Subscribe: %v", err)
		}
		return s
	}
	s1, s2 := subscribe(c1, b.Name()), subscribe(c2, b.Name())
	publisher := b.dial()
	for _, body := range numbered(5) {
		p := transports.Publishing{Exchange: x, ExchangeType: "fanout", Message: text(body)}
		if err := publisher.Publish(b.ctx, p); err != nil {
			b.Fatalf("Publish: %v", err)
		}
	}
	for _, s := range []transports.Subscription{s1, s2} {
		for _, body := range numbered(5) {
			ctx, cancel := context.WithTimeout(b.ctx, b.patience())
			m, err := s.Next(ctx)
			cancel()
			if err != nil {
				b.Fatalf("Next: %v", err)
			}
			b.same(m, text(body))
			if m.Exchange != x {
				b.Errorf("Exchange = %q, want %q", m.Exchange, x)
			}
		}
	}
}

func fanoutEnds(b *bench) {
	x, c := b.Name(), b.dial()
	s, err := c.Subscribe(b.ctx, transports.Fanout{Exchange: x, Type: "fanout", Queue: b.Name()})
	if err != nil {
		b.Fatalf("Subscribe: %v", err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.quiet())
	defer cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		b.Fatalf("Next with nothing there: %v, want the context's error", err)
	}
	p := transports.Publishing{Exchange: x, ExchangeType: "fanout", Message: text("one")}
	if err := c.Publish(b.ctx, p); err != nil {
		b.Fatalf("Publish: %v", err)
	}
	m, err := s.Next(b.ctx)
	if err != nil {
		b.Fatalf("Next: %v", err)
	}
	b.same(m, text("one"))

	waiting := make(chan error, 1)
	go func() {
		_, err := s.Next(b.ctx)
		waiting <- err
	}()
	b.close(s)
	if err := b.promptly("Next at Close", func() error { return <-waiting }); err == nil {
		b.Error("Next returned a message after Close")
	}
}

func replyQueue(b *bench) {
	x, key, queue, c := b.Name(), b.Name(), b.Name(), b.dial()
	s, err := c.Subscribe(b.ctx, transports.Fanout{
		Exchange: x, Type: "direct", RoutingKey: key, Queue: queue,
		Arguments: protocol.ObjectOf(protocol.Member{Key: "x-expires", Value: int64(60_000)}),
	})
	if err != nil {
		b.Fatalf("Subscribe: %v", err)
	}
	other := b.dial()
	send := func(key, body string, priority int) {
		b.Helper()
		m := text(body)
		m.Properties.Priority = &priority
		p := transports.Publishing{Exchange: x, RoutingKey: key, ExchangeType: "direct", Message: m}
		if err := other.Publish(b.ctx, p); err != nil {
			b.Fatalf("Publish: %v", err)
		}
	}
	next := func(want string) {
		b.Helper()
		ctx, cancel := context.WithTimeout(b.ctx, b.patience())
		defer cancel()
		m, err := s.Next(ctx)
		if err != nil {
			b.Fatalf("Next: %v", err)
		}
		if string(m.Body) != want {
			b.Errorf("Next = %q, want %q", m.Body, want)
		}
	}
	send(b.Name(), "to somebody else", 0)
	for _, body := range numbered(3) {
		send(key, body, 0)
	}
	for _, body := range numbered(3) {
		next(body)
	}
	send(key, "with a priority", 9)
	next("with a priority")

	waiting := make(chan error, 1)
	go func() {
		_, err := s.Next(b.ctx)
		waiting <- err
	}()
	b.close(s)
	if err := b.promptly("Next at Close", func() error { return <-waiting }); err == nil {
		b.Error("Next returned a message after Close")
	}
	// What comes too late goes nowhere: nothing is left of the queue.
	b.eventually("the queue's end", func() error {
		p := transports.Publishing{Exchange: x, RoutingKey: key, ExchangeType: "direct", Message: text("late"), Mandatory: true}
		if err := other.Publish(b.ctx, p); !errors.Is(err, transports.ErrRefused) {
			return errors.New("still there")
		}
		return nil
	})
}

// events go through a topic exchange whether or not the publisher knows of a listener.
func events(b *bench) {
	x := b.Name()
	publisher := b.dial()
	send := func(key string) {
		b.Helper()
		p := transports.Publishing{
			Exchange: x, ExchangeType: "topic", ExchangeDurable: true, Broadcast: true, RoutingKey: key, Message: text(key),
		}
		if err := b.promptly("Publish", func() error { return publisher.Publish(b.ctx, p) }); err != nil {
			b.Fatalf("Publish: %v", err)
		}
	}
	send("worker.online") // nobody listens yet
	args := protocol.ObjectOf(protocol.Member{Key: "x-expires", Value: int64(60_000)}, protocol.Member{Key: "x-message-ttl", Value: int64(5000)})
	subscribe := func(pattern string) transports.Subscription {
		s, err := b.dial().Subscribe(b.ctx, transports.Fanout{
			Exchange: x, Type: "topic", Durable: true, RoutingKey: pattern, Queue: b.Name(), Arguments: args, Exclusive: true,
		})
		if err != nil {
			b.Fatalf("Subscribe: %v", err)
		}
		return s
	}
	all, workers := subscribe("#"), subscribe("worker.#")
	for _, key := range []string{"task.multi", "worker.heartbeat", "worker.offline"} {
		send(key)
	}
	for s, want := range map[transports.Subscription][]string{
		all: {"task.multi", "worker.heartbeat", "worker.offline"}, workers: {"worker.heartbeat", "worker.offline"},
	} {
		for _, key := range want {
			m := b.next(s)
			b.same(m, text(key))
			if m.Exchange != x || m.RoutingKey != key {
				b.Errorf("came from %q by %q, want %q by %q", m.Exchange, m.RoutingKey, x, key)
			}
		}
	}
}

// next is what a subscription hears next; something must come.
func (b *bench) next(s transports.Subscription) protocol.Message {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, b.patience())
	defer cancel()
	m, err := s.Next(ctx)
	if err != nil {
		b.Fatalf("Next: %v", err)
	}
	return m
}
