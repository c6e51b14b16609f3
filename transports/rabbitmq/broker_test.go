package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// These tests need a real RabbitMQ (CELERY_AMQP_URL).

// Python writes 64-bit integers as L, which costs the plain driver its connection. (We write L for
// negative ones, which is how it gets onto the wire here.)
func TestWideIntegersInHeaders(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	headers := protocol.ObjectOf(
		protocol.Member{Key: "big", Value: int64(-1 << 40)},
		protocol.Member{Key: "nested", Value: []protocol.Value{
			int64(math.MinInt64), protocol.ObjectOf(protocol.Member{Key: "deep", Value: int64(-1 << 50)}),
		}},
		protocol.Member{Key: "plus", Value: int64(1 << 40)},
	)
	send := func() {
		p := transports.Publishing{RoutingKey: q, Mandatory: true, Message: protocol.Message{Headers: headers, Body: []byte("b")}}
		if err := c.Publish(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	send()
	plain, err := amqp.Dial(strings.Replace(s.url, s.proxy.Addr(), s.addr, 1))
	if err != nil {
		t.Fatal(err)
	}
	err = scratch(plain, func(ch *amqp.Channel) error { _, _, err := ch.Get(q, true); return err })
	if err == nil {
		// RabbitMQ 4 writes headers anew, and L as l.
		if v, _ := plain.Properties["version"].(string); strings.HasPrefix(v, "3.") {
			t.Error("the plain driver has read it: L is not on the wire, or the driver has learned it")
		}
		_ = plain.Close()
	}
	send()
	k := s.consume(c, 1, transports.Queue{Name: q})
	d := s.receive(k)
	if diff := cmp.Diff(headers, d.Message.Headers, members); diff != "" {
		t.Error(diff)
	}
	s.ack(d)
	if c.Err() != nil || c.consumes.IsClosed() {
		t.Errorf("the connection has suffered: %v", c.Err())
	}
}

// Headers past the driver's bounds arrive as bytes, not as a connection lost again and again.
func TestHeadersPastTheDriversBounds(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	deep := protocol.Value("bottom")
	for range 40 {
		deep = []protocol.Value{deep}
	}
	m := protocol.Message{Body: []byte("b"), Headers: protocol.ObjectOf(
		protocol.Member{Key: "deep", Value: deep},
		protocol.Member{Key: "id", Value: "x"},
		protocol.Member{Key: "long", Value: make([]protocol.Value, maxElements+1)},
	)}
	if err := c.Publish(t.Context(), transports.Publishing{RoutingKey: q, Mandatory: true, Message: m}); err != nil {
		t.Fatal(err)
	}
	d := s.receive(s.consume(c, 1, transports.Queue{Name: q}))
	if id, _ := d.Message.Headers.Get("id"); id != "x" {
		t.Errorf("id = %v", id)
	}
	if v, _ := d.Message.Headers.Get("long"); len(v.([]byte)) != maxElements+1 {
		t.Errorf("long is %T", v)
	}
	s.ack(d)
}

func TestPriorityZeroIsToldFromNone(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	k := s.consume(c, 1, transports.Queue{Name: q})
	for _, priority := range []uint8{0, 3} {
		s.must(func(ch *amqp.Channel) error {
			return ch.Publish("", q, false, false, amqp.Publishing{Headers: amqp.Table{"id": "x"}, Priority: priority, Body: []byte("b")})
		})
		d := s.receive(k)
		if got := d.Message.Properties.Priority; (priority == 0) != (got == nil) {
			t.Errorf("priority %d arrived as %v", priority, got) // the plain driver leaves 0 out
		}
		s.ack(d)
	}
}

func TestPassiveAttachDoesNotTouchTheQueue(t *testing.T) {
	s := startServer(t)
	q := s.name()
	s.declare(q, amqp.Table{"x-max-priority": int32(7), "x-message-ttl": int32(600_000)})
	c := s.connect()
	k := s.consume(c, 1, transports.Queue{Name: q, Create: true, Transient: true, Arguments: one(int64(5)), Type: "topic"})
	s.publish(c, q, "x")
	s.ack(s.receive(k))
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	s.declare(q, amqp.Table{"x-max-priority": int32(7), "x-message-ttl": int32(600_000)}) // 406 if it had changed
	err := s.do(func(ch *amqp.Channel) error {
		return ch.ExchangeDeclarePassive(q, "direct", true, false, false, false, nil)
	})
	if code(err) != amqp.NotFound {
		t.Errorf("an exchange was made for a queue that exists: %v", err)
	}
}

func TestCreateAsCeleryDoes(t *testing.T) {
	s := startServer(t)
	q, x := s.name(), s.name()
	c := s.connect()
	s.consume(c, 1, transports.Queue{
		Name: q, Exchange: x, Type: "topic", RoutingKey: "a.#", Create: true,
		Arguments: protocol.ObjectOf(
			protocol.Member{Key: "x-queue-type", Value: "quorum"},
			protocol.Member{Key: "x-max-length", Value: int64(50)},
			protocol.Member{Key: "x-expires", Value: int64(3_600_000)},
		),
	})
	// An equal declaration is accepted, and only an equal one. Integer against text is a difference.
	s.declare(q, amqp.Table{"x-queue-type": "quorum", "x-max-length": int32(50), "x-expires": int32(3_600_000)})
	s.must(func(ch *amqp.Channel) error { return ch.ExchangeDeclare(x, "topic", true, false, false, false, nil) })
	if err := c.Publish(t.Context(), transports.Publishing{Exchange: x, RoutingKey: "a.b", Mandatory: true}); err != nil {
		t.Errorf("the binding: %v", err)
	}
	if err := c.Publish(t.Context(), transports.Publishing{Exchange: x, RoutingKey: "b", Mandatory: true}); !errors.Is(err, transports.ErrRefused) {
		t.Errorf("beside the binding: %v, want ErrRefused", err)
	}

	plain := s.name() // defaults: exchange and key of the queue's name, direct
	s.consume(c, 1, transports.Queue{Name: plain, Create: true})
	s.declare(plain, nil)
	s.must(func(ch *amqp.Channel) error {
		return ch.ExchangeDeclare(plain, "direct", true, false, false, false, nil)
	})
	if err := c.Publish(t.Context(), transports.Publishing{Exchange: plain, RoutingKey: plain, Mandatory: true}); err != nil {
		t.Errorf("the default binding: %v", err)
	}
}

// A recorder is a Config.Notify.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *recorder) notify(queue string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, fmt.Sprintf("%s %d", queue, kindOf(err)))
}

func kindOf(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, transports.ErrRefused):
		return 1
	}
	return 2
}

