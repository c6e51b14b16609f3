package transporttest

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func exact(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 1, q)
	m := protocol.Message{
		Headers: protocol.ObjectOf(
			protocol.Member{Key: "lang", Value: "py"},
			protocol.Member{Key: "task", Value: "café.\U0001F600"},
			protocol.Member{Key: "none", Value: nil},
			protocol.Member{Key: "yes", Value: true},
			protocol.Member{Key: "no", Value: false},
			protocol.Member{Key: "zero", Value: int64(0)},
			protocol.Member{Key: "small", Value: int64(-5)},
			protocol.Member{Key: "most", Value: int64(math.MaxInt64)},
			protocol.Member{Key: "least", Value: int64(math.MinInt64)},
			protocol.Member{Key: "half", Value: 0.5},
			protocol.Member{Key: "three", Value: 3.0},
			protocol.Member{Key: "empty", Value: ""},
			protocol.Member{Key: "long", Value: string(bytes.Repeat([]byte("x"), 70_000))},
			protocol.Member{Key: "list", Value: []protocol.Value{nil, int64(1), "two", []protocol.Value{3.5}}},
			protocol.Member{Key: "no list", Value: []protocol.Value{}},
			protocol.Member{Key: "object", Value: protocol.ObjectOf(
				protocol.Member{Key: "z", Value: protocol.ObjectOf(protocol.Member{Key: "deep", Value: []protocol.Value{true}})},
				protocol.Member{Key: "a", Value: nil},
			)},
			protocol.Member{Key: "no object", Value: &protocol.Object{}},
		),
		Properties: protocol.Properties{
			ContentType: "application/json", ContentEncoding: "utf-8", CorrelationID: "c-1", ReplyTo: "r-1",
			DeliveryMode: 2, Priority: new(3), MessageID: "m-1", Type: "t", AppID: "suite", Expiration: "600000",
		},
		Body: []byte(`[[1, 2.50], {"x": "\u00e9"}, {"callbacks": null}]`),
	}
	for _, extra := range b.Headers.Members() {
		m.Headers.Set(extra.Key, extra.Value)
	}
	if err := c.Publish(b.ctx, transports.Publishing{RoutingKey: q, Message: m, Mandatory: true}); err != nil {
		b.Fatalf("Publish: %v", err)
	}
	d := b.receive(k)
	b.same(d.Message, m)
	if d.Queue != q || d.Message.RoutingKey != q || d.Message.Exchange != "" {
		b.Errorf("queue %q, exchange %q, routing key %q; want %q, \"\", %q", d.Queue, d.Message.Exchange, d.Message.RoutingKey, q, q)
	}
	if d.Redelivered {
		b.Error("Redelivered at the first delivery")
	}
	b.ack(d)
}

func bodies(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 1, q)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, body := range [][]byte{{}, all, bytes.Repeat(all, 4096)} {
		m := text("")
		m.Body, m.Properties.ContentType, m.Properties.ContentEncoding = body, "application/x-msgpack", "binary"
		if err := c.Publish(b.ctx, transports.Publishing{RoutingKey: q, Message: m}); err != nil {
			b.Fatalf("Publish of %d bytes: %v", len(body), err)
		}
		d := b.receive(k)
		if !bytes.Equal(d.Message.Body, body) {
			b.Errorf("a body of %d bytes arrived as %d other ones", len(body), len(d.Message.Body))
		}
		b.ack(d)
	}
}

func fifo(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 7, q)
	want := numbered(40)
	b.send(c, q, want...)
	var ds []*transports.Delivery
	for range want {
		d := b.receive(k)
		b.ack(d)
		ds = append(ds, d)
	}
	b.wantBodies(ds, want)
}

