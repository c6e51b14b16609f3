package main

import (
	"context"
	"fmt"
	"os"
	"reflect"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// The decorators around what the worker talks to. Each does what is behind it and passes a point afterwards; whatever
// else the thing behind can do stays visible, which faithful checks.

type transport struct {
	transports.Transport
	p *points
}

// What the drivers can do besides, each by its kind.
type (
	rabbitTransport struct {
		transport
		transports.TimeLimiter
	}
	redisTransport struct {
		transport
		transports.Instancer
	}
	rabbitConn struct {
		conn
		rabbitOnly
	}
	rabbitOnly interface {
		transports.QueueAdmin
		transports.StartCounter
		transports.Delayer
	}
	redisConn struct {
		conn
		redisOnly
	}
	redisOnly interface {
		transports.QueueAdmin
		transports.StartCounter
		transports.BindingLister
	}
	rabbitReceipt struct {
		receipt
		transports.Parker
	}
)

func tapTransport(t transports.Transport, p *points) transports.Transport {
	if l, ok := t.(transports.TimeLimiter); ok {
		return faithful(t, transports.Transport(rabbitTransport{transport{t, p}, l}))
	}
	if i, ok := t.(transports.Instancer); ok {
		return faithful(t, transports.Transport(redisTransport{transport{t, p}, i}))
	}
	return faithful(t, transports.Transport(transport{t, p}))
}

func (t transport) Connect(ctx context.Context) (transports.Conn, error) {
	c, err := t.Transport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return tapConn(c, t.p), nil
}

type conn struct {
	transports.Conn
	p *points
}

func tapConn(c transports.Conn, p *points) transports.Conn {
	switch k := c.(type) {
	case redisOnly:
		return faithful(c, transports.Conn(redisConn{conn{c, p}, k}))
	case rabbitOnly:
		return faithful(c, transports.Conn(rabbitConn{conn{c, p}, k}))
	}
	return faithful(c, transports.Conn(conn{c, p}))
}

func (c conn) Publish(ctx context.Context, p transports.Publishing) error {
	err := c.Conn.Publish(ctx, p)
	if _, task := p.Message.Headers.Get("task"); err == nil && task {
		c.p.pass(published)
	}
	return err
}

func (c conn) Consume(ctx context.Context, queues []transports.Queue, window int) (transports.Consumer, error) {
	k, err := c.Conn.Consume(ctx, queues, window)
	if err != nil {
		return nil, err
	}
	return faithful(k, transports.Consumer(consumer{k, c.p})), nil
}

type consumer struct {
	transports.Consumer
	p *points
}

func (k consumer) Receive(ctx context.Context) (*transports.Delivery, error) {
	d, err := k.Consumer.Receive(ctx)
	if err != nil {
		return d, err
	}
	d.Receipt = tapReceipt(d.Receipt, k.p)
	k.p.pass(popped)
	return d, nil
}

type receipt struct {
	transports.Receipt
	p *points
}

func tapReceipt(r transports.Receipt, p *points) transports.Receipt {
	if k, ok := r.(transports.Parker); ok {
		return faithful(r, transports.Receipt(rabbitReceipt{receipt{r, p}, k}))
	}
	return faithful(r, transports.Receipt(receipt{r, p}))
}

// Return is what transports.Return makes of a driver's own, or of Reject.
func (r receipt) Return(ctx context.Context) error {
	err := transports.Return(ctx, r.Receipt)
	if err == nil {
		r.p.pass(acked)
	}
	return err
}

func (r receipt) Ack(ctx context.Context) error {
	err := r.Receipt.Ack(ctx)
	if err == nil {
		r.p.pass(acked)
	}
	return err
}

func (r receipt) Reject(ctx context.Context, requeue bool) error {
	err := r.Receipt.Reject(ctx, requeue)
	if err == nil {
		r.p.pass(acked)
	}
	return err
}

type backend struct {
	resultbackend.Backend
	p *points
}

func (b backend) Store(ctx context.Context, r resultbackend.Record) error {
	err := b.Backend.Store(ctx, r)
	switch {
	case err != nil:
	case r.Result.Status == protocol.Started:
		b.p.pass(recorded)
	case r.Result.Status.Ready():
		b.p.pass(stored)
	}
	return err
}

// replier is a store of the kind of rpc.
type replier struct {
	backend
	resultbackend.Replier
}

// keeper is a store of the kind of Redis.
type keeper struct {
	backend
	redisStore
	chords
}

type redisStore interface {
	resultbackend.Checker
	resultbackend.Loader
	resultbackend.Waiter
	resultbackend.Forgetter
	resultbackend.ChordLifetimer
	resultbackend.Checker
	resultbackend.StartCounter
	Warnings() []string
}

func tapBackend(b resultbackend.Backend, p *points) resultbackend.Backend {
	tapped := backend{b, p}
	if r, ok := b.(resultbackend.Replier); ok {
		return faithful(b, resultbackend.Backend(replier{tapped, r}))
	}
	if k, ok := b.(interface {
		redisStore
		resultbackend.Chords
	}); ok {
		return faithful(b, resultbackend.Backend(keeper{tapped, k, chords{k, p}}))
	}
	return faithful(b, resultbackend.Backend(tapped))
}

type chords struct {
	resultbackend.Chords
	p *points
}

func (c chords) Count(ctx context.Context, m resultbackend.Member) (resultbackend.Tally, error) {
	t, err := c.Chords.Count(ctx, m)
	if err == nil && t.State == resultbackend.Claimed {
		t.Claim = faithful(t.Claim, resultbackend.Claim(claim{t.Claim, c.p}))
		c.p.pass(claimed)
	}
	return t, err
}

type claim struct {
	resultbackend.Claim
	p *points
}

func (c claim) Finish(ctx context.Context) error {
	err := c.Claim.Finish(ctx)
	if err == nil {
		c.p.pass(finished)
	}
	return err
}

func (c claim) Fail(ctx context.Context) error {
	err := c.Claim.Fail(ctx)
	if err == nil {
		c.p.pass(finished)
	}
	return err
}

// faithful returns tapped, which must have every method that the thing behind it has: one that was hidden would
// make the worker do without, and the soak would test another worker than users have. With SOAK_STRICT, as in make soak,
// that ends the process.
func faithful[T any](behind any, tapped T) T {
	b, t := reflect.TypeOf(behind), reflect.TypeOf(any(tapped))
	for i := range b.NumMethod() {
		want := b.Method(i)
		if have, ok := t.MethodByName(want.Name); !ok || !sameSignature(have.Type, want.Type) {
			hidden := fmt.Sprintf("soakworker: %s hides the method %s of %s: add it to the decorator in taps.go", t, want.Name, b)
			if os.Getenv("SOAK_STRICT") != "" {
				panic(hidden)
			}
			fmt.Fprintln(os.Stderr, hidden)
		}
	}
	return tapped
}

// sameSignature compares methods, whose first argument is their receiver.
func sameSignature(a, b reflect.Type) bool {
	if a.NumIn() != b.NumIn() || a.NumOut() != b.NumOut() {
		return false
	}
	for i := 1; i < a.NumIn(); i++ {
		if a.In(i) != b.In(i) {
			return false
		}
	}
	for i := range a.NumOut() {
		if a.Out(i) != b.Out(i) {
			return false
		}
	}
	return true
}