func (r *recorder) has(queue string, kind int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.seen {
		if s == fmt.Sprintf("%s %d", queue, kind) {
			return true
		}
	}
	return false
}

func TestMissingQueueIsWaitedFor(t *testing.T) {
	s := startServer(t)
	var heard recorder
	c := s.connect(func(cfg *Config) { cfg.Notify = heard.notify })
	missing, there := s.name(), s.name()
	s.declare(there, nil)
	k := s.consume(c, 5, transports.Queue{Name: missing}, transports.Queue{Name: there})
	if !heard.has(missing, 1) {
		t.Error("Notify has not heard of the missing queue")
	}
	s.publish(c, there, "meanwhile")
	s.ack(s.receive(k))
	s.declare(missing, nil)
	s.publish(c, missing, "late")
	d := s.receive(k)
	if d.Queue != missing || string(d.Message.Body) != "late" {
		t.Errorf("%q from %q", d.Message.Body, d.Queue)
	}
	s.ack(d)
	eventually(t, "Notify hears that it is over", func() bool { return heard.has(missing, 0) })
}

func TestQueueDeletedWhileConsuming(t *testing.T) {
	s := startServer(t)
	var heard recorder
	c := s.connect(func(cfg *Config) { cfg.Notify = heard.notify })
	q, other := s.name(), s.name()
	s.declare(q, nil)
	s.declare(other, nil)
	k := s.consume(c, 5, transports.Queue{Name: q}, transports.Queue{Name: other})
	s.publish(c, q, "doomed")
	doomed := s.receive(k)
	s.publish(c, other, "safe")
	safe := s.receive(k)
	s.must(func(ch *amqp.Channel) error { _, err := ch.QueueDelete(q, false, false, false); return err })
	waitFor(t, "Lost", doomed.Receipt.Lost())
	if err := doomed.Receipt.Ack(t.Context()); !errors.Is(err, transports.ErrLost) || errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("Ack of what was lost: %v, want ErrLost alone", err)
	}
	eventually(t, "Notify hears of it", func() bool { return heard.has(q, 1) })
	if err := s.do(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(q, false, false, false, false, nil)
		return err
	}); code(err) != amqp.NotFound {
		t.Errorf("the queue was made again: %v", err)
	}
	s.ack(safe) // the other queue's channel has not noticed
	s.declare(q, nil)
	s.publish(c, q, "again")
	s.ack(s.receive(k))
}

