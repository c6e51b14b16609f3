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

// apply is what a link does with a plan.
func apply(sizes []int, window int) []int {
	cancel, add := plan(sizes, window)
	sizes = sizes[:len(sizes)-cancel]
	if add > 0 {
		sizes = append(sizes, add)
	}
	return sizes
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
		{"no more than AMQP has", nil, 100_000, []int{65535}},
		{"at the bound", []int{65535}, 70_000, []int{65535}},
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
		case 1:
			window = 1 + r.IntN(20)
		default:
			window = max(1, window+r.IntN(5)-2)
		}
		window = min(window, maxPrefetch)
		sizes = apply(sizes, window)
		sum := 0
		for _, n := range sizes {
			if n < 1 {
				t.Fatalf("step %d: a consumer without bound in %v", i, sizes)
			}
			sum += n
		}
		if sum < window || sum > maxPrefetch || window > 1 && sum >= 2*window || len(sizes) > maxConsumers {
			t.Fatalf("step %d: window %d, consumers %v", i, window, sizes)
		}
	}
	sizes, window = nil, 1 // one at a time, all the way
	for ; window <= maxPrefetch; window++ {
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
