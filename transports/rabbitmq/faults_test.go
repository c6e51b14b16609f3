package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// A node is a private RabbitMQ that may be hurt.
type node struct {
	t *testing.T
	*testservers.Server
}

func (n node) ctl(args ...string) {
	n.t.Helper()
	if out, err := n.Ctl(n.t.Context(), args...); err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
}

// set changes two settings of the node until the test ends.
func (n node) set(t *testing.T, a string, now, before int, b string, nowB, beforeB int) {
	t.Helper()
	set := func(x, y int) string {
		return fmt.Sprintf("application:set_env(rabbit, %s, %d), application:set_env(rabbit, %s, %d).", a, x, b, y)
	}
	n.ctl("eval", set(now, nowB))
	t.Cleanup(func() {
		if _, err := n.Ctl(context.WithoutCancel(t.Context()), "eval", set(before, beforeB)); err != nil {
			t.Error(err)
		}
	})
}

func publishing(queue string) transports.Publishing {
	return transports.Publishing{RoutingKey: queue, Mandatory: true, Message: protocol.Message{Body: []byte("x"), Properties: protocol.Properties{DeliveryMode: 2}}}
}

// TestFaults hurts one node in turn. Not parallel, and its parts are not: each changes the node for all.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("RabbitMQ takes some seconds to boot")
	}
	n := node{t, testservers.RabbitMQ(t)}
	long := os.Getenv("STALK_FAULTS") == "long"
	for _, tt := range []struct {
		name string
		test func(*testing.T, node, *server)
	}{
		{"what is fetched and cannot be received goes back in time", fetchedGoesBack},
		{"a delivery older than consumer_timeout costs its queue's channel", consumerTimeout},
		{"a message is parked and comes back", parks},
		{"a parking queue that is deleted is made again", parksAgain},
		{"a parking queue of somebody else's is refused", parkRefused},
		{"memory alarm", func(t *testing.T, n node, s *server) {
			if !long {
				t.Skip("only with STALK_FAULTS=long: the driver sees no difference to the other alarm")
			}
			alarm(t, n, s, "set_vm_memory_high_watermark absolute 1MB", "set_vm_memory_high_watermark absolute 1GB")
		}},
		{"disk alarm", func(t *testing.T, n node, s *server) {
			alarm(t, n, s, "set_disk_free_limit 900000GB", "set_disk_free_limit 20MB")
		}},
		{"queue made again with other arguments", madeAgain},
		{"queue exclusive to another connection", exclusiveElsewhere},
		{"permissions taken away", permissions},
		{"password changed", password},
		{"connections closed by the operator", closedByOperator},
		{"limits of frames and channels", limits},
		{"a peer that is frozen", frozen},
		{"closing against a frozen peer", closingFrozen},
		{"half a frame", halfFrames},
		{"a slow network", slow},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, node{t, n.Server}, serverAt(t, n.URL)) })
	}
}

// quick makes the node look for old deliveries ten times a second.
func (n node) quick(t *testing.T, timeout time.Duration) {
	n.set(t, "channel_tick_interval", 100, 60_000, "consumer_timeout", int(timeout.Milliseconds()), 1_800_000)
}

func timeout(d time.Duration) func(*Config) { return func(cfg *Config) { cfg.ConsumerTimeout = d } }

func fetchedGoesBack(t *testing.T, n node, s *server) {
	const limit = 6 * time.Second // most of it is for a machine that is busy: after a third it goes back
	n.quick(t, limit)
	var heard recorder
	c := s.connect(timeout(limit), func(cfg *Config) { cfg.Notify = heard.notify })
	classic, quorum := s.name(), s.name()
	s.declare(classic, amqp.Table{queueType: "classic"})
	s.declare(quorum, amqp.Table{queueType: "quorum"})
	k := s.consume(c, 20, transports.Queue{Name: classic}, transports.Queue{Name: quorum})
	for _, q := range []string{classic, quorum} {
		s.publish(c, q, "0", "1", "2", "3", "4", "5")
	}
	for began := time.Now(); time.Since(began) < 3*limit/2; time.Sleep(100 * time.Millisecond) { // nobody receives
		if heard.has(classic, 1) || heard.has(quorum, 1) {
			t.Fatal("the broker closed a channel")
		}
	}
	seen := map[string]bool{}
	for range 12 {
		d := s.receive(k)
		seen[d.Queue+string(d.Message.Body)] = true
		s.ack(d)
	}
	if len(seen) != 12 {
		t.Errorf("%d different ones, want 12: %v", len(seen), seen)
	}
}

