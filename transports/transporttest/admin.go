package transporttest

import (
	"errors"
	"slices"

	"github.com/stalkworker/stalk/transports"
)

// admin is the QueueAdmin of a Conn; every broker here has one.
func (b *bench) admin(c transports.Conn) transports.QueueAdmin {
	b.Helper()
	a, ok := c.(transports.QueueAdmin)
	if !ok {
		b.Fatalf("%T is no QueueAdmin", c)
	}
	return a
}

func (b *bench) wantReady(a transports.QueueAdmin, queue string, want int) {
	b.Helper()
	b.eventually("size of "+queue, func() error {
		size, err := a.QueueSize(b.ctx, queue)
		if err == nil && size.Ready != want {
			err = errors.New("the queue has another size")
		}
		return err
	})
}

// sendAt publishes with a priority; on Redis each goes to another list.
func (b *bench) sendAt(c transports.Conn, queue string, priority int, body string) {
	b.Helper()
	m := text(body)
	m.Properties.Priority = &priority
	if err := c.Publish(b.ctx, transports.Publishing{RoutingKey: queue, Message: m, Mandatory: true}); err != nil {
		b.Fatalf("Publish: %v", err)
	}
}

func queueSize(b *bench) {
	c, q := b.dial(), b.Name()
	b.create(c, transports.Queue{Name: q})
	a := b.admin(c)
	b.wantReady(a, q, 0)
	for i, p := range []int{0, 3, 6, 9, 0} {
		b.sendAt(c, q, p, numbered(5)[i])
	}
	b.wantReady(a, q, 5)
	k := b.consume(b.dial(), 2, q)
	d := b.receiveAll(k, 2)
	b.wantReady(a, q, 3) // what is held does not wait
	switch size, err := a.QueueSize(b.ctx, q); {
	case err != nil:
		b.Errorf("QueueSize: %v", err)
	case size.Consumers != 1 && size.Consumers != -1:
		b.Errorf("Consumers = %d, want 1, or -1 for a broker that cannot tell", size.Consumers)
	}
	b.ack(d...)
}

func purge(b *bench) {
	c, q := b.dial(), b.Name()
	b.create(c, transports.Queue{Name: q})
	a := b.admin(c)
	for i, p := range []int{0, 3, 6, 9, 0} {
		b.sendAt(c, q, p, numbered(5)[i])
	}
	other := b.dial()
	k := b.consume(other, 1, q)
	held := b.receive(k)
	b.wantReady(a, q, 4)
	n, err := a.Purge(b.ctx, q)
	if err != nil || n != 4 {
		b.Fatalf("Purge = %d, %v; want 4", n, err)
	}
	if n, err := a.Purge(b.ctx, q); err != nil || n != 0 {
		b.Errorf("Purge of an empty queue = %d, %v; want 0", n, err)
	}
	b.ack(held) // what was held is untouched
	b.nothing(k)
	b.send(c, q, "after")
	b.ack(b.receive(k))
}

func peek(b *bench) {
	c, q := b.dial(), b.Name()
	b.create(c, transports.Queue{Name: q})
	b.send(c, q, numbered(5)...)
	a := b.admin(c)
	b.wantReady(a, q, 5)
	for range 2 {
		ds, err := a.Peek(b.ctx, q, 3)
		if err != nil {
			b.Fatalf("Peek: %v", err)
		}
		b.wantBodies(ds, numbered(5)[:3])
		b.same(ds[0].Message, text("m000"))
		b.wantReady(a, q, 5)
	}
	if ds, err := a.Peek(b.ctx, q, 100); err != nil || len(ds) != 5 {
		b.Errorf("Peek of all = %d messages, %v; want 5", len(ds), err)
	}
	b.wantReady(a, q, 5)
	k := b.consume(b.dial(), 5, q)
	ds := b.receiveAll(k, 5)
	b.wantBodies(ds, numbered(5)) // each in its old place
	b.ack(ds...)
	if ds, err := a.Peek(b.ctx, q, 3); err != nil || len(ds) != 0 {
		b.Errorf("Peek of an empty queue = %d messages, %v", len(ds), err)
	}
}

func noQueue(b *bench) {
	c := b.dial()
	a, missing := b.admin(c), b.Name()
	_, size := a.QueueSize(b.ctx, missing)
	_, purged := a.Purge(b.ctx, missing)
	_, seen := a.Peek(b.ctx, missing, 1)
	_, moved := a.Transfer(b.ctx, missing, "", 1, func(*transports.Delivery) bool { return true })
	for what, err := range map[string]error{"QueueSize": size, "Purge": purged, "Peek": seen, "Transfer": moved} {
		switch {
		case b.AnyQueue && err != nil:
			b.Errorf("%s of a queue nobody made: %v, want nil where every name is a queue", what, err)
		case !b.AnyQueue && !errors.Is(err, transports.ErrNoQueue):
			b.Errorf("%s of a missing queue: %v, want ErrNoQueue", what, err)
		}
	}
	// The connection has not suffered, and after its end it says so.
	q := b.Name()
	b.create(c, transports.Queue{Name: q})
	b.wantReady(a, q, 0)
	b.close(c)
	if _, err := a.QueueSize(b.ctx, q); !errors.Is(err, transports.ErrDisconnected) {
		b.Errorf("QueueSize after Close: %v, want ErrDisconnected", err)
	}
}

func transfer(b *bench) {
	c, from, to := b.dial(), b.Name(), b.Name()
	b.create(c, transports.Queue{Name: from})
	b.create(c, transports.Queue{Name: to})
	b.send(c, from, numbered(6)...)
	a := b.admin(c)
	b.wantReady(a, from, 6)
	pick := func(bodies ...string) func(*transports.Delivery) bool {
		return func(d *transports.Delivery) bool { return slices.Contains(bodies, string(d.Message.Body)) }
	}
	if n, err := a.Transfer(b.ctx, from, to, 4, pick("m001", "m003", "m005")); err != nil || n != 2 {
		b.Fatalf("Transfer = %d, %v; want the two of the first four", n, err)
	}
	if n, err := a.Transfer(b.ctx, from, "", 100, pick("m002")); err != nil || n != 1 {
		b.Fatalf("Transfer to nowhere = %d, %v; want 1", n, err)
	}
	missing := b.Name()
	switch n, err := a.Transfer(b.ctx, from, missing, 100, pick("m004")); {
	case b.AnyQueue && (err != nil || n != 1):
		b.Errorf("Transfer to a queue nobody made = %d, %v; want 1", n, err)
	case b.AnyQueue:
		if n, err := a.Transfer(b.ctx, missing, from, 1, pick("m004")); err != nil || n != 1 {
			b.Errorf("Transfer back = %d, %v; want 1", n, err)
		}
	case !errors.Is(err, transports.ErrRefused) || n != 0:
		b.Errorf("Transfer to a missing queue = %d, %v; want 0, ErrRefused", n, err)
	}
	b.wantReady(a, from, 3)
	b.wantReady(a, to, 2)

	k := b.consume(b.dial(), 10, to)
	ds := b.receiveAll(k, 2)
	b.wantBodies(ds, []string{"m001", "m003"})
	b.same(ds[0].Message, text("m001"))
	b.ack(ds...)
	k = b.consume(b.dial(), 10, from)
	ds = b.receiveAll(k, 3)
	if b.AnyQueue {
		b.wantSet(ds, []string{"m000", "m004", "m005"}) // m004 went there and back
	} else {
		b.wantBodies(ds, []string{"m000", "m004", "m005"})
	}
	b.ack(ds...)
}
