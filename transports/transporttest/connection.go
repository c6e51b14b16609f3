package transporttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stalkworker/stalk/transports"
)

func closeReturns(b *bench) {
	q := b.Name()
	c := b.dial()
	k := b.consume(c, 4, q)
	b.send(c, q, numbered(5)...)
	held := b.receiveAll(k, 3) // a fourth may be fetched, a fifth waits
	b.ack(held[1])
	b.close(c)
	for _, d := range []*transports.Delivery{held[0], held[2]} {
		b.closed("Lost after Close", d.Receipt.Lost())
		err := b.promptly("Ack after Close", func() error { return d.Receipt.Ack(b.ctx) })
		if !errors.Is(err, transports.ErrLost) && !errors.Is(err, transports.ErrDisconnected) {
			b.Errorf("Ack after Close: %v, want ErrLost or ErrDisconnected", err)
		}
	}
	other := b.consume(b.dial(), 10, q)
	ds := b.receiveAll(other, 4)
	b.nothing(other)
	b.wantSet(ds, []string{"m000", "m002", "m003", "m004"})
	for _, d := range ds {
		if body := string(d.Message.Body); (body == "m000" || body == "m002") && !d.Redelivered {
			b.Errorf("%s was returned by a Close and is not marked redelivered", body)
		}
	}
	b.ack(ds...)
}

func done(b *bench) {
	if b.Transport().String() == "" {
		b.Error("Transport.String is empty")
	}
	c := b.dial()
	b.open("Done", c.Done())
	if err := c.Err(); err != nil {
		b.Errorf("Err of a living connection: %v", err)
	}
	b.close(c)
	b.closed("Done after Close", c.Done())
	if err := c.Err(); err != nil {
		b.Errorf("Err after Close: %v, want nil", err)
	}
	b.close(c) // twice is allowed
}

func afterClose(b *bench) {
	q, x := b.Name(), b.Name()
	c := b.dial()
	k := b.consume(c, 1, q)
	s, err := c.Subscribe(b.ctx, transports.Fanout{Exchange: x, Type: "fanout", Queue: b.Name()})
	if err != nil {
		b.Fatalf("Subscribe: %v", err)
	}
	b.close(c)
	for what, do := range map[string]func() error{
		"Publish": func() error {
			return c.Publish(b.ctx, transports.Publishing{RoutingKey: q, Message: text("late")})
		},
		"Consume":   func() error { _, err := c.Consume(b.ctx, queues(q), 1); return err },
		"Subscribe": func() error { _, err := c.Subscribe(b.ctx, transports.Fanout{Exchange: x, Type: "fanout"}); return err },
		"Receive":   func() error { _, err := k.Receive(b.ctx); return err },
		"SetWindow": func() error { return k.SetWindow(b.ctx, 2) },
		"SetQueues": func() error { return k.SetQueues(b.ctx, queues(q)) },
		"Next":      func() error { _, err := s.Next(b.ctx); return err },
	} {
		if err := b.promptly(what, do); !errors.Is(err, transports.ErrDisconnected) {
			b.Errorf("%s after Conn.Close: %v, want ErrDisconnected", what, err)
		}
	}
	b.empty(q) // the late publish did not happen
}

func closeReleases(b *bench) {
	c := b.dial()
	k := b.consume(c, 1, b.Name())
	s, err := c.Subscribe(b.ctx, transports.Fanout{Exchange: b.Name(), Type: "fanout", Queue: b.Name()})
	if err != nil {
		b.Fatalf("Subscribe: %v", err)
	}
	receive, next := make(chan error, 1), make(chan error, 1)
	go func() { _, err := k.Receive(b.ctx); receive <- err }()
	go func() { _, err := s.Next(b.ctx); next <- err }()
	time.Sleep(b.quiet() / 4) // usually both wait by then; sooner is right too
	b.close(c)
	for what, ch := range map[string]chan error{"Receive": receive, "Next": next} {
		if err := b.promptly(what, func() error { return <-ch }); !errors.Is(err, transports.ErrDisconnected) {
			b.Errorf("%s released by Close: %v, want ErrDisconnected", what, err)
		}
	}
}

func connectContext(b *bench) {
	t, q := b.Transport(), b.Name()
	over, cancel := context.WithCancel(b.ctx)
	cancel()
	err := b.promptly("Connect", func() error {
		c, err := t.Connect(over)
		if err == nil {
			err = c.Close()
			b.Errorf("Connect succeeded on a context that was over")
		}
		return err
	})
	if err == nil {
		b.Error("no error")
	}
	ctx, cancel := context.WithCancel(b.ctx)
	c, err := t.Connect(ctx)
	if err != nil {
		b.Fatalf("Connect: %v", err)
	}
	defer c.Close()
	cancel()
	k := b.consume(c, 1, q)
	b.send(c, q, "one")
	b.ack(b.receive(k))
}

