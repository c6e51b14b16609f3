package transporttest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func acked(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 1, q)
	b.send(c, q, "one")
	d := b.receive(k)
	b.open("Lost", d.Receipt.Lost())
	b.ack(d)
	b.nothing(k)
	b.close(c)
	b.open("Lost after the ack", d.Receipt.Lost())
	b.empty(q)
}

func requeue(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 1, q)
	m := text("again")
	m.Properties.ReplyTo = "r"
	if err := c.Publish(b.ctx, transports.Publishing{RoutingKey: q, Message: m}); err != nil {
		b.Fatalf("Publish: %v", err)
	}
	d := b.receive(k)
	for range 3 {
		if err := d.Receipt.Reject(b.ctx, true); err != nil {
			b.Fatalf("Reject: %v", err)
		}
		d = b.receive(k)
		if !d.Redelivered {
			b.Error("Redelivered = false after a requeue")
		}
		b.same(d.Message, m)
	}
	b.ack(d)
	b.nothing(k)
}

func giveUp(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 1, q)
	b.send(c, q, "bad")
	d := b.receive(k)
	if err := d.Receipt.Reject(b.ctx, false); err != nil {
		b.Fatalf("Reject: %v", err)
	}
	b.nothing(k)
	b.close(c)
	b.empty(q)
}

func counted(b *bench) {
	c, q := b.dial(), b.Name()
	args := protocol.ObjectOf(protocol.Member{Key: "x-queue-type", Value: "quorum"})
	k, err := c.Consume(b.ctx, []transports.Queue{{Name: q, Create: true, Arguments: args}}, 1)
	if err != nil {
		b.Fatalf("Consume: %v", err)
	}
	b.send(c, q, "counted")
	for n := 1; n <= 3; n++ {
		d := b.receive(k)
		want := n
		if !b.Counts {
			want = 0
		}
		if d.Count != want {
			b.Errorf("delivery %d: Count = %d, want %d", n, d.Count, want)
		}
		if n < 3 {
			err = d.Receipt.Reject(b.ctx, true)
		} else {
			err = d.Receipt.Ack(b.ctx)
		}
		if err != nil {
			b.Fatalf("settling: %v", err)
		}
	}
}

func move(b *bench) {
	c, q, target := b.dial(), b.Name(), b.Name()
	k := b.consume(c, 1, q)
	m := text("unreadable") // its id and correlation id are text everywhere; only a body may be any bytes
	m.Body = []byte("unreadable \x00\xff")
	m.Headers.Set("eta", "not a date")
	m.Properties.Priority, m.Properties.ReplyTo = new(3), "r"
	if err := c.Publish(b.ctx, transports.Publishing{RoutingKey: q, Message: m}); err != nil {
		b.Fatalf("Publish: %v", err)
	}
	if err := b.receive(k).Receipt.Move(b.ctx, target); err != nil { // target is missing: Move creates it
		b.Fatalf("Move: %v", err)
	}
	b.nothing(k)
	d := b.receive(b.consume(c, 1, target))
	b.same(d.Message, m)
	b.ack(d)

	b.send(c, q, "second") // and into one that exists
	if err := b.receive(k).Receipt.Move(b.ctx, target); err != nil {
		b.Fatalf("Move: %v", err)
	}
	b.close(c)
	k = b.consume(b.dial(), 1, target)
	d = b.receive(k)
	b.wantBodies([]*transports.Delivery{d}, []string{"second"})
	b.ack(d)
	b.empty(q)
}

// settlings are all ways to settle. target is a queue for Move.
func settlings(target string) map[string]func(context.Context, transports.Receipt) error {
	return map[string]func(context.Context, transports.Receipt) error{
		"ack":                    func(ctx context.Context, r transports.Receipt) error { return r.Ack(ctx) },
		"reject":                 func(ctx context.Context, r transports.Receipt) error { return r.Reject(ctx, false) },
		"reject with requeueing": func(ctx context.Context, r transports.Receipt) error { return r.Reject(ctx, true) },
		"move":                   func(ctx context.Context, r transports.Receipt) error { return r.Move(ctx, target) },
	}
}

func settledTwice(b *bench) {
	c, q, target := b.dial(), b.Name(), b.Name()
	b.create(c, transports.Queue{Name: target})
	for name, first := range settlings(target) {
		k := b.consume(c, 1, q)
		b.send(c, q, "twice")
		d := b.receive(k)
		b.close(k) // what a requeue returns shall not come back here
		if err := first(b.ctx, d.Receipt); err != nil {
			b.Fatalf("%s: %v", name, err)
		}
		for again, second := range settlings(target) {
			if err := second(b.ctx, d.Receipt); !errors.Is(err, transports.ErrSettled) {
				b.Errorf("%s after %s: %v, want ErrSettled", again, name, err)
			}
		}
		// None of the second ones did anything.
		k = b.consume(c, 10, q, target)
		if name == "reject with requeueing" || name == "move" {
			b.ack(b.receive(k))
		}
		b.nothing(k)
		b.close(k)
	}
}

func settledAtOnce(b *bench) {
	c, q, target := b.dial(), b.Name(), b.Name()
	k := b.consume(c, 1, q)
	b.create(c, transports.Queue{Name: target})
	for round := range 5 {
		b.send(c, q, numbered(5)[round])
		d := b.receive(k)
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 4 {
			for name, settle := range settlings(target) {
				if name == "reject with requeueing" {
					continue // it would come back to k
				}
				wg.Go(func() {
					switch err := settle(b.ctx, d.Receipt); {
					case err == nil:
						won.Add(1)
					case !errors.Is(err, transports.ErrSettled):
						b.Errorf("%s: %v, want nil or ErrSettled", name, err)
					}
				})
			}
		}
		wg.Wait()
		if won.Load() != 1 {
			b.Errorf("%d settlings of one delivery succeeded, want 1", won.Load())
		}
	}
}
