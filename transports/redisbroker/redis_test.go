package redisbroker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/redisbroker"
)

// A rig is one test's corner of a Redis, looked at from both sides.
type rig struct {
	*testing.T
	ctx    context.Context
	url    string
	db     int
	prefix string
	raw    *redis.Client

	mu    sync.Mutex
	warns []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	addr, password, db := server(t)
	return rigOn(t, addr, password, db)
}

func rigOn(t *testing.T, addr, password string, db int) *rig {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		started := goleak.IgnoreAnyFunction("github.com/stalkworker/stalk/internal/testservers.run.func1") // a server that was started again
		left := errors.New("not looked yet")
		for began := time.Now(); !t.Failed() && left != nil && time.Since(began) < 30*time.Second; { // Find itself waits half a second
			left = goleak.Find(ignore, started)
		}
		if !t.Failed() && left != nil {
			t.Error(left)
		}
	})
	return bareRig(t, addr, password, db)
}

// bareRig is for tests beside others: it looks for no goroutine left behind.
func bareRig(t *testing.T, addr, password string, db int) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	r := &rig{T: t, ctx: ctx, db: db, prefix: prefixOn(t, addr, password, db)}
	r.url = fmt.Sprintf("redis://%s/%d", addr, db)
	if password != "" {
		r.url = fmt.Sprintf("redis://:%s@%s/%d", password, addr, db)
	}
	r.raw = redis.NewClient(&redis.Options{Addr: addr, Password: password, DB: db, Protocol: 2, DisableIdentity: true, MaxRetries: -1})
	t.Cleanup(func() { _ = r.raw.Close() })
	return r
}

func (r *rig) transport(more map[string]any) *redisbroker.Transport {
	r.Helper()
	o := map[string]any{"global_keyprefix": r.prefix}
	for k, v := range more {
		o[k] = v
	}
	tr, err := redisbroker.New(redisbroker.Config{URL: r.url, Options: o, Warn: func(msg string, args ...any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.warns = append(r.warns, fmt.Sprint(msg, args))
	}})
	if err != nil {
		r.Fatal(err)
	}
	return tr
}

func (r *rig) connect(tr *redisbroker.Transport) transports.Conn {
	r.Helper()
	c, err := tr.Connect(r.ctx)
	if err != nil {
		r.Fatalf("Connect: %v", err)
	}
	r.Cleanup(func() { _ = c.Close() })
	return c
}

func (r *rig) consume(c transports.Conn, window int, queues ...transports.Queue) transports.Consumer {
	r.Helper()
	k, err := c.Consume(r.ctx, queues, window)
	if err != nil {
		r.Fatalf("Consume: %v", err)
	}
	return k
}

func (r *rig) receive(k transports.Consumer) *transports.Delivery {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	d, err := k.Receive(ctx)
	if err != nil {
		r.Fatalf("Receive: %v", err)
	}
	return d
}

func (r *rig) publish(c transports.Conn, p transports.Publishing) {
	r.Helper()
	if err := c.Publish(r.ctx, p); err != nil {
		r.Fatalf("Publish: %v", err)
	}
}

func (r *rig) send(c transports.Conn, queue string, ids ...string) {
	r.Helper()
	for _, id := range ids {
		r.publish(c, transports.Publishing{RoutingKey: queue, Message: message(id)})
	}
}

func (r *rig) settle(err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("settling: %v", err)
	}
}

func (r *rig) list(name string) []string {
	r.Helper()
	v, err := r.raw.LRange(r.ctx, r.prefix+name, 0, -1).Result()
	if err != nil {
		r.Fatal(err)
	}
	return v
}

func (r *rig) stash() map[string]string {
	r.Helper()
	v, err := r.raw.HGetAll(r.ctx, r.prefix+"unacked").Result()
	if err != nil {
		r.Fatal(err)
	}
	return v
}

func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("never: %s", what)
		}
	}
}

func queue(name string) transports.Queue { return transports.Queue{Name: name} }