func cut(b *bench) {
	if b.Cut == nil {
		b.Skip("this factory cannot cut connections")
	}
	t, q := b.Transport(), b.Name()
	c := b.connect(t)
	k := b.consume(c, 4, q)
	b.send(c, q, numbered(6)...)
	held := b.receiveAll(k, 2)
	waiting := make(chan error, 1)
	go func() {
		for { // it may be handed the fetched ones first; held is read again after the error
			d, err := k.Receive(b.ctx)
			if err != nil {
				waiting <- err
				return
			}
			held = append(held, d)
		}
	}()
	b.Cut()
	b.closed("Done after a cut", c.Done())
	if err := c.Err(); !errors.Is(err, transports.ErrDisconnected) {
		b.Errorf("Err after a cut: %v, want ErrDisconnected", err)
	}
	if err := b.promptly("Receive", func() error { return <-waiting }); !errors.Is(err, transports.ErrDisconnected) {
		b.Errorf("Receive through a cut: %v, want ErrDisconnected", err)
	}
	err := b.promptly("Publish", func() error {
		return c.Publish(b.ctx, transports.Publishing{RoutingKey: q, Message: text("late")})
	})
	if !errors.Is(err, transports.ErrDisconnected) {
		b.Errorf("Publish after a cut: %v, want ErrDisconnected", err)
	}
	if err := c.Close(); err != nil && !errors.Is(err, transports.ErrDisconnected) {
		b.Errorf("Close after a cut: %v", err)
	}

	next := b.connect(t)
	want := numbered(6)
	received := bodiesOf(held)
	if b.Leases { // what was received is still ours; what was fetched only must come back
		for _, d := range held {
			b.eventually("Ack through the next connection", func() error { return d.Receipt.Ack(b.ctx) })
		}
		want = slices.DeleteFunc(want, func(body string) bool { return slices.Contains(received, body) })
	}
	k = b.consume(next, 10, q)
	ds := b.receiveAll(k, len(want))
	b.nothing(k)
	b.wantSet(ds, want)
	for _, d := range ds {
		if slices.Contains(received, string(d.Message.Body)) && !d.Redelivered {
			b.Errorf("%s was delivered before the cut and is not marked redelivered", d.Message.Body)
		}
	}
	b.ack(ds...)
	b.close(next)
	b.empty(q)
}

func lost(b *bench) {
	if b.Cut == nil {
		b.Skip("this factory cannot cut connections")
	}
	t, q := b.Transport(), b.Name()
	c := b.connect(t)
	k := b.consume(c, 1, q)
	b.send(c, q, "one")
	d := b.receive(k)
	b.Cut()
	b.closed("Done after a cut", c.Done())
	next := b.connect(t)
	if b.Leases {
		b.open("Lost of a leased delivery", d.Receipt.Lost())
		b.eventually("Ack through the next connection", func() error { return d.Receipt.Ack(b.ctx) })
		b.nothing(b.consume(next, 1, q))
		return
	}
	b.closed("Lost after a cut", d.Receipt.Lost())
	if err := d.Receipt.Ack(b.ctx); !errors.Is(err, transports.ErrLost) && !errors.Is(err, transports.ErrDisconnected) {
		b.Errorf("Ack after a cut: %v, want ErrLost or ErrDisconnected", err)
	}
	again := b.receive(b.consume(next, 1, q))
	b.wantBodies([]*transports.Delivery{again}, []string{"one"})
	b.ack(again)
}

func together(b *bench) {
	const publishers, each = 4, 50
	q := b.Name()
	c1, c2 := b.dial(), b.dial()
	ctx, cancel := context.WithTimeout(b.ctx, 2*b.patience())
	defer cancel()
	ks := []transports.Consumer{b.consume(c1, 8, q), b.consume(c2, 8, q)}

	var mu sync.Mutex // guards seen and left
	seen, left := map[string]int{}, publishers*each
	work := make(chan *transports.Delivery)
	receiving, stop := context.WithCancel(ctx)
	defer stop()

	var receivers, others sync.WaitGroup
	for _, k := range ks {
		receivers.Go(func() {
			for {
				d, err := k.Receive(receiving)
				if err != nil {
					if receiving.Err() == nil {
						b.Errorf("Receive: %v", err)
					}
					return
				}
				work <- d
			}
		})
		others.Go(func() { // windows change meanwhile
			for n := 1; n <= 20; n++ {
				if err := k.SetWindow(ctx, 4+n%8); err != nil {
					b.Errorf("SetWindow: %v", err)
				}
			}
		})
	}
	for p := range publishers {
		others.Go(func() {
			c := []transports.Conn{c1, c2}[p%2]
			for i := range each {
				pub := transports.Publishing{RoutingKey: q, Message: text(fmt.Sprintf("%d-%d", p, i)), Mandatory: true}
				if err := c.Publish(ctx, pub); err != nil {
					b.Errorf("Publish: %v", err)
				}
			}
		})
	}
	for range 6 {
		others.Go(func() {
			for d := range work {
				if err := d.Receipt.Ack(ctx); err != nil {
					b.Errorf("Ack: %v", err)
				}
				mu.Lock()
				seen[string(d.Message.Body)]++
				left--
				if left == 0 {
					stop()
				}
				mu.Unlock()
			}
		})
	}
	receivers.Wait()
	close(work)
	others.Wait()
	if left != 0 {
		b.Errorf("%d deliveries are missing", left)
	}
	for body, n := range seen {
		if n != 1 {
			b.Errorf("%s was delivered %d times", body, n)
		}
	}
	b.close(c1)
	b.close(c2)
	b.empty(q)
}
