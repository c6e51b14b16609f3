package rabbitmq

import (
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func TestDelayKey(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("0.", n) }
	five := zeros(25) + "1.0.1."
	for _, tt := range []struct {
		name string
		wait time.Duration
		key  string
		want string
	}{
		{"whole seconds", 5 * time.Second, "tq1", five + "tq1"},
		{"part of a second is a whole one", 4*time.Second + 1, "tq1", five + "tq1"},
		{"less than a second is one", time.Millisecond, "k", zeros(27) + "1.k"},
		{"an earlier delay is cut off", 5 * time.Second, zeros(27) + "1.tq1", five + "tq1"},
		{"only one of them", 5 * time.Second, zeros(27) + "1." + zeros(27) + "1.tq1", five + zeros(27) + "1.tq1"},
		{"a key that looks like part of one", 5 * time.Second, "0.1.k", five + "0.1.k"},
		{"the longest wait", (1<<28 - 1) * time.Second, "k", strings.Repeat("1.", 28) + "k"},
		{"no wait", 0, "k", ""},
		{"a wait that has passed", -time.Second, "k", ""},
		{"longer than the digits can say", 1 << 28 * time.Second, "k", ""},
		{"no key", time.Second, "", ""},
		{"the longest key", 5 * time.Second, strings.Repeat("k", 199), five + strings.Repeat("k", 199)},
		{"a key that leaves no room", 5 * time.Second, strings.Repeat("k", 200), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := delayKey(tt.wait, tt.key); got != tt.want {
				t.Errorf("delayKey(%v, %q) = %q, want %q", tt.wait, tt.key, got, tt.want)
			}
		})
	}
}

func TestDelayedKeepsAnExpiryThatIsLonger(t *testing.T) {
	d := &transports.Delay{For: 5 * time.Second, Queue: transports.Queue{Name: "q", Type: "topic"}}
	for given, want := range map[string]string{"": "", "4000": "", "5000": "", "5001": "5001"} {
		o, ok := delayed(outgoing{message: amqp.Publishing{Expiration: given}}, d)
		if !ok || o.message.Expiration != want {
			t.Errorf("expiration %q became %q, want %q", given, o.message.Expiration, want)
		}
	}
}

// The delay exchanges are one set for a whole virtual host, and stay for the next run.
func TestAMessageIsKeptUntilItIsWanted(t *testing.T) {
	s := startServer(t)
	exchange, topic, direct := s.name(), s.name(), s.name()
	c := s.connect()
	q := transports.Queue{Name: topic, Exchange: exchange, Type: "topic", RoutingKey: "a.b", Create: true}
	plain := transports.Queue{Name: direct, Create: true}
	send := func(q transports.Queue, body string, wait time.Duration) {
		t.Helper()
		p := transports.Publishing{
			Exchange: q.Exchange, RoutingKey: q.RoutingKey, Mandatory: true, Declare: &q, ExchangeType: q.Type, ExchangeDurable: true,
			Message: protocol.Message{Body: []byte(body)}, Delay: &transports.Delay{For: wait, Queue: q},
		}
		if q.Type == "" {
			p.RoutingKey = q.Name
		}
		if err := c.Publish(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	send(q, "later", 1200*time.Millisecond)
	k := s.consume(c, 1, q)
	d := s.receive(k)
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it came after %v, want 2 s or more", took)
	}
	if !strings.HasPrefix(d.Message.Exchange, "celery_delayed_") || !strings.HasSuffix(d.Message.RoutingKey, ".1.0.a.b") {
		t.Errorf("it came by %q %q", d.Message.Exchange, d.Message.RoutingKey)
	}
	s.ack(d)
	send(plain, "at once", time.Hour) // a direct exchange: the consumer waits
	s.ack(s.receive(s.consume(c, 1, plain)))

	// Nothing leads to a queue that cannot be bound: its message goes the plain way too.
	c.pub.forget("delay " + topic)
	s.must(func(ch *amqp.Channel) error { return ch.ExchangeDelete(exchange, false, false) })
	lost := q
	lost.Exchange = "no.such.exchange"
	p := transports.Publishing{RoutingKey: topic, Message: protocol.Message{Body: []byte("plain")}, Delay: &transports.Delay{For: time.Hour, Queue: lost}}
	if err := c.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if d := s.receive(k); string(d.Message.Body) != "plain" {
		t.Errorf("got %q", d.Message.Body)
	} else {
		s.ack(d)
	}
	if err := c.PrepareDelay(t.Context(), []transports.Queue{lost, plain}); code(err) == 0 && err == nil {
		t.Error("PrepareDelay of a queue that cannot be bound: no error")
	}
}

// An alarm ends: until then a delayed message is not sent on the plain way, where it would have to be held.
func TestOnlyARefusalSendsADelayedMessageItsPlainWay(t *testing.T) {
	for err, want := range map[error]bool{nil: false, transports.ErrRefused: true, errUnroutable: true, transports.ErrBlocked: false, errAlarm: false, transports.ErrDisconnected: false} {
		if got := plainWay(err); got != want {
			t.Errorf("plainWay(%v) = %v", err, got)
		}
	}
}
