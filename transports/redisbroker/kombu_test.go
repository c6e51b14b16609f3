package redisbroker_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/transports"
)

// prelude gives a script conn, ch and the options of the test.
const prelude = `
import os, sys, time
from kombu import Connection, Consumer, Exchange, Producer, Queue
conn = Connection(sys.argv[1], transport_options={'global_keyprefix': sys.argv[2], 'visibility_timeout': 1, 'unacked_restore_throttle': 1})
ch = conn.channel()
got = []
def show(body, message):
    got.append(message)
    print(message.properties['correlation_id'], message.delivery_info.get('redelivered', False), message.headers.get('redelivered', False), flush=True)
def drain(n):
    for _ in range(100):
        if len(got) >= n: return
        try: conn.drain_events(timeout=0.2)
        except TimeoutError: pass
        except OSError: pass
    sys.exit('only %d messages' % len(got))
`

// newKombuRig skips the test without a Python that has Kombu.
func newKombuRig(t *testing.T) *rig {
	t.Helper()
	if os.Getenv("STALK_PYTHON") == "" {
		if os.Getenv("INTEROP") == "required" {
			t.Fatal("STALK_PYTHON is not set and INTEROP=required")
		}
		t.Skip("STALK_PYTHON is not set")
	}
	return newRig(t)
}

// python runs a script with real Kombu and returns the lines it printed.
func (r *rig) python(script string) []string {
	r.Helper()
	lines, err := r.run(script)
	if err != nil {
		r.Fatal(err)
	}
	return lines
}

func (r *rig) run(script string) ([]string, error) {
	ctx, cancel := context.WithTimeout(r.ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Getenv("STALK_PYTHON"), "-c", prelude+script, r.url, r.prefix)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("python: %w\n%s%s", err, out.String(), errs.String())
	}
	return slices.DeleteFunc(strings.Split(out.String(), "\n"), func(s string) bool { return s == "" }), nil
}

