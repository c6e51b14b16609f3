package transporttest

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// A bench is one case at work.
type bench struct {
	*testing.T
	Broker
	ctx context.Context // ends when the case has used far more than its patience
}

func newBench(t *testing.T, f Factory) *bench {
	t.Helper()
	b := &bench{T: t, Broker: f(t)}
	if b.Transport == nil || b.Name == nil {
		t.Fatal("transporttest: Broker.Transport and Broker.Name are required")
	}
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if !t.Failed() {
			goleak.VerifyNone(t, ignore)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 6*b.patience())
	t.Cleanup(cancel)
	b.ctx = ctx
	return b
}

// connect opens a Conn of t that is closed at the end. It tries again while the broker is away: after a cut
// it may need a moment.
func (b *bench) connect(t transports.Transport) transports.Conn {
	b.Helper()
	var c transports.Conn
	b.eventually("connect", func() (err error) {
		c, err = t.Connect(b.ctx)
		return err
	})
	b.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, transports.ErrDisconnected) {
			b.Errorf("Conn.Close: %v", err)
		}
	})
	return c
}

// dial opens a Conn of a new Transport.
func (b *bench) dial() transports.Conn { b.Helper(); return b.connect(b.Transport()) }

// consume takes from the queues, creating them.
func (b *bench) consume(c transports.Conn, window int, names ...string) transports.Consumer {
	b.Helper()
	k, err := c.Consume(b.ctx, queues(names...), window)
	if err != nil {
		b.Fatalf("Consume(%q): %v", names, err)
	}
	return k
}

func queues(names ...string) []transports.Queue {
	qs := make([]transports.Queue, len(names))
	for i, name := range names {
		qs[i] = transports.Queue{Name: name, Create: true}
	}
	return qs
}

// create makes a queue by consuming from it for a moment.
func (b *bench) create(c transports.Conn, q transports.Queue) {
	b.Helper()
	q.Create = true
	k, err := c.Consume(b.ctx, []transports.Queue{q}, 1)
	if err != nil {
		b.Fatalf("Consume(%q): %v", q.Name, err)
	}
	if err := k.Close(); err != nil {
		b.Fatalf("Consumer.Close: %v", err)
	}
}

// text is a small message.
func text(body string) protocol.Message {
	return protocol.Message{
		Headers: protocol.ObjectOf(protocol.Member{Key: "task", Value: "suite"}, protocol.Member{Key: "id", Value: body}),
		Properties: protocol.Properties{
			ContentType: "application/json", ContentEncoding: "utf-8", CorrelationID: body, DeliveryMode: 2,
		},
		Body: []byte(body),
	}
}

// send publishes small messages to a queue that exists.
func (b *bench) send(c transports.Conn, queue string, bodies ...string) {
	b.Helper()
	for _, body := range bodies {
		p := transports.Publishing{RoutingKey: queue, Message: text(body), Mandatory: true}
		if err := c.Publish(b.ctx, p); err != nil {
			b.Fatalf("Publish(%q): %v", body, err)
		}
	}
}

// receive is the next delivery, which must come.
func (b *bench) receive(k transports.Consumer) *transports.Delivery {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, b.patience())
	defer cancel()
	d, err := k.Receive(ctx)
	if err != nil {
		b.Fatalf("Receive: %v", err)
	}
	if d == nil || d.Receipt == nil {
		b.Fatalf("Receive = %+v, want a delivery with a receipt", d)
	}
	if d.Malformed != nil {
		b.Fatalf("Receive: malformed: %v", d.Malformed)
	}
	return d
}

// receiveAll receives n deliveries, in the order they came.
func (b *bench) receiveAll(k transports.Consumer, n int) []*transports.Delivery {
	b.Helper()
	ds := make([]*transports.Delivery, n)
	for i := range ds {
		ds[i] = b.receive(k)
	}
	return ds
}