func consumerTimeout(t *testing.T, n node, s *server) {
	n.quick(t, 3*time.Second)
	var heard recorder
	c := s.connect(timeout(-1), func(cfg *Config) { cfg.Notify = heard.notify })
	q, other := s.name(), s.name()
	s.declare(q, amqp.Table{queueType: "quorum"}) // from 4.3 on no other kind minds
	s.declare(other, nil)
	k := s.consume(c, 5, transports.Queue{Name: q}, transports.Queue{Name: other})
	s.publish(c, q, "long")
	d := s.receive(k)
	if by := d.Receipt.(transports.Parker).BeginBy(); !by.IsZero() {
		t.Errorf("without a limit it is to be begun by %v", by)
	}
	for lost, deadline := false, time.Now().Add(2*time.Minute); !lost; { // the other queue goes on, each of its deliveries for less than the limit
		s.publish(c, other, "short")
		safe := s.receive(k)
		if safe.Queue != other { // the copy of the long one
			if !safe.Redelivered {
				t.Error("it is not marked as redelivered")
			}
			s.ack(safe)
			safe = s.receive(k)
		}
		s.ack(safe)
		select {
		case <-d.Receipt.Lost():
			lost = true
		case <-time.After(50 * time.Millisecond):
			if time.Now().After(deadline) {
				t.Fatal("the broker does not mind how old a delivery is")
			}
		}
	}
	if err := d.Receipt.Ack(t.Context()); !errors.Is(err, transports.ErrLost) || errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("Ack: %v, want ErrLost alone", err)
	}
	eventually(t, "the queue is consumed again", func() bool { return heard.has(q, 1) && heard.has(q, 0) })
	if c.lost() != nil {
		t.Errorf("the connection was lost: %v", c.lost())
	}
}

func parks(t *testing.T, n node, s *server) {
	for _, kind := range []string{"classic", "quorum"} {
		c, q := s.connect(), s.name()
		s.declare(q, amqp.Table{queueType: kind})
		k := s.consume(c, 5, transports.Queue{Name: q})
		m := protocol.Message{
			Body: []byte("body"), Headers: protocol.ObjectOf(protocol.Member{Key: "task", Value: "t"}, protocol.Member{Key: "big", Value: int64(-1 << 40)}),
			Properties: protocol.Properties{
				ContentType: "application/json", ContentEncoding: "utf-8", CorrelationID: "c", ReplyTo: "r", DeliveryMode: 2,
				Expiration: "500", Priority: new(3),
			},
		}
		if err := c.Publish(t.Context(), transports.Publishing{RoutingKey: q, Mandatory: true, Message: m}); err != nil {
			t.Fatal(err)
		}
		for round := range 2 { // in circles: 1.024 seconds is the one of 1 second
			began := time.Now()
			if err := s.receive(k).Receipt.(transports.Parker).Park(t.Context(), 1024*time.Millisecond); err != nil {
				t.Fatalf("%s: round %d: %v", kind, round, err)
			}
			d := s.receive(k)
			if took := time.Since(began); took < 900*time.Millisecond {
				t.Errorf("%s: it came back after %v", kind, took)
			}
			if got := d.Message; string(got.Body) != "body" || got.Properties.ContentType != "application/json" || got.Properties.CorrelationID != "c" ||
				got.Properties.ReplyTo != "r" || got.Properties.DeliveryMode != 2 || *got.Properties.Priority != 3 || got.Properties.Expiration != "" || d.Queue != q || d.Redelivered {
				t.Errorf("%s: %+v", kind, d)
			}
			if v, _ := d.Message.Headers.Get("big"); v != int64(-1<<40) {
				t.Errorf("%s: header big = %v", kind, v)
			}
			if err := d.Receipt.Reject(t.Context(), true); err != nil {
				t.Error(err)
			}
		}
		s.ack(s.receive(k))
		out, err := n.Ctl(t.Context(), "list_queues", "name", "messages")
		if lots := strings.Count(out, q+".delay."); err != nil || lots != 1 || !strings.Contains(out, q+".delay.1\t0") {
			t.Errorf("%s: %d parking queues: %v\n%s", kind, lots, err, out)
		}
		s.names = append(s.names, q+".delay.1")
	}
}

