package rabbitmq

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// A message that was delivered too often, set aside and sent back, is counted anew.
func TestTransferForgetsTheCountOfDeliveries(t *testing.T) {
	s := startServer(t)
	queue, aside := s.name(), s.name()
	s.declare(queue, amqp.Table{"x-queue-type": "quorum"})
	c := s.connect()
	s.publish(c, queue, "poison")
	k := s.consume(c, 1, transports.Queue{Name: queue})
	for want := 0; want < 4; want++ {
		d := s.receive(k)
		if want > 0 && d.Count != want+1 {
			t.Fatalf("delivery %d is counted as %d", want+1, d.Count)
		}
		var err error
		if want < 3 {
			err = d.Receipt.Reject(t.Context(), true)
		} else {
			err = d.Receipt.Move(t.Context(), aside)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	seen, err := c.Peek(t.Context(), aside, 10)
	if err != nil || len(seen) != 1 || seen[0].Count != 4 {
		t.Fatalf("Peek = %+v, %v; want one message of 4 deliveries", seen, err)
	}
	// A quorum queue takes back what was looked at some moments later.
	eventually(t, "the message is sent back", func() bool {
		n, err := c.Transfer(t.Context(), aside, queue, 10, func(*transports.Delivery) bool { return true })
		if err != nil || n > 1 {
			t.Fatalf("Transfer = %d, %v", n, err)
		}
		return n == 1
	})
	for want := range 2 {
		d := s.receive(k)
		if got := max(d.Count, 1); got != want+1 || d.Redelivered != (want > 0) {
			t.Errorf("sent back: delivery %d is counted as %d, redelivered %v", want+1, d.Count, d.Redelivered)
		}
		if want == 0 {
			err = d.Receipt.Reject(t.Context(), true)
		} else {
			err = d.Receipt.Ack(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