func waitFor(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
}

// A channel error (here an ack of a tag that does not exist; a consumer_timeout is the same 406) costs
// one queue's deliveries, and they come again.
func TestChannelErrorCostsOneQueueOnly(t *testing.T) {
	s := startServer(t)
	c := s.connect()
	broken, whole := s.name(), s.name()
	s.declare(broken, nil)
	s.declare(whole, nil)
	k := s.consume(c, 5, transports.Queue{Name: broken}, transports.Queue{Name: whole})
	s.publish(c, broken, "b")
	b := s.receive(k)
	s.publish(c, whole, "w")
	w := s.receive(k)
	if err := b.Receipt.(*receipt).link.ch.Ack(999, false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "Lost", b.Receipt.Lost())
	again := s.receive(k)
	if again.Queue != broken || !again.Redelivered {
		t.Errorf("after the channel error: %q, redelivered %v", again.Queue, again.Redelivered)
	}
	// The old receipt is of the old channel: it must not settle the new delivery, whose tag may be the same.
	for name, settle := range settlings(b.Receipt) {
		if err := settle(t.Context()); !errors.Is(err, transports.ErrLost) {
			t.Errorf("%s by a stale receipt: %v, want ErrLost", name, err)
		}
	}
	s.ack(again, w)
	select {
	case <-w.Receipt.Lost():
		t.Error("the other queue's delivery was lost")
	case <-c.Done():
		t.Error("the connection was lost")
	default:
	}
}

func settlings(r transports.Receipt) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"ack":    r.Ack,
		"reject": func(ctx context.Context) error { return r.Reject(ctx, true) },
		"move":   func(ctx context.Context) error { return r.Move(ctx, "rmq.unused") },
	}
}

// What the broker sends is bounded too, for each queue: the rest is there for other workers.
func TestPrefetchFollowsTheWindow(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	var bodies []string
	for i := range 40 {
		bodies = append(bodies, fmt.Sprint(i))
	}
	s.publish(c, q, bodies...)
	look := func() (info amqp.Queue) {
		s.must(func(ch *amqp.Channel) (err error) {
			info, err = ch.QueueDeclarePassive(q, false, false, false, false, nil)
			return err
		})
		return info
	}
	is := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d messages left in the queue", n), func() bool { return look().Messages == n })
	}
	k := s.consume(c, 4, transports.Queue{Name: q})
	is(36)
	var held []*transports.Delivery
	for range 4 {
		held = append(held, s.receive(k))
	}
	for n := 5; n <= 8; n++ { // four ETA tasks are held: the window grows with each
		if err := k.SetWindow(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		is(40 - n)
		held = append(held, s.receive(k))
	}
	if err := k.SetWindow(t.Context(), 4); err != nil { // and they are done
		t.Fatal(err)
	}
	eventually(t, "one consumer is left", func() bool { return look().Consumers == 1 })
	s.ack(held...)
	is(28)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	is(32)
}