func parksAgain(t *testing.T, _ node, s *server) {
	c, q := s.connect(), s.name()
	lot := q + ".delay.1"
	s.names = append(s.names, lot)
	s.declare(q, nil)
	k := s.consume(c, 5, transports.Queue{Name: q})
	s.publish(c, q, "x")
	for range 2 {
		if err := s.receive(k).Receipt.(transports.Parker).Park(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
		d := s.receive(k)
		s.must(func(ch *amqp.Channel) error { _, err := ch.QueueDelete(lot, false, false, false); return err })
		if err := d.Receipt.Reject(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	s.ack(s.receive(k))
}

func parkRefused(t *testing.T, _ node, s *server) {
	c, q := s.connect(), s.name()
	s.names = append(s.names, q+".delay.1")
	s.declare(q, nil)
	s.declare(q+".delay.1", nil) // nothing expires in it
	k := s.consume(c, 5, transports.Queue{Name: q})
	s.publish(c, q, "x")
	d := s.receive(k)
	if err := d.Receipt.(transports.Parker).Park(t.Context(), time.Second); !errors.Is(err, transports.ErrRefused) {
		t.Errorf("Park: %v, want ErrRefused", err)
	}
	s.ack(d) // still ours
}

func alarm(t *testing.T, n node, s *server, raise, lower string) {
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	k := s.consume(c, 10, transports.Queue{Name: q})
	s.publish(c, q, "a", "b", "c")
	first := s.receive(k)
	n.ctl(strings.Fields(raise)...)
	over := sync.OnceFunc(func() { n.ctl(strings.Fields(lower)...) })
	defer over()
	eventually(t, "a publish is refused as blocked", func() bool {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := c.Publish(ctx, publishing(q))
		if took := time.Since(began); took > patience/2 {
			t.Errorf("a publish took %v", took)
		}
		return errors.Is(err, transports.ErrBlocked) && errors.Is(err, transports.ErrRefused)
	})
	s.ack(first) // taking, acknowledging and giving back go on
	s.ack(s.receive(k))
	if err := s.receive(k).Receipt.Reject(t.Context(), true); err != nil {
		t.Error(err)
	}
	if err := s.receive(k).Receipt.(transports.Parker).Park(t.Context(), time.Second); !errors.Is(err, transports.ErrBlocked) {
		t.Errorf("Park: %v, want ErrBlocked", err)
	}
	began := time.Now()
	late := s.connect() // a worker may start, and end
	k2 := s.consume(late, 1, transports.Queue{Name: q})
	if err := errors.Join(k2.Close(), late.Close(), k.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	t.Logf("connecting, consuming and closing during the alarm: %v", time.Since(began))
	if took := time.Since(began); took > patience {
		t.Errorf("starting and ending took %v", took)
	}
	c = s.connect()
	waiting := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			err := c.Publish(ctx, publishing(q))
			if !errors.Is(err, transports.ErrBlocked) || ctx.Err() != nil {
				waiting <- err
				return
			}
		}
	}()
	over()
	began = time.Now()
	if err := <-waiting; err != nil {
		t.Errorf("a publish that waited: %v", err)
	}
	t.Logf("the publish that waited went through %v after the alarm", time.Since(began))
}

func madeAgain(t *testing.T, _ node, s *server) {
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	k := s.consume(c, 5, transports.Queue{Name: q, Create: true, Arguments: protocol.ObjectOf(protocol.Member{Key: "x-max-priority", Value: int64(5)})})
	s.publish(c, q, "x")
	s.ack(s.receive(k))
	s.must(func(ch *amqp.Channel) error {
		if _, err := ch.QueueDelete(q, false, false, false); err != nil {
			return err
		}
		_, err := ch.QueueDeclare(q, true, false, false, false, amqp.Table{"x-max-length": 100})
		return err
	})
	s.publish(c, q, "y")
	s.ack(s.receive(k))
}

func exclusiveElsewhere(t *testing.T, _ node, s *server) {
	var heard recorder
	c := s.connect(func(cfg *Config) { cfg.Notify = heard.notify })
	q, other := s.name(), s.name()
	s.declare(other, nil)
	holder, err := amqp.Dial(n2url(s))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if err := scratch(holder, func(ch *amqp.Channel) error { _, err := ch.QueueDeclare(q, false, false, true, false, nil); return err }); err != nil {
		t.Fatal(err)
	}
	k := s.consume(c, 5, transports.Queue{Name: q, Create: true}, transports.Queue{Name: other})
	if !heard.has(q, 1) {
		t.Error("Notify has not heard of it")
	}
	s.publish(c, other, "x")
	s.ack(s.receive(k))
	_ = holder.Close() // and the queue with it: now it is ours to make
	eventually(t, "the queue is consumed", func() bool { return heard.has(q, 0) })
	s.publish(c, q, "y")
	s.ack(s.receive(k))
}

// n2url is the broker's own address, past the proxy.
func n2url(s *server) string { return strings.Replace(s.url, s.proxy.Addr(), s.addr, 1) }

// as returns s for another user.
func (s *server) as(user string) func(*Config) {
	return func(cfg *Config) {
		u, _ := url.Parse(s.url)
		u.User = url.UserPassword(user, "first")
		cfg.URL = u.String()
	}
}

func permissions(t *testing.T, n node, s *server) {
	q, other := s.name(), s.name()
	s.declare(q, nil)
	s.declare(other, nil)
	n.ctl("add_user", "limited", "first")
	defer n.ctl("delete_user", "limited")
	n.ctl("set_permissions", "limited", ".*", ".*", ".*")
	var heard recorder
	c := s.connect(s.as("limited"), func(cfg *Config) { cfg.Notify = heard.notify })
	k := s.consume(c, 5, transports.Queue{Name: q})
	s.publish(c, q, "a", "b")
	d := s.receive(k)
	n.ctl("set_permissions", "limited", "", "", other)
	eventually(t, "publishing is refused", func() bool {
		time.Sleep(time.Second) // a channel of the broker forgets what was allowed only when it has a rest
		err := c.Publish(t.Context(), publishing(q))
		return errors.Is(err, transports.ErrRefused) && !errors.Is(err, transports.ErrDisconnected)
	})
	s.ack(d, s.receive(k)) // who consumes already goes on
	s.must(func(ch *amqp.Channel) error {
		return ch.Publish("", other, true, false, amqp.Publishing{Body: []byte("x")})
	})
	if err := k.SetQueues(t.Context(), []transports.Queue{{Name: q}, {Name: other}}); err != nil {
		t.Fatal(err)
	}
	for { // publishes of q from before may be among them
		d := s.receive(k)
		s.ack(d)
		if d.Queue == other {
			break
		}
	}
	if err := d.Receipt.Ack(t.Context()); !errors.Is(err, transports.ErrSettled) {
		t.Error(err)
	}
	s.must(func(ch *amqp.Channel) error { _, err := ch.QueueDelete(q, false, false, false); return err })
	s.declare(q, nil)
	eventually(t, "consuming again is refused", func() bool { return heard.has(q, 1) })
	s.must(func(ch *amqp.Channel) error {
		return ch.Publish("", other, true, false, amqp.Publishing{Body: []byte("y")})
	})
	s.ack(s.receive(k))
	n.ctl("set_permissions", "limited", ".*", ".*", ".*")
	eventually(t, "it is consumed as soon as that is allowed", func() bool { return heard.has(q, 0) })
	if c.lost() != nil {
		t.Errorf("the connection was lost: %v", c.lost())
	}
}

func password(t *testing.T, n node, s *server) {
	if os.Getenv("STALK_FAULTS") != "long" {
		t.Skip("only with STALK_FAULTS=long: many calls of rabbitmqctl; TestCredentials looks at the same answers")
	}
	n.ctl("add_user", "rotated", "first")
	defer n.ctl("delete_user", "rotated")
	n.ctl("set_permissions", "rotated", ".*", ".*", ".*")
	q := s.name()
	s.declare(q, nil)
	c := s.connect(s.as("rotated"))
	k := s.consume(c, 5, transports.Queue{Name: q})
	n.ctl("change_password", "rotated", "second")
	s.publish(c, q, "x") // who is in stays in
	s.ack(s.receive(k))
	if _, err := s.transport(s.as("rotated")).Connect(t.Context()); !errors.Is(err, transports.ErrCredentials) || strings.Contains(err.Error(), "first") {
		t.Errorf("Connect: %v, want ErrCredentials without the password", err)
	}
	n.ctl("clear_permissions", "rotated")
	n.ctl("change_password", "rotated", "first")
	if _, err := s.transport(s.as("rotated")).Connect(t.Context()); !errors.Is(err, transports.ErrCredentials) {
		t.Errorf("Connect without access to the virtual host: %v, want ErrCredentials", err)
	}
}

func closedByOperator(t *testing.T, n node, s *server) {
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	k := s.consume(c, 5, transports.Queue{Name: q})
	s.publish(c, q, "x")
	d := s.receive(k)
	began := time.Now()
	n.ctl("eval", "[rabbit_networking:close_connection(P, \"maintenance\") || P <- rabbit_networking:connections(), "+
		"proplists:get_value(name, proplists:get_value(client_properties, rabbit_reader:info(P, [client_properties]), []), x) =/= y].")
	waitFor(t, "Done", c.Done())
	waitFor(t, "Lost", d.Receipt.Lost())
	t.Logf("noticed %v after the command began", time.Since(began))
	if !errors.Is(c.Err(), transports.ErrDisconnected) || !strings.Contains(c.Err().Error(), "maintenance") {
		t.Errorf("Err = %v, want ErrDisconnected with the operator's reason", c.Err())
	}
	again := s.connect()
	k = s.consume(again, 5, transports.Queue{Name: q})
	s.ack(s.receive(k))
	// The side connection of the test was closed too.
	side, err := amqp.Dial(n2url(s))
	if err != nil {
		t.Fatal(err)
	}
	s.side = side
}

func limits(t *testing.T, n node, s *server) {
	n.set(t, "frame_max", 8192, 131_072, "channel_max", 6, 2047)
	var heard recorder
	c := s.connect(func(cfg *Config) { cfg.Notify = heard.notify })
	q := s.name()
	s.declare(q, nil)
	k := s.consume(c, 5, transports.Queue{Name: q})
	big := protocol.Message{Body: []byte(strings.Repeat("b", 100_000))}
	if err := c.Publish(t.Context(), transports.Publishing{RoutingKey: q, Mandatory: true, Message: big}); err != nil {
		t.Errorf("a body of many frames: %v", err)
	}
	d := s.receive(k)
	if len(d.Message.Body) != len(big.Body) {
		t.Errorf("%d bytes of %d", len(d.Message.Body), len(big.Body))
	}
	s.ack(d)
	big.Headers = protocol.ObjectOf(protocol.Member{Key: "h", Value: strings.Repeat("h", 10_000)})
	if err := c.Publish(t.Context(), transports.Publishing{RoutingKey: q, Mandatory: true, Message: big}); !errors.Is(err, transports.ErrRefused) {
		t.Errorf("headers larger than a frame: %v, want ErrRefused", err)
	}
	var queues []transports.Queue
	for range 8 { // more than there are channels
		queues = append(queues, transports.Queue{Name: s.name()})
		s.declare(queues[len(queues)-1].Name, nil)
	}
	if err := k.SetQueues(t.Context(), append(queues, transports.Queue{Name: q})); err != nil {
		t.Fatal(err)
	}
	s.publish(c, q, "y")
	s.ack(s.receive(k))
	told := 0
	for _, q := range queues {
		if heard.has(q.Name, 2) || heard.has(q.Name, 1) {
			told++
		}
	}
	if told < 2 {
		t.Errorf("Notify heard of %d queues without a channel, want at least 2", told)
	}
	if c.lost() != nil {
		t.Errorf("the connection was lost: %v", c.lost())
	}
	// A frame that fits and grows as it is mended must not be larger than what the driver takes.
	full := amqp.Publishing{Body: []byte("z"), Headers: amqp.Table{"h": strings.Repeat("h", 8192-60)}, Priority: 0}
	s.must(func(ch *amqp.Channel) error { return ch.Publish("", q, true, false, full) })
	s.ack(s.receive(k))
}

// frozen says how long a frozen peer stays unnoticed.
func frozen(t *testing.T, _ node, s *server) {
	const beat = time.Second
	for name, d := range map[string]faultproxy.Direction{"to the broker": faultproxy.ToServer, "from the broker": faultproxy.ToClient} {
		c := s.connect(func(cfg *Config) { cfg.Heartbeat = beat })
		q := s.name()
		s.declare(q, nil)
		k := s.consume(c, 5, transports.Queue{Name: q})
		s.publish(c, q, "x")
		r := s.receive(k).Receipt
		s.proxy.Freeze(d)
		began := time.Now()
		publish := make(chan error, 1)
		go func() { publish <- c.Publish(t.Context(), publishing(q)) }()
		waitFor(t, "Done", c.Done())
		took := time.Since(began)
		if err := <-publish; err == nil {
			t.Errorf("%s: a publish was confirmed", name)
		}
		waitFor(t, "Lost", r.Lost())
		t.Logf("frozen %s, heartbeat %v: noticed after %v", name, beat, took.Round(10*time.Millisecond))
		if took > 10*beat || took < beat/2 {
			t.Errorf("%s: noticed after %v", name, took)
		}
		s.proxy.Thaw()
		_ = c.Close()
		again := s.connect()
		s.ack(s.receive(s.consume(again, 1, transports.Queue{Name: q})))
		_ = again.Close()
	}
}

func closingFrozen(t *testing.T, _ node, s *server) {
	c := s.connect(func(cfg *Config) { cfg.Heartbeat = time.Hour })
	q := s.name()
	s.declare(q, nil)
	k := s.consume(c, 5, transports.Queue{Name: q})
	sub, err := c.Subscribe(t.Context(), transports.Fanout{Exchange: s.name(), Type: "fanout", Queue: s.name(), Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	s.publish(c, q, "x")
	d := s.receive(k)
	s.proxy.Freeze(faultproxy.Both)
	defer s.proxy.Thaw()
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"the consumer", k.Close},
		{"the subscription", sub.Close},
		{"an ack", func() error { return d.Receipt.Ack(t.Context()) }},
		{"the connection", c.Close},
	} {
		began := time.Now()
		err := step.do()
		took := time.Since(began)
		t.Logf("%s: %v, after %v", step.name, err, took.Round(10*time.Millisecond))
		if took > 10*closeTimeout {
			t.Errorf("%s took %v", step.name, took)
		}
	}
}

// halfFrames cuts in the middle of a delivery, a publish and an ack, at each byte of a few, and counts.
func halfFrames(t *testing.T, _ node, s *server) {
	q := s.name()
	s.declare(q, nil)
	settled := map[string]int{}
	sent := 0
	for _, d := range []faultproxy.Direction{faultproxy.ToClient, faultproxy.ToServer} {
		for at := 1; at < 400; at += 29 {
			c := s.connect()
			k := s.consume(c, 3, transports.Queue{Name: q})
			s.proxy.CutAfter(d, at)
			for {
				p := publishing(q)
				p.Message.Body = []byte(fmt.Sprint(sent))
				if c.Publish(t.Context(), p) != nil {
					break
				}
				sent++
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				r, err := k.Receive(ctx)
				cancel()
				if err != nil {
					break
				}
				if r.Receipt.Ack(t.Context()) == nil {
					settled[string(r.Message.Body)]++
				}
			}
			_ = c.Close()
		}
	}
	c := s.connect()
	k := s.consume(c, 3, transports.Queue{Name: q})
	eventually(t, "all that was confirmed was received", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if r, err := k.Receive(ctx); err == nil && r.Receipt.Ack(t.Context()) == nil {
			settled[string(r.Message.Body)]++
		}
		for i := range sent {
			if settled[fmt.Sprint(i)] == 0 {
				return false
			}
		}
		return true
	})
	t.Logf("%d messages confirmed over 28 cuts, all received", sent)
}

func slow(t *testing.T, _ node, s *server) {
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	k := s.consume(c, 5, transports.Queue{Name: q})
	s.proxy.Slow(4000, 5*time.Millisecond)
	defer s.proxy.Slow(0, 0)
	p := publishing(q)
	p.Message.Body = []byte(strings.Repeat("s", 8_000))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Publish(ctx, p); err != nil {
		t.Fatalf("Publish: %v", err)
	}
	d := s.receive(k)
	if len(d.Message.Body) != 8000 {
		t.Errorf("%d bytes", len(d.Message.Body))
	}
	s.ack(d)
	if c.lost() != nil {
		t.Error(c.lost())
	}
}