// nothing checks that no delivery comes.
func (b *bench) nothing(k transports.Consumer) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, b.quiet())
	defer cancel()
	switch d, err := k.Receive(ctx); {
	case err == nil:
		b.Fatalf("Receive = %q (redelivered %v), want nothing", d.Message.Body, d.Redelivered)
	case !errors.Is(err, context.DeadlineExceeded):
		b.Fatalf("Receive: %v, want the context's error", err)
	}
}

// empty checks that the queue holds nothing more, for a consumer of its own.
func (b *bench) empty(queue string) {
	b.Helper()
	c := b.dial()
	k := b.consume(c, 10, queue)
	b.nothing(k)
	if err := c.Close(); err != nil {
		b.Fatalf("Conn.Close: %v", err)
	}
}

func (b *bench) ack(ds ...*transports.Delivery) {
	b.Helper()
	for _, d := range ds {
		if err := d.Receipt.Ack(b.ctx); err != nil {
			b.Fatalf("Ack(%q): %v", d.Message.Body, err)
		}
	}
}

func (b *bench) close(c interface{ Close() error }) {
	b.Helper()
	if err := c.Close(); err != nil {
		b.Fatalf("%T.Close: %v", c, err)
	}
}

// eventually repeats try until it succeeds.
func (b *bench) eventually(what string, try func() error) {
	b.Helper()
	deadline := time.Now().Add(b.patience())
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s: still %v after %v", what, err, b.patience())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// promptly runs do, which may not hang, and returns its error.
func (b *bench) promptly(what string, do func() error) error {
	b.Helper()
	got := make(chan error, 1)
	go func() { got <- do() }()
	select {
	case err := <-got:
		return err
	case <-time.After(b.patience() / 2):
		b.Fatalf("%s: no answer within %v", what, b.patience()/2)
		return nil
	}
}

// closed waits until ch is closed.
func (b *bench) closed(what string, ch <-chan struct{}) {
	b.Helper()
	select {
	case <-ch:
	case <-time.After(b.patience()):
		b.Fatalf("%s is not closed after %v", what, b.patience())
	}
}

// open checks that ch is not closed.
func (b *bench) open(what string, ch <-chan struct{}) {
	b.Helper()
	select {
	case <-ch:
		b.Errorf("%s is closed, want open", what)
	default:
	}
}

// same compares what a broker must carry of a message; where it was published is not among it.
func (b *bench) same(got, want protocol.Message) {
	b.Helper()
	got.Exchange, got.RoutingKey, want.Exchange, want.RoutingKey = "", "", "", ""
	got.Properties.Extra, want.Properties.Extra = nil, nil
	if got.Properties.Priority == nil { // AMQP cannot tell 0 from absent
		got.Properties.Priority = new(int)
	}
	if want.Properties.Priority == nil {
		want.Properties.Priority = new(int)
	}
	object := gocmp.Transformer("members", func(o *protocol.Object) []protocol.Member {
		ms := append([]protocol.Member{}, o.Members()...)
		if !b.HeaderOrder {
			slices.SortFunc(ms, func(x, y protocol.Member) int { return compare(x.Key, y.Key) })
		}
		return ms
	})
	integer := gocmp.Comparer(func(x, y *big.Int) bool { return x.Cmp(y) == 0 })
	if diff := gocmp.Diff(want, got, object, integer, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
		b.Errorf("message changed on its way (-sent +received):\n%s", diff)
	}
}

func compare(x, y string) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// bodiesOf is what was delivered, as text.
func bodiesOf(ds []*transports.Delivery) []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = string(d.Message.Body)
	}
	return out
}

// numbered is n bodies: m000, m001, ...
func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("m%03d", i)
	}
	return out
}

// wantBodies compares in order.
func (b *bench) wantBodies(ds []*transports.Delivery, want []string) {
	b.Helper()
	if diff := gocmp.Diff(want, bodiesOf(ds)); diff != "" {
		b.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

// wantSet compares in any order.
func (b *bench) wantSet(ds []*transports.Delivery, want []string) {
	b.Helper()
	got, want := bodiesOf(ds), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	if diff := gocmp.Diff(want, got); diff != "" {
		b.Errorf("deliveries, sorted (-want +got):\n%s", diff)
	}
}