func TestQuorumQueue(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, amqp.Table{"x-queue-type": "quorum"})
	k := s.consume(c, 2, transports.Queue{Name: q}) // nobody told us that it is one
	s.publish(c, q, "x")
	d := s.receive(k)
	for want := 2; want <= 4; want++ {
		if err := d.Receipt.Reject(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		d = s.receive(k)
		if d.Count != want || !d.Redelivered {
			t.Errorf("Count = %d, want %d; redelivered %v", d.Count, want, d.Redelivered)
		}
		if _, there := d.Message.Headers.Get(deliveryCount); there {
			t.Error("x-delivery-count is among the headers")
		}
	}
	if err := k.SetWindow(t.Context(), 3); err != nil { // a second consumer on the channel
		t.Fatal(err)
	}
	s.publish(c, q, "y", "z")
	held := []*transports.Delivery{d, s.receive(k), s.receive(k)}
	if err := k.SetWindow(t.Context(), 2); err != nil { // and it is cancelled with a delivery unsettled
		t.Fatal(err)
	}
	look := func() (info amqp.Queue) {
		s.must(func(ch *amqp.Channel) (err error) {
			info, err = ch.QueueDeclarePassive(q, false, false, false, false, nil)
			return err
		})
		return info
	}
	k.mu.Lock()
	l := k.lanes[q]
	k.mu.Unlock()
	// A quorum queue counts a cancelled consumer until its deliveries are settled: nothing to be seen from outside.
	eventually(t, "the lane has heard of the window", func() bool { return len(l.wake) == 0 })
	s.ack(held...)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody consumes", func() bool { return look().Consumers == 0 })
	if n := look().Messages; n != 0 {
		t.Errorf("%d messages came back although they were acked", n)
	}
}

