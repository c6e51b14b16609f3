package rabbitmq

import (
	"fmt"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// limited is a quorum queue that gives a message up which comes back a fifth time, far less than wornOut allows for
// with RabbitMQ's own 20.
var limited = amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": int32(5)}

// A worker that is restarted thirty times costs no message that it has not begun: neither one that it held nor one
// that was only fetched.
func TestMessagesGivenBackUnbegunOutliveTheLimit(t *testing.T) {
	s := startServer(t)
	q := s.name()
	s.declare(q, limited)
	c := s.connect()
	s.publish(c, q, "a", "b", "c", "d")
	for range 30 {
		k := s.consume(c, 8, transports.Queue{Name: q})
		held := []*transports.Delivery{s.receive(k), s.receive(k)} // two wait in the worker, the others have been fetched
		for _, d := range held {
			if err := transports.Return(t.Context(), d.Receipt); err != nil {
				t.Fatal(err)
			}
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	k := s.consume(c, 8, transports.Queue{Name: q})
	var got []string
	for range 4 {
		d := s.receive(k)
		got = append(got, string(d.Message.Body))
		s.ack(d)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("the queue still holds %q", got)
	}
}

// That the broker did not take a message as a new one is not remembered for ever: no other would outlive the limit then.
func TestARefusedRenewalIsTriedAgain(t *testing.T) {
	s := startServer(t)
	q := s.name()
	s.declare(q, limited)
	c := s.connect()
	s.publish(c, q, "a")
	k := s.consume(c, 1, transports.Queue{Name: q})
	worn := func() bool {
		d := s.receive(k)
		d.Receipt.(*receipt).returns = wornOut
		if err := transports.Return(t.Context(), d.Receipt); err != nil {
			t.Fatal(err)
		}
		d = s.receive(k)
		defer func() {
			if err := transports.Return(t.Context(), d.Receipt); err != nil {
				t.Fatal(err)
			}
		}()
		return d.Redelivered
	}
	l := k.lanes[q]
	l.full.Store(time.Now().Unix())
	if !worn() {
		t.Error("a broker that has just refused one is asked again at once")
	}
	l.full.Store(time.Now().Unix() - fullFor)
	if worn() {
		t.Error("a broker that refused one long ago is not asked again")
	}
}

// What a task asks for with Reject(requeue=True) is counted: the broker ends that loop.
func TestRejectedMessagesReachTheLimit(t *testing.T) {
	s := startServer(t)
	q, dead := s.name(), s.name()
	s.declare(dead, nil)
	s.declare(q, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": int32(2), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	c := s.connect()
	s.publish(c, q, "x")
	k := s.consume(c, 1, transports.Queue{Name: q, Arguments: protocol.ObjectOf(protocol.Member{Key: deliveryLimit, Value: int64(2)})})
	for want := 1; want <= 3; want++ {
		d := s.receive(k)
		if got := max(d.Count, 1); got != want || d.Limit != 2 {
			t.Errorf("delivery %d: Count %d, Limit %d, want 2", want, got, d.Limit)
		}
		if err := d.Receipt.Reject(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	d := s.receive(s.consume(c, 1, transports.Queue{Name: dead}))
	if string(d.Message.Body) != "x" {
		t.Errorf("dead-lettered: %q", d.Message.Body)
	}
	if reason, _ := d.Message.Headers.Get("x-first-death-reason"); reason != "delivery_limit" {
		t.Errorf("x-first-death-reason is %v", reason)
	}
	s.ack(d)
}

// However often people look into a queue, nothing in it is given up.
func TestLookingAtAQuorumQueueIsHarmless(t *testing.T) {
	s := startServer(t)
	q := s.name()
	s.declare(q, limited)
	c := s.connect()
	want := []string{"a", "b", "c"}
	s.publish(c, q, want...)
	for i := range 30 {
		var got []string
		eventually(t, fmt.Sprintf("look %d shows all", i), func() bool { // the queue takes back what was looked at some moments later
			seen, err := c.Peek(t.Context(), q, 10)
			if err != nil {
				t.Fatal(err)
			}
			got = nil
			for _, d := range seen {
				got = append(got, string(d.Message.Body))
			}
			slices.Sort(got)
			return len(got) == len(want)
		})
		if !slices.Equal(got, want) {
			t.Fatalf("look %d shows %q", i, got)
		}
	}
}

// The quarantine is of its queue's kind and has no limit; where the broker counts nothing it is a classic queue, also
// in a virtual host where queues that do not say are something else.
func TestTheQuarantineIsOfItsQueuesKind(t *testing.T) {
	s := startServer(t)
	c := s.connect()
	for kind, args := range map[string]amqp.Table{"classic": nil, "quorum": {"x-queue-type": "quorum"}} {
		q, aside := s.name(), s.name()
		s.declare(q, args)
		s.publish(c, q, "x")
		k := s.consume(c, 1, transports.Queue{Name: q})
		d := s.receive(k)
		if kind == "quorum" { // nobody has told us: the first return does
			if err := d.Receipt.Reject(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			d = s.receive(k)
		}
		if err := d.Receipt.Move(t.Context(), aside); err != nil {
			t.Fatal(err)
		}
		other := map[string]string{"classic": "quorum", "quorum": "classic"}[kind]
		err := s.do(func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(aside, true, false, false, false, amqp.Table{"x-queue-type": other})
			return err
		})
		if code(err) != amqp.PreconditionFailed {
			t.Errorf("the quarantine of a %s queue may be declared as %s: %v", kind, other, err)
		}
	}
}