func message(id string) protocol.Message {
	return protocol.Message{
		Headers: protocol.ObjectOf(protocol.Member{Key: "task", Value: "t"}, protocol.Member{Key: "id", Value: id}),
		Properties: protocol.Properties{
			ContentType: "application/json", ContentEncoding: "utf-8", CorrelationID: id, DeliveryMode: 2,
		},
		Body: []byte(`[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]`),
	}
}

// envelope is one as a Python client sends it.
func envelope(id, exchange, key string, priority int) string {
	return fmt.Sprintf(`{"body": "W1tdLCB7fSwge31d", "content-encoding": "utf-8", "content-type": "application/json", `+
		`"headers": {"task": "t", "id": %q}, "properties": {"big": 12345678901234567890.10, "correlation_id": %q, "delivery_mode": 2, `+
		`"delivery_info": {"exchange": %q, "routing_key": %q}, "priority": %d, "body_encoding": "base64", "delivery_tag": "tag-%s"}, "more": []}`,
		id, id, exchange, key, priority, id)
}

func ids(t *testing.T, elements []string) []string {
	t.Helper()
	out := []string{}
	for _, e := range elements {
		m, _, err := protocol.DecodeEnvelope([]byte(e), protocol.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m.Properties.CorrelationID)
	}
	return out
}

func TestPublishWritesKombusEnvelopeWithAFreshTag(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	m := message("a")
	m.Properties.Priority = new(4)
	for range 2 {
		r.publish(c, transports.Publishing{RoutingKey: "q", Message: m})
	}
	elements := r.list("q\x06\x163")
	if len(elements) != 2 {
		t.Fatalf("step 3 holds %d elements, want 2", len(elements))
	}
	var tags []string
	for _, e := range elements {
		var env struct {
			Properties map[string]any `json:"properties"`
		}
		if err := json.Unmarshal([]byte(e), &env); err != nil {
			t.Fatal(err)
		}
		tags = append(tags, env.Properties["delivery_tag"].(string))
		delete(env.Properties, "delivery_tag")
		want := map[string]any{
			"correlation_id": "a", "delivery_mode": 2.0, "priority": 4.0, "body_encoding": "base64",
			"delivery_info": map[string]any{"exchange": "", "routing_key": "q"},
		}
		if d := cmp.Diff(want, env.Properties); d != "" {
			t.Error(d)
		}
	}
	if tags[0] == tags[1] || len(tags[0]) != 36 {
		t.Errorf("delivery tags %q", tags)
	}
}

func TestTakingStashesUnderAFieldOfItsOwnWithTheQueue(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	e := envelope("a", "ex", "rk", 0)
	r.raw.LPush(r.ctx, r.prefix+"q", e, e) // one message copied to a queue twice has one tag
	k := r.consume(c, 5, queue("q"))
	d := r.receive(k)
	stash := r.stash()
	if len(stash) != 2 {
		t.Fatalf("stash has %d entries, want 2", len(stash))
	}
	for field, value := range stash {
		if field == "tag-a" || value != `[`+e+`, "", "q"]` {
			t.Errorf("stash %q = %q", field, value)
		}
		at, err := r.raw.ZScore(r.ctx, r.prefix+"unacked_index", field).Result()
		if err != nil || at < float64(time.Now().Unix()-60) || at > float64(time.Now().Unix()+60) {
			t.Errorf("score %v, %v", at, err)
		}
	}
	if d.Message.Exchange != "ex" || d.Message.RoutingKey != "rk" || d.Queue != "q" {
		t.Errorf("delivery of %q/%q from %q", d.Message.Exchange, d.Message.RoutingKey, d.Queue)
	}
	r.settle(d.Receipt.Ack(r.ctx))
	if n := len(r.stash()); n != 1 {
		t.Errorf("after one ack the stash has %d entries, want 1: the other copy is protected", n)
	}
}