func priorities(b *bench) {
	if b.Order == Unordered {
		b.Skip("this broker does not look at priorities")
	}
	c, q := b.dial(), b.Name()
	args := protocol.ObjectOf(protocol.Member{Key: "x-max-priority", Value: int64(10)})
	b.create(c, transports.Queue{Name: q, Arguments: args})
	for _, body := range []string{"a6", "b0", "c9", "d3", "e9", "f0", "g6", "h3"} {
		m := text(body)
		m.Properties.Priority = new(int(body[1] - '0'))
		if err := c.Publish(b.ctx, transports.Publishing{RoutingKey: q, Message: m}); err != nil {
			b.Fatalf("Publish: %v", err)
		}
	}
	want := []string{"b0", "f0", "d3", "h3", "a6", "g6", "c9", "e9"}
	if b.Order == HighFirst {
		want = []string{"c9", "e9", "a6", "g6", "d3", "h3", "b0", "f0"}
	}
	k, err := c.Consume(b.ctx, []transports.Queue{{Name: q, Create: true, Arguments: args}}, 20)
	if err != nil {
		b.Fatalf("Consume: %v", err)
	}
	ds := b.receiveAll(k, len(want))
	b.wantBodies(ds, want)
	b.ack(ds...)
}

func window(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 2, q)
	b.send(c, q, numbered(4)...)
	first, second := b.receive(k), b.receive(k)
	b.nothing(k)
	b.ack(second)
	third := b.receive(k)
	b.nothing(k)
	if err := first.Receipt.Reject(b.ctx, false); err != nil {
		b.Fatalf("Reject: %v", err)
	}
	fourth := b.receive(k)
	b.wantBodies([]*transports.Delivery{first, second, third, fourth}, numbered(4))
	b.ack(third, fourth)
}

func setWindow(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 1, q)
	b.send(c, q, numbered(6)...)
	ds := []*transports.Delivery{b.receive(k)}

	type answer struct {
		d   *transports.Delivery
		err error
	}
	got := make(chan answer, 1)
	ctx, cancel := context.WithTimeout(b.ctx, b.patience())
	defer cancel()
	go func() {
		d, err := k.Receive(ctx)
		got <- answer{d, err}
	}()
	select {
	case a := <-got:
		b.Fatalf("Receive past the window = %+v, %v", a.d, a.err)
	case <-time.After(b.quiet()):
	}
	if err := k.SetWindow(b.ctx, 3); err != nil {
		b.Fatalf("SetWindow(3): %v", err)
	}
	a := <-got
	if a.err != nil {
		b.Fatalf("Receive after SetWindow(3): %v", a.err)
	}
	ds = append(ds, a.d, b.receive(k))
	b.nothing(k)

	if err := k.SetWindow(b.ctx, 1); err != nil {
		b.Fatalf("SetWindow(1): %v", err)
	}
	b.ack(ds[0], ds[1])
	b.nothing(k) // one is unsettled still
	b.ack(ds[2])
	last := b.receive(k)
	b.nothing(k)
	b.ack(last)
	ds = append(ds, last)
	if err := k.SetWindow(b.ctx, 10); err != nil {
		b.Fatalf("SetWindow(10): %v", err)
	}
	rest := b.receiveAll(k, 2)
	b.ack(rest...)
	b.wantSet(append(ds, rest...), numbered(6))
}

func narrower(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 10, q)
	b.send(c, q, numbered(10)...)
	held := b.receive(k)
	if err := k.SetWindow(b.ctx, 1); err != nil {
		b.Fatalf("SetWindow(1): %v", err)
	}
	other := b.consume(b.dial(), 10, q)
	n := 9
	if b.Beside {
		n--
	}
	rest := b.receiveAll(other, n)
	b.open("Lost", held.Receipt.Lost())
	b.ack(held)
	b.ack(rest...)
	b.send(c, q, "later")
	b.close(other)
	rest = append(rest, held)
	for len(rest) < 11 {
		d := b.receive(k)
		b.ack(d)
		rest = append(rest, d)
	}
	b.wantSet(rest, append(numbered(10), "later"))
}

