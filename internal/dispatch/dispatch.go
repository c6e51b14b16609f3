// Package dispatch carries out what canvas decides: the effects of a plan become messages with the broker
// and records in the result store. It makes one attempt at each; whoever calls it knows how long trying
// again is worth while. The worker does so for follow-ups and the client for what a program sends.
//
// Effects are to be done in their order, each before the next: a chord is begun before its header is sent.
package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// Publisher is what a Dispatcher needs of a connection. A transports.Conn is one.
type Publisher interface {
	Publish(ctx context.Context, p transports.Publishing) error
}

// A Dispatcher does effects. It is safe for concurrent use if its parts are, and must not be changed
// while in use. Publisher is required.
type Dispatcher struct {
	Publisher Publisher
	Results   resultbackend.Backend // nil: no results are kept, and chords are not counted
	Encoding  protocol.Encoding     // of messages that do not say otherwise themselves
	Extended  bool                  // result_extended
}

var (
	// ErrPart: a canvas.Part was given to Do. Parts are counted by the worker, which alone can wait for a
	// claim and publish the body.
	ErrPart = errors.New("dispatch: a chord's part is the worker's to count")
	// ErrNoChords: the result store counts no chords. Env.NativeChords must then be false.
	ErrNoChords = errors.New("dispatch: the result store counts no chords")
)

// Do does one effect, once. now is what a message's time to live counts from, and when a failure ended.
//
// An error is ErrPart or ErrNoChords, a *protocol.EncodeError (the message or the record can never be
// written), that of Publish or that of the store. All but ChordGrow may be done again after an error: a
// message may then be there twice. After an error of ChordGrow it is not known whether it was done.
func (d *Dispatcher) Do(ctx context.Context, e canvas.Effect, now time.Time) error {
	switch e := e.(type) {
	case canvas.Send:
		p, err := Publishing(e, d.Encoding, now)
		if err != nil {
			return err
		}
		return d.Publisher.Publish(ctx, p)
	case canvas.ChordBegin:
		return d.begin(ctx, e)
	case canvas.ChordSize:
		c, err := d.chords()
		if err != nil {
			return err
		}
		return c.Expect(ctx, e.GroupID, e.N)
	case canvas.ChordGrow:
		c, err := d.chords()
		if err != nil {
			return err
		}
		return c.Add(ctx, e.GroupID, 1)
	case canvas.StoreFailure:
		if d.Results == nil {
			return nil
		}
		return d.Results.Store(ctx, Failure(e, d.Extended, now))
	case canvas.Part:
		return fmt.Errorf("%w: task %q of chord %q", ErrPart, e.TaskID, e.GroupID)
	}
	return fmt.Errorf("dispatch: an effect of unknown type %T", e)
}

// Repeatable reports whether an effect may be done again after an error.
func Repeatable(e canvas.Effect) bool {
	_, grow := e.(canvas.ChordGrow)
	return !grow
}

func (d *Dispatcher) chords() (resultbackend.Chords, error) {
	if c, ok := d.Results.(resultbackend.Chords); ok {
		return c, nil
	}
	if d.Results == nil {
		return nil, fmt.Errorf("%w: there is none", ErrNoChords)
	}
	return nil, fmt.Errorf("%w: %s", ErrNoChords, d.Results)
}

func (d *Dispatcher) begin(ctx context.Context, e canvas.ChordBegin) error {
	c, err := d.chords()
	if err != nil {
		return err
	}
	if err := c.Begin(ctx, e.GroupID); err != nil || e.Record == nil {
		return err
	}
	return c.SaveGroup(ctx, e.GroupID, e.Record)
}

// Publishing is the message of e, written as e says, and where that is silent as otherwise says.
func Publishing(e canvas.Send, otherwise protocol.Encoding, now time.Time) (transports.Publishing, error) {
	enc := otherwise
	enc.Serializer = cmp.Or(e.Serializer, enc.Serializer)
	enc.Compression = cmp.Or(e.Compression, enc.Compression)
	m, err := e.Task.Encode(enc, now)
	if err != nil {
		return transports.Publishing{}, err
	}
	if e.DeliveryMode != 0 {
		m.Properties.DeliveryMode = uint8(e.DeliveryMode) // 1 or 2
	}
	p := transports.Publishing{Exchange: e.Task.Exchange, RoutingKey: e.Task.RoutingKey, Message: m, Mandatory: true}
	if q := e.Queue; q != nil {
		p.Declare = Declaration(q)
		if p.Exchange != "" && p.Exchange == q.Exchange {
			p.ExchangeType, p.ExchangeDurable = cmp.Or(q.ExchangeType, "direct"), true
		}
	}
	if e.Delay > 0 && e.Queue != nil {
		p.Delay = &transports.Delay{For: e.Delay, Queue: *p.Declare}
	}
	// A broadcast is for whoever listens, be it nobody: not taken is not lost.
	p.Mandatory = p.ExchangeType != "fanout"
	return p, nil
}

// Declaration is how a queue of the settings, or one made up, is created when it is missing.
func Declaration(q *canvas.Queue) *transports.Queue {
	args := q.Arguments
	if _, set := args.Get("x-queue-type"); q.Quorum && !set {
		args = args.Clone()
		args.Set("x-queue-type", "quorum")
	}
	return &transports.Queue{
		Name: q.Name, Exchange: q.Exchange, Type: q.ExchangeType, RoutingKey: q.RoutingKey, Create: true,
		Arguments: args, Transient: q.Transient, AutoDelete: q.AutoDelete, Exclusive: q.Exclusive,
	}
}

// Failure is the record that e asks for.
func Failure(e canvas.StoreFailure, extended bool, now time.Time) resultbackend.Record {
	r := protocol.Result{
		TaskID: e.TaskID, Status: protocol.Failure, Exception: e.Exception, Traceback: e.Traceback, DateDone: now,
		GroupID: e.GroupID, ParentID: e.ParentID, Children: e.Children,
	}
	if extended {
		r.Extended = e.Extended
	}
	rec := resultbackend.Record{Result: r}
	if e.ReplyTo != "" {
		rec.ReplyTo = protocol.ReplyTo{Queue: e.ReplyTo, CorrelationID: e.TaskID}
	}
	return rec
}