func TestUnreadableElementsAreSetAside(t *testing.T) {
	for _, tt := range []struct{ name, raw string }{
		{"no JSON", "\x00no json"},
		{"no object", "[1]"},
		{"no delivery tag", `{"body": "", "headers": {}, "properties": {"delivery_info": {"exchange": "", "routing_key": "q"}}}`},
		{"no delivery info", `{"body": "", "headers": {}, "properties": {"delivery_tag": "x"}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			c := r.connect(r.transport(nil))
			r.raw.LPush(r.ctx, r.prefix+"q", tt.raw)
			r.raw.LPush(r.ctx, r.prefix+"q", tt.raw)
			r.raw.LPush(r.ctx, r.prefix+"q", envelope("good", "", "q", 0))
			k := r.consume(c, 1, queue("q"))
			d := r.receive(k)
			if d.Malformed == nil || string(d.Message.Body) != tt.raw {
				t.Fatalf("Malformed = %v, body %q", d.Malformed, d.Message.Body)
			}
			for _, value := range r.stash() { // what a Python sweep would load
				var parts []any
				if err := json.Unmarshal([]byte(value), &parts); err != nil || len(parts) != 3 || parts[2] != "q.quarantine" {
					t.Errorf("stash %q", value)
				}
			}
			r.settle(d.Receipt.Move(r.ctx, "aside"))
			if got := r.list("aside"); !slices.Equal(got, []string{tt.raw}) {
				t.Errorf("aside holds %q", got)
			}
			if d = r.receive(k); d.Malformed == nil {
				t.Fatal("the second was readable")
			}
			if err := c.Close(); err != nil { // unsettled: not back into the queue
				t.Fatal(err)
			}
			if got := r.list("q.quarantine"); !slices.Equal(got, []string{tt.raw}) {
				t.Errorf("quarantine holds %q", got)
			}
			if got := ids(t, r.list("q")); !slices.Equal(got, []string{"good"}) {
				t.Errorf("queue holds %q", got)
			}
			if n := len(r.stash()); n != 0 {
				t.Errorf("stash has %d entries", n)
			}
		})
	}
}

// A Python 5.7 worker takes such a message for ever.
func TestAMessageWithoutIDNeverReturnsToItsQueue(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	e := strings.Replace(envelope("a", "", "q", 0), `"id": "a"`, `"x": 1`, 1)
	r.raw.LPush(r.ctx, r.prefix+"q", e)
	d := r.receive(r.consume(c, 1, queue("q")))
	if d.Malformed != nil {
		t.Errorf("Malformed: %v", d.Malformed)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := r.list("q.quarantine"); !slices.Equal(got, []string{e}) {
		t.Errorf("quarantine holds %q", got)
	}
	if got := r.list("q"); len(got) != 0 {
		t.Errorf("queue holds %q", got)
	}
}

func TestRequeueGoesToTheBackAndCloseToTheFrontOldestFirst(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	for _, id := range []string{"1", "2", "3", "4", "5"} {
		r.raw.LPush(r.ctx, r.prefix+"q\x06\x163", envelope(id, "ex", "elsewhere", 5))
	}
	k := r.consume(c, 3, queue("q"))
	one := r.receive(k)
	r.receive(k)
	r.receive(k)
	r.settle(one.Receipt.Reject(r.ctx, true))
	if got := ids(t, r.list("q\x06\x163")); !slices.Equal(got, []string{"1", "5", "4"}) {
		t.Errorf("after the requeue: %q, want 1 at the back", got)
	}
	r.settle(c.Close())
	elements := r.list("q\x06\x163")
	if got := ids(t, elements); !slices.Equal(got, []string{"1", "5", "4", "3", "2"}) {
		t.Errorf("after Close: %q, want 2 in front", got)
	}
	for _, e := range elements {
		m, again, err := protocol.DecodeEnvelope([]byte(e), protocol.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		id := m.Properties.CorrelationID
		flag, _ := m.Headers.Get("redelivered")
		if want := id == "1" || id == "2" || id == "3"; again != want || (flag == true) != want {
			t.Errorf("%s: redelivered %v and %v, want %v", id, again, flag, want)
		}
		if !strings.Contains(e, "12345678901234567890.10") || !strings.Contains(e, `"more": []`) {
			t.Errorf("%s lost an unknown key or a digit: %s", id, e)
		}
	}
}

func TestHeldDeliveriesAreRenewedAndLossIsNoticed(t *testing.T) {
	r := newRig(t)
	o := map[string]any{"visibility_timeout": 1.0, "unacked_restore_interval": 0.1}
	c := r.connect(r.transport(o))
	other := r.connect(r.transport(o))
	r.send(c, "q", "a", "b")
	k := r.consume(c, 2, queue("q"))
	a, b := r.receive(k), r.receive(k)
	sweeper := r.consume(other, 2, queue("q")) // sweeps ten times a second, and would take
	ctx, cancel := context.WithTimeout(r.ctx, 2500*time.Millisecond)
	defer cancel()
	if d, err := sweeper.Receive(ctx); err == nil {
		t.Fatalf("%s was taken from us while we held it", d.Message.Properties.CorrelationID)
	}
	for field, value := range r.stash() { // somebody restores a
		if strings.Contains(value, `"id": "a"`) {
			r.raw.HDel(r.ctx, r.prefix+"unacked", field)
			r.raw.ZRem(r.ctx, r.prefix+"unacked_index", field)
		}
	}
	select {
	case <-a.Receipt.Lost():
	case <-time.After(5 * time.Second):
		t.Error("the loss was not noticed")
	}
	if err := a.Receipt.Ack(r.ctx); !errors.Is(err, transports.ErrLost) {
		t.Errorf("Ack of a lost delivery: %v, want ErrLost", err)
	}
	r.settle(b.Receipt.Ack(r.ctx))
}

func TestAnAckThatFindsNothingIsErrLost(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	r.send(c, "q", "a")
	d := r.receive(r.consume(c, 1, queue("q")))
	r.raw.Del(r.ctx, r.prefix+"unacked")
	if err := d.Receipt.Ack(r.ctx); !errors.Is(err, transports.ErrLost) {
		t.Errorf("Ack: %v, want ErrLost", err)
	}
	select {
	case <-d.Receipt.Lost():
	default:
		t.Error("Lost is open")
	}
}

func TestSweepRestoresPythonsStashAndDropsNothing(t *testing.T) {
	r := newRig(t)
	long := float64(time.Now().Add(-2 * time.Hour).Unix())
	bind := func(exchange string, members ...any) {
		r.raw.SAdd(r.ctx, r.prefix+"_kombu.binding."+exchange, members...)
	}
	stash := func(tag string, score float64, value string) {
		r.raw.HSet(r.ctx, r.prefix+"unacked", tag, value)
		r.raw.ZAdd(r.ctx, r.prefix+"unacked_index", redis.Z{Score: score, Member: tag})
	}
	bind("ex", "k\x06\x16\x06\x16d1", "k\x06\x16\x06\x16d2", "other\x06\x16\x06\x16d3")
	bind("tex", "a.*\x06\x16^a\\..*?[^\\.]$\x06\x16t1", "a.*\x06\x16^a\\.[^\\.]+$\x06\x16t1", "b.#\x06\x16^b\\..*?$\x06\x16t2")
	stash("old", long, `[`+envelope("old", "", "plain", 6)+`, "", "plain"]`)
	stash("older", long-1, `[`+envelope("older", "", "plain", 6)+`, "", "plain"]`)
	stash("direct", long, `[`+envelope("direct", "ex", "k", 0)+`, "ex", "k"]`)
	stash("topic", long, `[`+envelope("topic", "tex", "a.b", 0)+`, "tex", "a.b"]`)
	stash("nowhere", long, `[`+envelope("nowhere", "gone", "k", 0)+`, "gone", "k"]`)
	stash("garbage", long, "no json")
	stash("young", float64(time.Now().Unix()-60), `[`+envelope("young", "", "plain", 0)+`, "", "plain"]`)
	r.raw.ZAdd(r.ctx, r.prefix+"unacked_index", redis.Z{Score: long, Member: "orphan"})

	r.consume(r.connect(r.transport(map[string]any{"unacked_restore_interval": 0.1})), 1, queue("mine"))
	r.until("the sweep", func() bool {
		n, _ := r.raw.ZCard(r.ctx, r.prefix+"unacked_index").Result()
		return n == 3
	})
	for list, want := range map[string][]string{
		"plain\x06\x166": {"old", "older"}, // older in front
		"d1":             {"direct"}, "d2": {"direct"}, "d3": {}, "t1": {"topic"}, "t2": {}, "plain": {},
	} {
		if d := cmp.Diff(want, ids(t, r.list(list))); d != "" {
			t.Errorf("%q: %s", list, d)
		}
	}
	var left []string
	for tag := range r.stash() {
		left = append(left, tag)
	}
	slices.Sort(left)
	if d := cmp.Diff([]string{"garbage", "nowhere", "young"}, left); d != "" {
		t.Errorf("left in the stash: %s", d)
	}
	r.until("the lock is free", func() bool { return r.raw.Exists(r.ctx, r.prefix+"unacked_mutex").Val() == 0 })
}

func TestSweepLeavesAlonWhileSomebodyElseHoldsTheLock(t *testing.T) {
	r := newRig(t)
	r.raw.Set(r.ctx, r.prefix+"unacked_mutex", "another", time.Minute)
	r.raw.HSet(r.ctx, r.prefix+"unacked", "x", `[`+envelope("x", "", "plain", 0)+`, "", "plain"]`)
	r.raw.ZAdd(r.ctx, r.prefix+"unacked_index", redis.Z{Score: 1, Member: "x"})
	c := r.connect(r.transport(map[string]any{"unacked_restore_interval": 0.1}))
	r.consume(c, 1, queue("mine"))
	time.Sleep(400 * time.Millisecond) // there is no event to wait for
	if n := len(r.list("plain")); n != 0 {
		t.Error("restored under another's lock")
	}
	if got := r.raw.Get(r.ctx, r.prefix+"unacked_mutex").Val(); got != "another" {
		t.Errorf("lock is %q now", got)
	}
	r.raw.Del(r.ctx, r.prefix+"unacked_mutex")
	r.until("restored", func() bool { return len(r.list("plain")) == 1 })
}

func TestBindingsAreWrittenToBothSets(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	r.consume(c, 1, queue("celery"), transports.Queue{Name: "tq", Exchange: "tex", Type: "topic", RoutingKey: "a.*.#"})
	for key, want := range map[string][]string{
		"_kombu.binding.celery":           {"celery\x06\x16\x06\x16celery"},
		"_kombu.binding_permanent.celery": {"celery\x06\x16\x06\x16celery"},
		"_kombu.binding.tex":              {"a.*.#\x06\x16^a\\.[^\\.]+\\..*?$\x06\x16tq"},
		"_kombu.binding_permanent.tex":    {"a.*.#\x06\x16^a\\.[^\\.]+\\..*?$\x06\x16tq"},
	} {
		if d := cmp.Diff(want, r.raw.SMembers(r.ctx, r.prefix+key).Val()); d != "" {
			t.Errorf("%s: %s", key, d)
		}
	}
}

func TestExpiringQueuesAreKeptAliveAndOthersNeverExpire(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	q := transports.Queue{Name: "short", Arguments: protocol.ObjectOf(protocol.Member{Key: "x-expires", Value: int64(60_000)})}
	m := message("a")
	m.Properties.Priority = new(3)
	r.raw.LPush(r.ctx, r.prefix+"short", envelope("x", "", "short", 0))
	r.publish(c, transports.Publishing{RoutingKey: "short", Message: m, Declare: &q})
	r.send(c, "long", "b", "c")
	for _, list := range []string{"short", "short\x06\x163"} {
		if ttl := r.raw.PTTL(r.ctx, r.prefix+list).Val(); ttl < 50*time.Second {
			t.Errorf("after the publish %q lives %v", list, ttl)
		}
	}
	r.raw.PExpire(r.ctx, r.prefix+"short\x06\x163", 20*time.Second)
	r.receive(r.consume(c, 1, q, queue("long")))
	if ttl := r.raw.PTTL(r.ctx, r.prefix+"short\x06\x163").Val(); ttl < 50*time.Second {
		t.Errorf("after a take it lives %v", ttl)
	}
	if ttl := r.raw.PTTL(r.ctx, r.prefix+"long").Val(); ttl != -1 {
		t.Errorf("a queue without x-expires has a lifetime: %v", ttl)
	}
}

func TestRoundRobinServesEachQueueInTurn(t *testing.T) {
	for strategy, want := range map[string]string{"round_robin": "abcabc", "priority": "ccbbaa", "sorted": "aabbcc"} {
		r := newRig(t)
		c := r.connect(r.transport(map[string]any{"queue_order_strategy": strategy}))
		for _, q := range []string{"a", "b", "c"} {
			r.send(c, q, q, q)
		}
		order := []transports.Queue{queue("a"), queue("b"), queue("c")}
		if strategy != "round_robin" {
			slices.Reverse(order)
		}
		for _, window := range []int{6, 1} {
			k := r.consume(c, window, order...)
			got := ""
			for range 6 {
				d := r.receive(k)
				got += d.Queue
				if window == 1 {
					r.settle(d.Receipt.Ack(r.ctx))
				} else {
					defer d.Receipt.Ack(r.ctx)
				}
			}
			if got != want {
				t.Errorf("%s, window %d: %s, want %s", strategy, window, got, want)
			}
			r.settle(k.Close())
			for _, q := range []string{"a", "b", "c"} {
				r.send(c, q, q, q)
			}
		}
	}
}

func TestBroadcastQueueHearsItsChannelAndItsList(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	k := r.consume(c, 2, transports.Queue{Name: "bcast.1", Exchange: "bcast", Type: "fanout", RoutingKey: "celery"})
	r.publish(c, transports.Publishing{Exchange: "bcast", RoutingKey: "celery", ExchangeType: "fanout", Message: message("cast"), Mandatory: true})
	r.send(c, "bcast.1", "listed")
	var got []string
	for range 2 {
		d := r.receive(k)
		got = append(got, d.Message.Properties.CorrelationID)
		r.settle(d.Receipt.Ack(r.ctx))
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"cast", "listed"}) {
		t.Errorf("received %q", got)
	}
}

func TestSubscriptionWritesAndRemovesItsMember(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	s, err := c.Subscribe(r.ctx, transports.Fanout{Exchange: "celery.pidbox", Type: "fanout", Queue: "w@h.celery.pidbox"})
	if err != nil {
		t.Fatal(err)
	}
	key := r.prefix + "_kombu.binding.celery.pidbox"
	if got := r.raw.SMembers(r.ctx, key).Val(); !slices.Equal(got, []string{"\x06\x16\x06\x16w@h.celery.pidbox"}) {
		t.Errorf("members %q", got)
	}
	n, err := r.raw.Publish(r.ctx, fmt.Sprintf("%s/%d.celery.pidbox", r.prefix, r.db), envelope("ping", "celery.pidbox", "", 0)).Result()
	if n != 1 || err != nil {
		t.Errorf("%d listen on Kombu's channel, %v", n, err)
	}
	if m, err := s.Next(r.ctx); err != nil || m.Properties.CorrelationID != "ping" {
		t.Errorf("Next: %+v, %v", m, err)
	}
	r.settle(s.Close())
	if n := r.raw.Exists(r.ctx, key).Val(); n != 0 {
		t.Error("the member is still there")
	}
}

// The channels are those of a Kombu worker's dispatcher: event_exchange is of type fanout on Redis.
func TestEventsGoToKombusChannel(t *testing.T) {
	for name, tt := range map[string]struct {
		options map[string]any
		channel string // %d is the database
	}{
		"as by default":            {nil, "/%d.celeryev/worker.heartbeat"},
		"fanout_patterns is false": {map[string]any{"fanout_patterns": false}, "/%d.celeryev"},
		"fanout_prefix is false":   {map[string]any{"fanout_prefix": false}, "celeryev/worker.heartbeat"},
		"fanout_prefix is a text":  {map[string]any{"fanout_prefix": "/my{db}."}, "/my%d.celeryev/worker.heartbeat"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			channel := r.prefix + tt.channel
			if strings.Contains(channel, "%d") {
				channel = fmt.Sprintf(channel, r.db)
			}
			ps := r.raw.Subscribe(r.ctx, channel)
			defer ps.Close()
			if _, err := ps.Receive(r.ctx); err != nil {
				t.Fatal(err)
			}
			r.publish(r.connect(r.transport(tt.options)), transports.Publishing{
				Exchange: "celeryev", ExchangeType: "topic", ExchangeDurable: true, Broadcast: true,
				RoutingKey: "worker.heartbeat", Message: message("beat"),
			})
			got, err := ps.ReceiveMessage(r.ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{`"delivery_info": {"exchange": "celeryev", "routing_key": "worker.heartbeat"}`, `"delivery_tag": "`} {
				if !strings.Contains(got.Payload, part) {
					t.Errorf("%s is not in %s", part, got.Payload)
				}
			}
			if keys := r.raw.Keys(r.ctx, r.prefix+"*celeryev*").Val(); len(keys) > 0 {
				t.Errorf("keys %q were written", keys)
			}
		})
	}
}