func cancelledReceive(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 5, q)
	want := numbered(200)
	sent := make(chan error, 1)
	go func() {
		var err error
		for i, body := range want {
			err = errors.Join(err, c.Publish(b.ctx, transports.Publishing{RoutingKey: q, Message: text(body)}))
			if i%20 == 0 {
				time.Sleep(5 * time.Millisecond) // let the receiver find the queue empty
			}
		}
		sent <- err
	}()
	var ds []*transports.Delivery
	cancelled := 0
	for deadline := time.Now().Add(2 * b.patience()); len(ds) < len(want) && time.Now().Before(deadline); {
		ctx, cancel := context.WithTimeout(b.ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
		d, err := k.Receive(ctx)
		cancel()
		switch {
		case err == nil:
			if d.Redelivered {
				b.Errorf("%q came redelivered: a cancelled Receive gave it back", d.Message.Body)
			}
			b.ack(d)
			ds = append(ds, d)
		case errors.Is(err, context.DeadlineExceeded):
			cancelled++
		default:
			b.Fatalf("Receive: %v", err)
		}
	}
	if err := <-sent; err != nil {
		b.Fatalf("Publish: %v", err)
	}
	b.Logf("%d received, %d cancelled", len(ds), cancelled)
	b.wantBodies(ds, want)
	b.nothing(k)
}

func setQueues(b *bench) {
	c, q1, q2, q3 := b.dial(), b.Name(), b.Name(), b.Name()
	for _, q := range []string{q2, q3} {
		b.create(c, transports.Queue{Name: q})
	}
	k := b.consume(c, 10, q1)
	b.send(c, q1, "one")
	b.send(c, q2, "two")
	one := b.receive(k)
	b.nothing(k)
	if err := k.SetQueues(b.ctx, queues(q1, q2)); err != nil {
		b.Fatalf("SetQueues: %v", err)
	}
	two := b.receive(k)
	if two.Queue != q2 {
		b.Errorf("Queue = %q, want %q", two.Queue, q2)
	}
	if err := k.SetQueues(b.ctx, queues(q2, q3)); err != nil {
		b.Fatalf("SetQueues: %v", err)
	}
	b.send(c, q1, "left behind")
	b.send(c, q3, "three")
	three := b.receive(k)
	b.nothing(k)
	b.wantBodies([]*transports.Delivery{one, two, three}, []string{"one", "two", "three"})
	b.ack(one, two, three) // one's queue is not consumed any more, and one is still ours

	other := b.consume(b.dial(), 1, q1)
	d := b.receive(other)
	b.wantBodies([]*transports.Delivery{d}, []string{"left behind"})
	b.ack(d)
}

func severalQueues(b *bench) {
	c := b.dial()
	names := []string{b.Name(), b.Name(), b.Name()}
	k := b.consume(c, 30, names...)
	var want []string
	for _, q := range names {
		for _, body := range numbered(5) {
			want = append(want, q+body)
			b.send(c, q, q+body)
		}
	}
	ds := b.receiveAll(k, len(want))
	b.wantSet(ds, want)
	for _, d := range ds {
		if body := string(d.Message.Body); body[:len(body)-4] != d.Queue {
			b.Errorf("%q was delivered as of queue %q", body, d.Queue)
		}
	}
	b.ack(ds...)
}

func twoConsumers(b *bench) {
	q := b.Name()
	c1, c2 := b.dial(), b.dial()
	k1, k2 := b.consume(c1, 3, q), b.consume(c2, 3, q)
	b.send(c1, q, numbered(6)...)
	first, second := b.receiveAll(k1, 3), b.receiveAll(k2, 3)
	b.wantSet(slices.Concat(first, second), numbered(6))
	b.ack(first...)
	b.ack(second...)
}

func closeConsumer(b *bench) {
	c, q := b.dial(), b.Name()
	k := b.consume(c, 5, q)
	b.send(c, q, numbered(5)...)
	held := b.receive(k)
	b.close(k)
	if d, err := k.Receive(b.ctx); err == nil {
		b.Errorf("Receive after Close = %q, want an error", d.Message.Body)
	}
	other := b.consume(b.dial(), 5, q)
	rest := b.receiveAll(other, 4)
	b.nothing(other)
	b.wantSet(append(rest, held), numbered(5))
	b.open("Lost", held.Receipt.Lost())
	b.ack(held)
	b.ack(rest...)
	b.close(c)
	b.empty(q)
}