func TestRejectDeadLetters(t *testing.T) {
	s := startServer(t)
	c, q, dead := s.connect(), s.name(), s.name()
	s.declare(dead, nil)
	s.declare(q, amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	s.publish(c, q, "x")
	d := s.receive(s.consume(c, 1, transports.Queue{Name: q}))
	if err := d.Receipt.Reject(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	k := s.consume(c, 1, transports.Queue{Name: dead})
	d = s.receive(k)
	if v, _ := d.Message.Headers.Get("x-death"); v == nil {
		t.Error("no x-death")
	}
	quarantine := s.name() // Move leaves x-death alone
	if err := d.Receipt.Move(t.Context(), quarantine); err != nil {
		t.Fatal(err)
	}
	moved := s.receive(s.consume(c, 1, transports.Queue{Name: quarantine}))
	if diff := cmp.Diff(d.Message.Headers, moved.Message.Headers, members); diff != "" {
		t.Error(diff)
	}
	s.ack(moved)
	s.must(func(ch *amqp.Channel) error { // durable, without arguments, and no exchange for it
		_, err := ch.QueueDeclare(quarantine, true, false, false, false, nil)
		return err
	})
	if err := s.do(func(ch *amqp.Channel) error {
		return ch.ExchangeDeclarePassive(quarantine, "direct", true, false, false, false, nil)
	}); code(err) != amqp.NotFound {
		t.Errorf("Move made an exchange: %v", err)
	}
}

// A copy that RabbitMQ has sent to the queues in the header CC is not sent there once more when a message moves.
func TestWhatIsMovedIsNotCopiedAgain(t *testing.T) {
	s := startServer(t)
	c, q, other, target := s.connect(), s.name(), s.name(), s.name()
	s.declare(q, nil)
	s.declare(other, nil)
	s.must(func(ch *amqp.Channel) error {
		return ch.Publish("", q, false, false, amqp.Publishing{Headers: amqp.Table{"CC": []any{other}, "a": "b"}, Body: []byte("x")})
	})
	d := s.receive(s.consume(c, 1, transports.Queue{Name: q}))
	if err := d.Receipt.Move(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	moved := s.receive(s.consume(c, 1, transports.Queue{Name: target}))
	if v, _ := moved.Message.Headers.Get("a"); v != "b" {
		t.Errorf("headers after the move: %v", moved.Message.Headers)
	}
	if size, err := c.QueueSize(t.Context(), other); err != nil || size.Ready != 1 {
		t.Errorf("the other queue holds %d messages (%v), want 1", size.Ready, err)
	}
}

func TestMoveWithForeignUserID(t *testing.T) {
	s := startServer(t)
	c, q, target := s.connect(), s.name(), s.name()
	s.declare(q, nil)
	s.must(func(ch *amqp.Channel) error {
		return ch.Publish("", q, false, false, amqp.Publishing{UserId: "guest", Body: []byte("x")})
	})
	d := s.receive(s.consume(c, 1, transports.Queue{Name: q}))
	r := d.Receipt.(*receipt)
	r.message().UserId = "somebody" // as if another user had sent it
	if err := r.Move(t.Context(), target); err != nil {
		t.Errorf("Move: %v", err)
	}
}

func TestRefusedPublishesHurtNobodyElse(t *testing.T) {
	s := startServer(t)
	c, q, full := s.connect(), s.name(), s.name()
	s.declare(q, nil)
	s.declare(full, amqp.Table{"x-max-length": int32(0), "x-overflow": "reject-publish"})
	x := s.name()
	s.must(func(ch *amqp.Channel) error { return ch.ExchangeDeclare(x, "direct", false, false, false, false, nil) })
	publish := func(exchange, key string, m protocol.Message) error {
		return c.Publish(t.Context(), transports.Publishing{Exchange: exchange, RoutingKey: key, Mandatory: true, Message: m})
	}
	if err := publish(x, "nothing bound", protocol.Message{}); !errors.Is(err, transports.ErrRefused) {
		t.Errorf("unroutable: %v", err)
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() { // on the careful channel, as the broker checks the user
			m := protocol.Message{Properties: protocol.Properties{UserID: c.user}}
			if err := publish("", q, m); err != nil {
				t.Errorf("innocent with user_id: %v", err)
			}
		})
		wg.Go(func() {
			for range 5 {
				if err := publish("", q, protocol.Message{Body: []byte("ok")}); err != nil {
					t.Errorf("innocent: %v", err)
				}
			}
		})
		wg.Go(func() {
			var err error
			switch i % 5 {
			case 0:
				err = publish("rmq.no.such.exchange", q, protocol.Message{})
			case 1:
				err = publish("", "rmq.no.such.queue", protocol.Message{Body: []byte("same")}) // many that look alike
			case 2:
				err = publish("", full, protocol.Message{})
			case 3:
				err = publish("", q, protocol.Message{Properties: protocol.Properties{UserID: "nobody"}})
			case 4: // was there when we looked
				err = publish(x, "nothing bound", protocol.Message{})
			}
			if !errors.Is(err, transports.ErrRefused) {
				t.Errorf("case %d: %v, want ErrRefused", i%5, err)
			}
		})
	}
	wg.Wait()
	s.must(func(ch *amqp.Channel) error { return ch.ExchangeDelete(x, false, false) })
	var both sync.WaitGroup // the shared channel closes under an innocent one now
	both.Go(func() {
		if err := publish(x, "gone", protocol.Message{}); !errors.Is(err, transports.ErrRefused) {
			t.Errorf("exchange deleted: %v, want ErrRefused", err)
		}
	})
	both.Go(func() {
		for range 50 {
			if err := publish("", q, protocol.Message{Body: []byte("ok")}); err != nil {
				t.Errorf("innocent: %v", err)
			}
		}
	})
	both.Wait()
	if c.Err() != nil {
		t.Errorf("the connection has suffered: %v", c.Err())
	}
}

// Mandatory returns are told apart although many are under way and some messages look the same.
func TestReturnsBelongToTheirMessages(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	var wg sync.WaitGroup
	for i := range 200 {
		key, want := q, error(nil)
		if i%3 == 0 {
			key, want = "rmq.nowhere", transports.ErrRefused
		}
		wg.Go(func() {
			m := protocol.Message{Body: []byte(fmt.Sprint(i % 20)), Properties: protocol.Properties{CorrelationID: fmt.Sprint(i % 7)}}
			err := c.Publish(t.Context(), transports.Publishing{RoutingKey: key, Mandatory: true, Message: m})
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("message %d: %v, want %v", i, err, want)
			}
		})
	}
	wg.Wait()
}

func TestDeclareAgainAfterTheQueueWasDeleted(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	p := transports.Publishing{RoutingKey: q, Mandatory: true, Declare: &transports.Queue{Name: q}}
	if err := c.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	s.must(func(ch *amqp.Channel) error { _, err := ch.QueueDelete(q, false, false, false); return err })
	if err := c.Publish(t.Context(), p); !errors.Is(err, transports.ErrRefused) {
		t.Fatalf("to a deleted queue: %v, want ErrRefused", err)
	}
	if err := c.Publish(t.Context(), p); err != nil {
		t.Errorf("after that: %v", err)
	}

	x := s.name()
	p = transports.Publishing{Exchange: x, ExchangeType: "topic", RoutingKey: "k"}
	if err := c.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	s.must(func(ch *amqp.Channel) error { return ch.ExchangeDelete(x, false, false) })
	if err := c.Publish(t.Context(), p); !errors.Is(err, transports.ErrRefused) {
		t.Fatalf("to a deleted exchange: %v, want ErrRefused", err)
	}
	if err := c.Publish(t.Context(), p); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// Somebody's exclusive queue cannot be looked at, and takes messages all the same.
func TestPublishToAnExclusiveQueue(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.must(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(q, false, true, true, false, nil)
		return err
	})
	p := transports.Publishing{RoutingKey: q, Mandatory: true, Declare: &transports.Queue{Name: q}}
	if err := c.Publish(t.Context(), p); err != nil {
		t.Error(err)
	}
}

func TestPublishIsBounded(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	s.publish(c, q, "warm")
	method := func(id byte, rest ...byte) []byte {
		return append([]byte{1, 0, 0, 0, 0, 0, byte(4 + len(rest)), 0, 10, 0, id}, append(rest, endOctet)...)
	}
	// As the broker says it in a memory alarm: connection.blocked.
	s.proxy.Inject(t, publishes, faultproxy.ToClient, method(60, append([]byte{13}, "low on memory"...)...))
	eventually(t, "blocked", func() bool { _, blocked := c.pub.blocked(); return blocked })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := c.Publish(ctx, transports.Publishing{RoutingKey: q})
	if !errors.Is(err, transports.ErrRefused) || !strings.Contains(err.Error(), "low on memory") {
		t.Errorf("while blocked: %v, want ErrRefused with the broker's reason", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- c.Publish(t.Context(), transports.Publishing{RoutingKey: q}) }()
	k := s.consume(c, 5, transports.Queue{Name: q}) // consuming and acknowledging go on
	s.ack(s.receive(k))
	s.proxy.Inject(t, publishes, faultproxy.ToClient, method(61)) // connection.unblocked
	if err := <-waiting; err != nil {
		t.Errorf("after the alarm: %v", err)
	}
	over, end := context.WithCancel(t.Context())
	end()
	if err := c.Publish(over, transports.Publishing{RoutingKey: q}); !errors.Is(err, context.Canceled) {
		t.Errorf("on a context that is over: %v", err)
	}
	s.publish(c, q, "after")
}

// A confirm that stays out ends in the context's error, and the next publish uses another channel.
func TestConfirmThatStaysOut(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	s.publish(c, q, "warm")
	s.proxy.Freeze(faultproxy.Both)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Publish(ctx, transports.Publishing{RoutingKey: q, Mandatory: true}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no confirm: %v, want DeadlineExceeded", err)
	}
	s.proxy.Thaw()
	s.publish(c, q, "after")
}

// An alarm that rises before the confirm bounds the wait for it, whatever the context allows.
func TestAlarmBeforeTheConfirm(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(func(cfg *Config) { cfg.Heartbeat = time.Minute }), s.name()
	s.declare(q, nil)
	s.publish(c, q, "warm")
	s.proxy.Freeze(faultproxy.Both)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	waiting := make(chan error, 1)
	go func() { waiting <- c.Publish(ctx, transports.Publishing{RoutingKey: q}) }()
	c.pub.raise("disk")
	if err := <-waiting; !errors.Is(err, transports.ErrRefused) {
		t.Errorf("got %v, want ErrRefused", err)
	}
	if ctx.Err() != nil {
		t.Error("it waited for the context")
	}
	c.pub.lower()
	s.proxy.Thaw()
	s.publish(c, q, "after")
}

// A broker that stalls is noticed by the heartbeat, on both connections.
func TestHeartbeat(t *testing.T) {
	s := startServer(t)
	c := s.connect(func(cfg *Config) { cfg.Heartbeat = 2 * time.Second })
	if c.consumes.Config.Heartbeat != 2*time.Second || c.pub.ac.Config.Heartbeat != 2*time.Second {
		t.Errorf("heartbeats %v and %v", c.consumes.Config.Heartbeat, c.pub.ac.Config.Heartbeat)
	}
	q := s.name()
	s.declare(q, nil)
	k := s.consume(c, 1, transports.Queue{Name: q})
	s.publish(c, q, "x")
	d := s.receive(k)
	s.proxy.Freeze(faultproxy.Both)
	defer s.proxy.Thaw()
	waitFor(t, "Done", c.Done())
	waitFor(t, "Lost", d.Receipt.Lost())
	if !errors.Is(c.Err(), transports.ErrDisconnected) {
		t.Errorf("Err = %v", c.Err())
	}
	if err := d.Receipt.Ack(t.Context()); !errors.Is(err, transports.ErrDisconnected) || !errors.Is(err, transports.ErrLost) {
		t.Errorf("Ack: %v, want ErrLost and ErrDisconnected", err)
	}
}

func TestCredentials(t *testing.T) {
	s := startServer(t)
	at := s.proxy.Addr()
	for name, url := range map[string]string{
		"password":     "amqp://guest:wrong-secret@" + at + "//",
		"user":         "amqp://nobody:wrong-secret@" + at + "//",
		"virtual host": "amqp://" + at + "/rmq.no.such.vhost",
	} {
		began := time.Now()
		tr := s.transport(func(cfg *Config) { cfg.URL = url })
		_, err := tr.Connect(t.Context())
		if !errors.Is(err, transports.ErrCredentials) || strings.Contains(err.Error(), "wrong-secret") {
			t.Errorf("%s: %v, want ErrCredentials without the password", name, err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		t.Log(err)
	}
}

func TestConnectFailures(t *testing.T) {
	s := startServer(t)
	s.proxy.Freeze(faultproxy.Both) // TCP connects, nobody answers
	defer s.proxy.Thaw()
	for name, change := range map[string]func(*Config){
		"nobody there":  func(cfg *Config) { cfg.URL = "amqp://127.0.0.1:1//" },
		"nobody speaks": func(cfg *Config) { cfg.ConnectTimeout = 200 * time.Millisecond },
		"no TLS there":  func(cfg *Config) { cfg.TLS = &TLS{Insecure: true}; cfg.ConnectTimeout = 200 * time.Millisecond },
	} {
		if _, err := s.transport(change).Connect(t.Context()); !errors.Is(err, transports.ErrDisconnected) {
			t.Errorf("%s: %v, want ErrDisconnected", name, err)
		}
	}
}

func TestFailoverDials(t *testing.T) {
	s := startServer(t)
	tr := s.transport(func(cfg *Config) { cfg.URL = "amqp://127.0.0.1:1//;" + s.url })
	if _, err := tr.Connect(t.Context()); !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("the first address: %v", err)
	}
	c, err := tr.Connect(t.Context())
	if err != nil {
		t.Fatalf("the second address: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// The name of an exclusive mailbox is taken until its owner has gone: tasks go on meanwhile.
func TestExclusiveSubscriptionWaits(t *testing.T) {
	s := startServer(t)
	var heard recorder
	c1, c2 := s.connect(), s.connect(func(cfg *Config) { cfg.Notify = heard.notify })
	x, box, q := s.name(), s.name(), s.name()
	s.declare(q, nil)
	f := transports.Fanout{
		Exchange: x, Type: "fanout", Queue: box, Exclusive: true,
		Arguments: protocol.ObjectOf(protocol.Member{Key: "x-expires", Value: int64(10_000)}, protocol.Member{Key: "x-message-ttl", Value: int64(300_000)}),
	}
	owner, err := c1.Subscribe(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := c2.Subscribe(t.Context(), f)
	if err != nil {
		t.Fatalf("while the name is taken: %v", err)
	}
	if !heard.has(box, 1) {
		t.Error("Notify has not heard that the name is taken")
	}
	k := s.consume(c2, 1, transports.Queue{Name: q})
	s.publish(c2, q, "task")
	s.ack(s.receive(k))
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the mailbox is ours", func() bool { return heard.has(box, 0) })
	p := transports.Publishing{Exchange: x, ExchangeType: "fanout", Message: protocol.Message{Body: []byte("ping")}}
	if err := c1.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	m, err := waiting.Next(t.Context())
	if err != nil || string(m.Body) != "ping" {
		t.Errorf("Next = %q, %v", m.Body, err)
	}
	if err := s.do(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclarePassive(box, false, false, false, false, nil)
		return err
	}); code(err) != amqp.ResourceLocked {
		t.Errorf("the mailbox is not exclusive: %v", err)
	}
	f.Type, f.Queue = "topic", s.name() // an exchange that exists is used as it is
	if sub, err := c2.Subscribe(t.Context(), f); err != nil {
		t.Errorf("to an exchange of another type: %v", err)
	} else if err := sub.Close(); err != nil {
		t.Error(err)
	}
	other := f // a queue that exists otherwise: refused, and said so
	other.Queue, other.Exclusive = q, false
	if _, err := c2.Subscribe(t.Context(), other); !errors.Is(err, transports.ErrRefused) {
		t.Errorf("with a queue that is no mailbox: %v, want ErrRefused", err)
	}
}

func TestSubscriptionSurvivesDeletionOfItsQueue(t *testing.T) {
	s := startServer(t)
	var heard recorder
	c := s.connect(func(cfg *Config) { cfg.Notify = heard.notify })
	x, box := s.name(), s.name()
	sub, err := c.Subscribe(t.Context(), transports.Fanout{Exchange: x, Type: "fanout", Queue: box})
	if err != nil {
		t.Fatal(err)
	}
	s.must(func(ch *amqp.Channel) error { _, err := ch.QueueDelete(box, false, false, false); return err })
	eventually(t, "subscribed again", func() bool { return heard.has(box, 0) })
	p := transports.Publishing{Exchange: x, Message: protocol.Message{Body: []byte("x")}}
	if err := c.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.Next(t.Context()); err != nil || string(m.Body) != "x" {
		t.Errorf("Next = %q, %v", m.Body, err)
	}
}

// While tasks are running the connection is cut under them, again and again; nothing is lost.
func TestCutsLoseNothing(t *testing.T) {
	s := startServer(t)
	q := s.name()
	s.declare(q, nil)
	const n = 300
	for i := range n {
		s.must(func(ch *amqp.Channel) error {
			return ch.Publish("", q, false, false, amqp.Publishing{Body: []byte(fmt.Sprint(i)), DeliveryMode: amqp.Persistent})
		})
		if i == 50 {
			break
		}
	}
	seen := map[string]bool{}
	sent := 51
	for round := 0; len(seen) < n; round++ {
		if round > 60 {
			t.Fatalf("%d of %d after %d connections", len(seen), n, round)
		}
		c, err := s.transport().Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		k, err := c.Consume(t.Context(), []transports.Queue{{Name: q}}, 10)
		for i := 0; err == nil && len(seen) < n; i++ {
			if sent < n {
				if c.Publish(t.Context(), transports.Publishing{RoutingKey: q, Message: protocol.Message{Body: []byte(fmt.Sprint(sent))}}) == nil {
					sent++
				}
			}
			var d *transports.Delivery
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			d, err = k.Receive(ctx)
			if cancel(); errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%d of %d seen, and nothing comes any more", len(seen), n)
			}
			if err == nil {
				if d.Receipt.Ack(t.Context()) == nil {
					seen[string(d.Message.Body)] = true
				}
			}
			if i == 20 {
				go s.proxy.Cut()
			}
		}
		_ = c.Close()
	}
}
