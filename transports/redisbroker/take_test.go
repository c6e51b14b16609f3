package redisbroker_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/transports"
)

// fill puts n messages into the list of a queue: 000 is next.
func (r *rig) fill(list string, n int) (all []string) {
	r.Helper()
	for i := range n {
		id := fmt.Sprintf("%03d", i)
		r.raw.LPush(r.ctx, r.prefix+list, envelope(id, "", "q", 0))
		all = append(all, id)
	}
	return all
}

// The next batch comes while the one before is worked on: once, and never while nobody receives.
func TestTheNextBatchIsTakenAhead(t *testing.T) {
	r := newRig(t)
	r.fill("q", 30)
	k := r.consume(r.connect(r.transport(nil)), 8, queue("q"))
	waiting := func(n int64) {
		t.Helper()
		r.until(fmt.Sprintf("%d wait in the list", n), func() bool { return r.raw.LLen(r.ctx, r.prefix+"q").Val() == n })
	}
	var held []*transports.Delivery
	for range 4 {
		held = append(held, r.receive(k))
	}
	waiting(30 - 8)
	for _, d := range held {
		r.settle(d.Receipt.Ack(r.ctx))
	}
	if n := r.raw.LLen(r.ctx, r.prefix+"q").Val(); n != 30-8 {
		t.Errorf("%d wait in the list while nobody receives, want %d", n, 30-8)
	}
	r.receive(k)
	held = []*transports.Delivery{r.receive(k)} // leaves two
	waiting(30 - 8 - 4)
	r.settle(held[0].Receipt.Ack(r.ctx))
	for i := range 8 - 2 + 1 {
		if got, want := r.receive(k).Message.Properties.CorrelationID, fmt.Sprintf("%03d", 6+i); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// One message at a time costs one take and one ack each: what a take has emptied is not looked through again.
func TestALoneMessageIsLookedForOnce(t *testing.T) {
	r, _ := privateRig(t)
	k := r.consume(r.connect(r.transport(nil)), 8, queue("q"))
	const n = 50
	before := r.calls("evalsha")
	for range n {
		r.raw.LPush(r.ctx, r.prefix+"q", envelope("a", "", "q", 0))
		r.settle(r.receive(k).Receipt.Ack(r.ctx))
	}
	// A few more: the first look, and one for each second that nothing came.
	if got := r.calls("evalsha") - before; got < 2*n || got > 2*n+n/2 {
		t.Errorf("%d scripts for %d messages, want about %d", got, n, 2*n)
	}
}

// Several queues share a batch in turns, and each message is stashed under the name that its receipt knows.
func TestABatchOfSeveralQueues(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	for q, n := range map[string]int{"a": 50, "b": 3, "c": 20} {
		r.fill(q, n)
	}
	k := r.consume(c, 80, queue("a"), queue("b"), queue("c"))
	next := map[string]int{}
	for i := range 73 {
		d := r.receive(k)
		if got, want := d.Message.Properties.CorrelationID, fmt.Sprintf("%03d", next[d.Queue]); got != want {
			t.Errorf("%s of %s, want %s", got, d.Queue, want)
		}
		next[d.Queue]++
		if i == 8 && (next["a"] != 3 || next["b"] != 3 || next["c"] != 3) {
			t.Errorf("the first nine are of %v, want three of each", next)
		}
		r.settle(d.Receipt.Ack(r.ctx))
	}
	if n := len(r.stash()); n != 0 {
		t.Errorf("stash has %d entries", n)
	}
}

// What a narrower window leaves no room for goes back to the front, in its order.
func TestANarrowerWindowGivesBack(t *testing.T) {
	r := newRig(t)
	all := r.fill("q", 100)
	k := r.consume(r.connect(r.transport(nil)), 90, queue("q"))
	d := r.receive(k)
	if err := k.SetWindow(r.ctx, 4); err != nil {
		t.Fatal(err)
	}
	if n := len(r.stash()); n != 4 {
		t.Errorf("stash has %d entries, want 4", n)
	}
	back := ids(t, r.list("q"))
	slices.Reverse(back)
	if !slices.Equal(back, all[4:]) {
		t.Errorf("in the list are %q, want %q", back, all[4:])
	}
	r.settle(d.Receipt.Ack(r.ctx))
	for _, want := range all[1:10] {
		d := r.receive(k)
		if got := d.Message.Properties.CorrelationID; got != want || d.Redelivered {
			t.Errorf("%s (redelivered %v), want %s", got, d.Redelivered, want)
		}
		r.settle(d.Receipt.Ack(r.ctx))
	}
}

// The index is no listpack, which costs the server more with every message in work.
func TestTheIndexIsASkipList(t *testing.T) {
	r := newRig(t)
	r.fill("q", 1)
	r.receive(r.consume(r.connect(r.transport(nil)), 1, queue("q")))
	if got := r.raw.ObjectEncoding(r.ctx, r.prefix+"unacked_index").Val(); got != "skiplist" {
		t.Errorf("the index is a %q", got)
	}
}

// We take a batch and are killed; Kombu's sweep brings it back in its order.
func TestKombuRestoresABatchOfOurs(t *testing.T) {
	r := newKombuRig(t)
	p := faultproxy.New(t, r.raw.Options().Addr)
	direct := r.url
	r.url = fmt.Sprintf("redis://%s/%d", p.Addr(), r.db)
	c := r.connect(r.transport(nil))
	r.url = direct
	all := r.fill("q", 40)
	r.receive(r.consume(c, 40, queue("q")))
	r.until("our sweep is over", func() bool { return r.raw.Exists(r.ctx, r.prefix+"unacked_mutex").Val() == 0 })
	p.Cut()
	<-c.Done()
	if n := len(r.stash()); n != 40 {
		t.Fatalf("stash has %d entries, want 40", n)
	}
	for field := range r.stash() { // long ago
		r.raw.ZAdd(r.ctx, r.prefix+"unacked_index", redis.Z{Score: 1, Member: field})
	}
	got := r.python(`
with Consumer(ch, [Queue('q', Exchange('q'), routing_key='q')], callbacks=[show]):
    for _ in range(5): ch.qos.restore_visible(interval=1)
    drain(40)
    for m in got: m.ack()
`)
	var want []string
	for _, id := range all {
		want = append(want, id+" True True")
	}
	if !slices.Equal(got, want) {
		t.Errorf("Kombu received %q, want %q", got, want)
	}
	if n := len(r.stash()); n != 0 {
		t.Errorf("stash has %d entries", n)
	}
}
