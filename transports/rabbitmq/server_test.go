package rabbitmq

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/transporttest"
)

// brokerURL is the real server's address. Without one the test is skipped, or fails when INTEROP=required.
func brokerURL(t *testing.T) string {
	t.Helper()
	u := os.Getenv("CELERY_AMQP_URL")
	if u == "" {
		if os.Getenv("INTEROP") == "required" {
			t.Fatal("CELERY_AMQP_URL is not set")
		}
		t.Skip("CELERY_AMQP_URL is not set")
	}
	return u
}

var nameCount atomic.Int64

func uniqueName() string {
	return fmt.Sprintf("rmq.%d.%d.%d", os.Getpid(), time.Now().UnixNano(), nameCount.Add(1))
}

// A server is a real broker behind a proxy that can cut, and a plain driver connection to look at it from
// the side. What it names is deleted at the end.
type server struct {
	t     *testing.T
	url   string // through the proxy
	addr  string // of the broker itself
	proxy *faultproxy.Proxy
	side  *amqp.Connection
	names []string
}

func startServer(t *testing.T) *server {
	t.Helper()
	return serverAt(t, brokerURL(t))
}

func serverAt(t *testing.T, direct string) *server {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	a, err := parseURL(direct)
	if err != nil {
		t.Fatal(err)
	}
	a = a.withDefaults(false)
	s := &server{t: t, addr: a.dial(), proxy: faultproxy.New(t, a.dial())}
	s.proxy.Pieces(1000) // odd on purpose: frames are split anywhere
	user := url.UserPassword(a.user, a.password)
	s.url = fmt.Sprintf("amqp://%s@%s/%s", user, s.proxy.Addr(), url.PathEscape(a.vhost))
	s.side, err = amqp.Dial(fmt.Sprintf("amqp://%s@%s/%s", user, a.dial(), url.PathEscape(a.vhost)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, name := range s.names {
			s.do(func(ch *amqp.Channel) error { _, err := ch.QueueDelete(name, false, false, false); return err })
			s.do(func(ch *amqp.Channel) error { return ch.ExchangeDelete(name, false, false) })
		}
		if err := s.side.Close(); err != nil {
			t.Errorf("closing the side connection: %v", err)
		}
	})
	return s
}

func (s *server) name() string {
	s.names = append(s.names, uniqueName())
	return s.names[len(s.names)-1]
}

// do runs f on a channel of its own beside the transport; f's error is returned.
func (s *server) do(f func(*amqp.Channel) error) error { return scratch(s.side, f) }

// must is do for what has to work.
func (s *server) must(f func(*amqp.Channel) error) {
	s.t.Helper()
	if err := s.do(f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) declare(name string, args amqp.Table) {
	s.t.Helper()
	s.must(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, args)
		return err
	})
}

func (s *server) transport(change ...func(*Config)) *Transport {
	s.t.Helper()
	cfg := Config{URL: s.url, Name: "w1@test"}
	for _, f := range change {
		f(&cfg)
	}
	tr, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return tr
}

// connect returns a Conn that is closed at the end, before the server.
func (s *server) connect(change ...func(*Config)) *conn {
	s.t.Helper()
	c, err := s.transport(change...).Connect(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c.(*conn)
}

func (s *server) consume(c transports.Conn, window int, queues ...transports.Queue) *consumer {
	s.t.Helper()
	k, err := c.Consume(s.t.Context(), queues, window)
	if err != nil {
		s.t.Fatal(err)
	}
	return k.(*consumer)
}

func (s *server) publish(c transports.Conn, queue string, bodies ...string) {
	s.t.Helper()
	for _, body := range bodies {
		p := transports.Publishing{RoutingKey: queue, Mandatory: true, Message: protocol.Message{Body: []byte(body)}}
		if err := c.Publish(s.t.Context(), p); err != nil {
			s.t.Fatal(err)
		}
	}
}

const patience = 20 * time.Second

func (s *server) receive(k transports.Consumer) *transports.Delivery {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	d, err := k.Receive(ctx)
	if err != nil {
		s.t.Fatalf("Receive: %v", err)
	}
	return d
}

func (s *server) ack(ds ...*transports.Delivery) {
	s.t.Helper()
	for _, d := range ds {
		if err := d.Receipt.Ack(s.t.Context()); err != nil {
			s.t.Fatalf("Ack: %v", err)
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// publishes is the place of a Conn's publishing connection among those that it makes.
const publishes = 1

// Not parallel: the suite looks for goroutines left behind.
func TestSuite(t *testing.T) {
	brokerURL(t)
	transporttest.Run(t, func(t *testing.T) transporttest.Broker {
		s := startServer(t)
		return transporttest.Broker{
			Transport: func() transports.Transport { return s.transport() },
			Name:      s.name,
			Order:     transporttest.HighFirst,
			Counts:    true,

			Beside: true, // the prefetch is each consumer's own, and what was received before is a cancelled one's
			Cut:    s.proxy.Cut,
			Headers: protocol.ObjectOf(
				protocol.Member{Key: "when", Value: protocol.DateTime{Time: time.Date(2026, 11, 21, 15, 0, 0, 0, time.UTC), Naive: true}},
				protocol.Member{Key: "price", Value: protocol.Decimal("1.10")},
				protocol.Member{Key: "raw", Value: []byte{0xff, 0xfe}},
			),
			Patience: patience,
		}
	})
}