// A queue of events has a new name at each start: nothing of it may stay.
func TestSubscriptionToATopicWritesNothing(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	s, err := c.Subscribe(r.ctx, transports.Fanout{Exchange: "celeryev", Type: "topic", RoutingKey: "worker.#", Queue: "celeryev.1", Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	r.publish(c, transports.Publishing{Exchange: "celeryev", RoutingKey: "worker.online", Broadcast: true, Message: message("up")})
	if m, err := s.Next(r.ctx); err != nil || m.Properties.CorrelationID != "up" {
		t.Errorf("Next: %+v, %v", m, err)
	}
	if keys := r.raw.Keys(r.ctx, r.prefix+"*").Val(); len(keys) > 0 {
		t.Errorf("keys %q were written", keys)
	}
	r.settle(s.Close())
}

// Killing every socket at any moment may neither lose nor double a message.
func TestKilledConnectionsLoseAndDoubleNothing(t *testing.T) {
	r := newRig(t)
	p := faultproxy.New(t, r.raw.Options().Addr)
	r.url = fmt.Sprintf("redis://%s/%d", p.Addr(), r.db)
	tr := r.transport(nil)
	const total = 300
	var names []string
	for i := range total {
		names = append(names, fmt.Sprint(i))
		r.raw.LPush(r.ctx, r.prefix+"q", envelope(fmt.Sprint(i), "", "q", i%10))
	}
	seen := map[string]int{}
	var acks sync.WaitGroup
	cuts := 0
	for len(seen) < total && r.ctx.Err() == nil {
		c, err := tr.Connect(r.ctx)
		if err != nil {
			continue
		}
		k, err := c.Consume(r.ctx, []transports.Queue{queue("q")}, 8)
		for err == nil && len(seen) < total {
			var d *transports.Delivery
			ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
			if d, err = k.Receive(ctx); err == nil {
				seen[d.Message.Properties.CorrelationID]++
				acks.Go(func() {
					if err := d.Receipt.Ack(r.ctx); err != nil {
						t.Errorf("Ack: %v", err)
					}
				})
				if len(seen)%25 == 7 {
					p.Cut()
					cuts++
				}
			}
			cancel()
		}
		if len(seen) == total {
			acks.Wait()
		}
		_ = c.Close()
	}
	acks.Wait()
	if cuts < 5 {
		t.Errorf("only %d cuts", cuts)
	}
	for _, id := range names {
		if seen[id] != 1 {
			t.Errorf("message %s was delivered %d times", id, seen[id])
		}
	}
	if n := len(r.stash()); n != 0 {
		t.Errorf("the stash still has %d entries", n)
	}
}

// The script runs, its answer is lost, and the connection with it.
func TestATakeWhoseAnswerIsLostIsReturned(t *testing.T) {
	r := newRig(t)
	p := faultproxy.New(t, r.raw.Options().Addr)
	r.url = fmt.Sprintf("redis://%s/%d", p.Addr(), r.db)
	name := "lost-" + strings.Trim(r.prefix, ":") // other tests wait on this server as well
	tr := r.transport(map[string]any{"client_name": name})
	c := r.connect(tr)
	k := r.consume(c, 4, queue("q"))
	done := make(chan error, 1)
	go func() { _, err := k.Receive(r.ctx); done <- err }()
	r.until("the consumer waits", func() bool {
		for line := range strings.Lines(r.raw.ClientList(r.ctx).Val()) {
			if strings.Contains(line, "name="+name+" ") && strings.Contains(line, "cmd=blmove") {
				return true
			}
		}
		return false
	})
	p.Freeze(faultproxy.ToClient)
	r.raw.LPush(r.ctx, r.prefix+"q", envelope("a", "", "q", 0), envelope("b", "", "q", 0))
	k2 := r.raw
	// Its waits end unheard; the next take is made by another Receive's wake-up, or by the second's clock.
	r.until("taken unheard", func() bool { return k2.HLen(r.ctx, r.prefix+"unacked").Val() == 2 })
	p.Cut()
	if err := <-done; !errors.Is(err, transports.ErrDisconnected) {
		t.Fatalf("Receive: %v", err)
	}
	p.Thaw()
	next := r.connect(tr)
	if n := len(r.stash()); n != 0 {
		t.Errorf("%d unread deliveries are still stashed", n)
	}
	k = r.consume(next, 2, queue("q"))
	a, b := r.receive(k), r.receive(k)
	if a.Message.Properties.CorrelationID != "a" || b.Message.Properties.CorrelationID != "b" || a.Redelivered {
		t.Errorf("received %+v, %+v", a.Message.Properties, b.Message.Properties)
	}
}

// A server that stops answering without closing anything is noticed within the ping and its grace.
func TestASilentServerIsNoticed(t *testing.T) {
	r := newRig(t)
	p := faultproxy.New(t, r.raw.Options().Addr)
	r.url = fmt.Sprintf("redis://%s/%d", p.Addr(), r.db)
	c := r.connect(r.transport(nil))
	p.Freeze(faultproxy.ToClient)
	select {
	case <-c.Done():
	case <-time.After(8 * time.Second):
		t.Fatal("not noticed")
	}
	if err := c.Err(); !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("Err: %v", err)
	}
}

// CLIENT KILL closes sockets that lie idle, too.
func TestClientKillIsADisconnectAndTheLeaseGoesOn(t *testing.T) {
	r := newRig(t)
	tr := r.transport(map[string]any{"client_name": "kill-" + strings.Trim(r.prefix, ":")})
	c := r.connect(tr)
	r.send(c, "q", "a")
	d := r.receive(r.consume(c, 1, queue("q")))
	for _, line := range strings.Split(r.raw.ClientList(r.ctx).Val(), "\n") {
		if strings.Contains(line, "name=kill-"+strings.Trim(r.prefix, ":")+" ") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			r.raw.ClientKillByFilter(r.ctx, "ID", id)
		}
	}
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("not noticed")
	}
	short, stop := context.WithTimeout(r.ctx, 100*time.Millisecond)
	defer stop()
	if err := d.Receipt.Ack(short); !errors.Is(err, transports.ErrDisconnected) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ack without a connection: %v, want ErrDisconnected and the context's error", err)
	}
	next := r.connect(tr)
	k := r.consume(next, 5, queue("q"))
	ctx, cancel := context.WithTimeout(r.ctx, 500*time.Millisecond)
	defer cancel()
	if again, err := k.Receive(ctx); err == nil {
		t.Errorf("%s was delivered twice", again.Message.Properties.CorrelationID)
	}
	r.settle(d.Receipt.Ack(r.ctx))
	if n := len(r.stash()); n != 0 {
		t.Errorf("stash has %d entries", n)
	}
}

// A key of one of the queue's lists that is no list costs the messages of the others nothing.
func TestAListOfAnotherTypeHidesNoOther(t *testing.T) {
	r := newRig(t)
	c := r.connect(r.transport(nil))
	for _, step := range []string{"\x06\x163", "\x06\x166", "\x06\x169"} {
		r.send(c, "q", "a"+step, "b"+step)
		if err := r.raw.Set(r.ctx, r.prefix+"q"+step, "no list", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.send(c, "other", "other")
	k := r.consume(c, 20, queue("q"), queue("other"))
	for range 7 {
		r.settle(r.receive(k).Receipt.Ack(r.ctx)) // of the stash that is its own
	}
	if left := r.stash(); len(left) != 0 {
		t.Errorf("the stash still holds %v", left)
	}
}