func TestKombuReadsWhatWePublish(t *testing.T) {
	r := newKombuRig(t)
	c := r.connect(r.transport(nil))
	for priority, id := range map[int]string{9: "last", 0: "first", 4: "middle"} {
		m := message(id)
		m.Properties.Priority = new(priority)
		r.publish(c, transports.Publishing{RoutingKey: "q", Message: m})
	}
	got := r.python(`
with Consumer(ch, [Queue('q', Exchange('q'), routing_key='q')], callbacks=[show]):
    drain(3)
for m in got:
    print(m.payload, m.headers['id'])
    m.ack()
`)
	want := []string{"first False False", "middle False False", "last False False"}
	for _, id := range []string{"first", "middle", "last"} {
		want = append(want, "[[], {}, {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}] "+id)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// We take and are killed; a Kombu sweep returns it to the step list it was in, whatever its exchange was.
func TestKombuRestoresOurStash(t *testing.T) {
	r := newKombuRig(t)
	p := faultproxy.New(t, r.raw.Options().Addr)
	direct := r.url
	r.url = fmt.Sprintf("redis://%s/%d", p.Addr(), r.db)
	c := r.connect(r.transport(nil))
	r.url = direct
	r.raw.LPush(r.ctx, r.prefix+"q\x06\x166", envelope("a", "unknown-topic", "a.b.c", 7))
	r.raw.LPush(r.ctx, r.prefix+"q", "no json")
	k := r.consume(c, 2, queue("q"))
	r.receive(k)
	r.receive(k)
	// A cut within our own first sweep would leave its lock, which Kombu respects, for half a minute.
	r.until("our sweep is over", func() bool { return r.raw.Exists(r.ctx, r.prefix+"unacked_mutex").Val() == 0 })
	p.Cut()
	<-c.Done()
	for field := range r.stash() { // long ago
		r.raw.ZAdd(r.ctx, r.prefix+"unacked_index", redis.Z{Score: 1, Member: field})
	}
	got := r.python(`
with Consumer(ch, [Queue('q', Exchange('q'), routing_key='q')], callbacks=[show]):
    ch.qos.restore_visible(interval=1)
    drain(1)
    got[0].ack()
`)
	if d := cmp.Diff([]string{"a True True"}, got); d != "" {
		t.Error(d)
	}
	if n := len(r.stash()); n != 0 {
		t.Errorf("stash has %d entries", n)
	}
	if n := len(r.list("q.quarantine")); n != 1 { // and the sweep survived the unreadable one
		t.Errorf("quarantine has %d elements, want 1", n)
	}
}

// A Python worker takes and is killed; we restore it, from a topic and from a direct exchange with two queues.
func TestWeRestoreKombusStash(t *testing.T) {
	r := newKombuRig(t)
	r.python(`
topic, direct = Exchange('tex', type='topic'), Exchange('dex', type='direct')
queues = [Queue('tq', topic, routing_key='a.*.#'), Queue('d1', direct, routing_key='k'), Queue('d2', direct, routing_key='k')]
with Consumer(ch, queues, callbacks=[show]):
    Producer(ch).publish([], exchange=topic, routing_key='a.b.c', correlation_id='t', headers={'task': 't', 'id': 't'}, priority=5)
    Producer(ch).publish([], exchange=direct, routing_key='k', correlation_id='d', headers={'task': 't', 'id': 'd'})
    drain(3)
    os._exit(0)
`)
	if n := len(r.stash()); n != 2 { // one tag for both copies of d: that is Python's defect
		t.Fatalf("Python left %d stash entries, want 2", n)
	}
	tr := r.transport(map[string]any{"visibility_timeout": 1, "unacked_restore_interval": 0.2})
	c := r.connect(tr)
	k := r.consume(c, 10, queue("d1"), queue("d2"), queue("tq"))
	var got []string
	for range 3 {
		d := r.receive(k)
		got = append(got, fmt.Sprint(d.Queue, " ", d.Message.Properties.CorrelationID, " ", d.Redelivered))
		r.settle(d.Receipt.Ack(r.ctx))
	}
	slices.Sort(got)
	if d := cmp.Diff([]string{"d1 d true", "d2 d true", "tq t true"}, got); d != "" {
		t.Error(d)
	}
}

// Kombu 5.7 deletes binding tables nobody refreshes, unless the permanent set exists.
func TestOurBindingSurvivesKombusSweep(t *testing.T) {
	r := newKombuRig(t)
	c := r.connect(r.transport(nil))
	k := r.consume(c, 1, transports.Queue{Name: "tq", Exchange: "tex", Type: "topic", RoutingKey: "a.*.#"})
	r.raw.SAdd(r.ctx, r.prefix+"_kombu.binding.old", "k\x06\x16\x06\x16q") // by an old peer only
	for _, x := range []string{"tex", "old"} {
		r.raw.ZAdd(r.ctx, r.prefix+"_kombu.binding_deadlines", redis.Z{Score: 1, Member: x})
	}
	r.python(`
if hasattr(ch, 'sweep_bindings'):
    ch.sweep_bindings()
Producer(ch).publish([], exchange=Exchange('tex', type='topic'), routing_key='a.b.c', correlation_id='t', headers={'task': 't', 'id': 't'},
    declare=[Exchange('tex', type='topic')])
`)
	if n := r.raw.Exists(r.ctx, r.prefix+"_kombu.binding.old").Val(); n != 0 {
		t.Log("this Kombu does not sweep bindings; the test shows only the publish")
	}
	if got := r.receive(k).Message.Properties.CorrelationID; got != "t" {
		t.Errorf("received %q", got)
	}
}

func TestKombuBroadcastsReachUsAndOursKombu(t *testing.T) {
	r := newKombuRig(t)
	c := r.connect(r.transport(nil))
	s, err := c.Subscribe(r.ctx, transports.Fanout{Exchange: "celery.pidbox", Type: "fanout", Queue: "w@h.celery.pidbox"})
	if err != nil {
		t.Fatal(err)
	}
	type printed struct {
		lines []string
		err   error
	}
	done := make(chan printed, 1)
	go func() {
		lines, err := r.run(`
fan = Exchange('news', type='fanout')
with Consumer(ch, [Queue('n1', fan)], callbacks=[show], no_ack=True):
    try: conn.drain_events(timeout=0.5)
    except OSError: pass
    pid = Exchange('celery.pidbox', type='fanout', durable=False)
    Producer(ch).publish({'method': 'ping'}, exchange=pid, routing_key='', correlation_id='ping', declare=[pid])
    drain(1)
`)
		done <- printed{lines, err}
	}()
	m, err := s.Next(r.ctx)
	if err != nil || m.Properties.CorrelationID != "ping" {
		t.Fatalf("Next: %q, %v", m.Properties.CorrelationID, err)
	}
	r.publish(c, transports.Publishing{Exchange: "news", ExchangeType: "fanout", Message: message("hello"), Mandatory: true})
	p := <-done
	if d := cmp.Diff([]string{"hello False False"}, p.lines); d != "" || p.err != nil {
		t.Error(d, p.err)
	}
}

// Two of us and a Kombu consumer on one queue with all priorities: each message reaches exactly one, once.
func TestKombuAndWeShareAQueue(t *testing.T) {
	r := newKombuRig(t)
	const total = 2000
	for i := range total {
		e := envelope(fmt.Sprint(i), "", "q", i%10)
		list := "q" + []string{"", "", "", "\x06\x163", "\x06\x163", "\x06\x163", "\x06\x166", "\x06\x166", "\x06\x166", "\x06\x169"}[i%10]
		r.raw.LPush(r.ctx, r.prefix+list, e)
	}
	var mu sync.Mutex
	seen, ours := map[string]int{}, 0
	var wg sync.WaitGroup
	started := make(chan struct{})
	o := map[string]any{"visibility_timeout": 60}
	for range 2 {
		c := r.connect(r.transport(o))
		k := r.consume(c, 4, queue("q"))
		wg.Go(func() {
			<-started
			for {
				ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
				d, err := k.Receive(ctx)
				cancel()
				if err != nil {
					return // the queue is empty
				}
				time.Sleep(time.Millisecond) // a handler: let Python have its share
				mu.Lock()
				seen[d.Message.Properties.CorrelationID]++
				ours++
				mu.Unlock()
				if err := d.Receipt.Ack(r.ctx); err != nil {
					t.Errorf("Ack: %v", err)
				}
			}
		})
	}
	var lines []string
	var perr error
	wg.Go(func() {
		lines, perr = r.run(`
conn.transport_options['visibility_timeout'] = 60
ch.qos.prefetch_count = 4
def one(body, message):
    print(message.properties['correlation_id'])
    message.ack()
with Consumer(ch, [Queue('q', Exchange('q'), routing_key='q')], callbacks=[one]):
    quiet = time.time() + 3
    first = True
    while time.time() < quiet:
        try:
            conn.drain_events(timeout=0.5)
            quiet = time.time() + 1.5
        except (TimeoutError, OSError): pass
`)
	})
	r.until("Python consumes", func() bool {
		return r.raw.HLen(r.ctx, r.prefix+"unacked").Val() > 0 || r.raw.LLen(r.ctx, r.prefix+"q").Val() < 600
	})
	close(started)
	wg.Wait()
	if perr != nil {
		t.Fatal(perr)
	}
	for _, id := range lines {
		seen[id]++
	}
	t.Logf("%d by Go, %d by Python", ours, len(lines))
	if len(lines) == 0 || ours == 0 {
		t.Error("one side had nothing to do")
	}
	for i := range total {
		if seen[fmt.Sprint(i)] != 1 {
			t.Errorf("message %d was delivered %d times", i, seen[fmt.Sprint(i)])
		}
	}
	if n := len(r.stash()); n != 0 {
		t.Errorf("stash has %d entries", n)
	}
}
