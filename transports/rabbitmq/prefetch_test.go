package rabbitmq

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// apply is what a link does with plans.
func apply(sizes []int, window int) []int {
	for {
		cancel, add := plan(sizes, window)
		sizes = sizes[:len(sizes)-cancel]
		if add == 0 {
			return sizes
		}
		sizes = append(sizes, add)
	}
}

func TestPrefetchPlan(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sizes  []int
		window int
		want   []int
	}{
		{"the first consumer has the window", nil, 4, []int{4}},
		{"nothing to do", []int{4}, 4, []int{4}},
		{"one more for an ETA task", []int{4}, 5, []int{4, 1}},
		{"and one less", []int{4, 1}, 4, []int{4}},
		{"several ETA tasks", []int{4, 1, 1, 1}, 5, []int{4, 1}},
		{"a little narrower is left to Receive", []int{8}, 7, []int{8}},
		{"much narrower starts again", []int{8}, 3, []int{3}},
		{"much narrower, of several", []int{8, 1, 1}, 2, []int{2}},
		{"a tight raise", []int{1}, 3, []int{1, 2}},
		{"back to one", []int{1, 2}, 1, []int{1}},
		{"many consumers grow faster", []int{93, 1, 1, 1, 1, 1, 1, 1}, 101, []int{93, 1, 1, 1, 1, 1, 1, 1, 25}},
		{"no more than AMQP has for one", nil, 100_000, []int{65535, 34465}},
		{"past that", []int{65535}, 70_000, []int{65535, 4465}},
		{"and much narrower, to more than that", []int{65535, 65535, 65535}, 90_000, []int{65535, 65535}},
		{"at the bound", []int{maxWindow}, maxWindow + 1000, []int{maxWindow}},
	} {
		if got := apply(tt.sizes, tt.window); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// However the window moves: enough is fetched, at most twice as much, by few consumers.
func TestPrefetchPlanHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var sizes []int
	window := 1
	for i := range 100_000 {
		switch r.IntN(10) {
		case 0:
			window = 1 + r.IntN(maxPrefetch)
		case 2:
			window = 1 + r.IntN(maxWindow)
		case 1:
			window = 1 + r.IntN(20)
		default:
			window = max(1, window+r.IntN(5)-2)
		}
		window = min(window, maxWindow)
		sizes = apply(sizes, window)
		sum := 0
		for _, n := range sizes {
			if n < 1 || n > maxPrefetch {
				t.Fatalf("step %d: a consumer without bound in %v", i, sizes)
			}
			sum += n
		}
		if sum < window || sum > maxWindow || window > 1 && sum >= 2*window || len(sizes) > maxConsumers {
			t.Fatalf("step %d: window %d, consumers %v", i, window, sizes)
		}
	}
	sizes, window = nil, 1 // one at a time, all the way
	for ; window <= maxWindow; window++ {
		if sizes = apply(sizes, window); len(sizes) > maxConsumers {
			t.Fatalf("window %d takes %d consumers", window, len(sizes))
		}
	}
}

func TestConsumerTags(t *testing.T) {
	if got := tag("w1@host", "celery", 1); got != "w1@host.celery" {
		t.Error(got)
	}
	long := tag("w1@host", strings.Repeat("q", 255), 12)
	if len(long) != maxShort || !strings.HasSuffix(long, ".12") {
		t.Errorf("%d bytes: %s", len(long), long)
	}
}

// A window may be larger than a consumer's prefetch can be: what is behind 65,535 messages that wait here is not out of reach.
func TestAWindowLargerThanAMQPCanSay(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	const n = maxPrefetch + 100
	s.must(func(ch *amqp.Channel) error {
		for range n {
			if err := ch.PublishWithContext(t.Context(), "", q, false, false, amqp.Publishing{Body: []byte("x")}); err != nil {
				return err
			}
		}
		return nil
	})
	k := s.consume(c, 8, transports.Queue{Name: q})
	if err := k.SetWindow(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	waiting := func() (n int) {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, m := range k.ready {
			n += len(m.waiting)
		}
		return n
	}
	for last := 0; waiting() < n; { // as long as they come
		eventually(t, fmt.Sprintf("more than %d of %d are here", last, n), func() bool { return waiting() > last })
		last = waiting()
	}
}

// What nobody has received goes back when the window shrinks, to its old place, and what was received stays.
func TestAWindowThatShrinksGivesBack(t *testing.T) {
	s := startServer(t)
	c, q := s.connect(), s.name()
	s.declare(q, nil)
	var bodies []string
	for i := range 30 {
		bodies = append(bodies, fmt.Sprintf("%02d", i))
	}
	s.publish(c, q, bodies...)
	left := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d messages are left in the queue", n), func() bool {
			var info amqp.Queue
			s.must(func(ch *amqp.Channel) (err error) {
				info, err = ch.QueueDeclarePassive(q, false, false, false, false, nil)
				return err
			})
			return info.Messages == n
		})
	}
	k := s.consume(c, 4, transports.Queue{Name: q})
	left(26)
	if err := k.SetWindow(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	left(10)
	held := []*transports.Delivery{s.receive(k), s.receive(k)}
	if err := k.SetWindow(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	left(26)
	for i := range bodies {
		if i >= len(held) {
			held = append(held, s.receive(k))
		}
		if got := string(held[i].Message.Body); got != bodies[i] {
			t.Fatalf("%q came where %q was", got, bodies[i])
		}
		s.ack(held[i])
	}
	left(0)
}
