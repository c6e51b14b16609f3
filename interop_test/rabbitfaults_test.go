package interop_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/client"
	"github.com/stalkworker/stalk/dial"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	stalk "github.com/stalkworker/stalk/worker" // worker is a function of these tests
)

// How a whole worker gets over what happens to its RabbitMQ: the column RabbitMQ of the failure matrix. The worker is in this process,
// behind a proxy, its results in memory; the client is another connection. STALK_FAULTS=long restarts the broker 20 times.

// faultTimeout bounds one wait; nothing here takes a tenth of it on a machine of its own.
const faultTimeout = 90 * time.Second

var longFaults = os.Getenv("STALK_FAULTS") == "long"

// A faultRig is a worker beside a node that is hurt.
type faultRig struct {
	t       *testing.T
	node    *testservers.Server
	proxy   *faultproxy.Proxy // before the worker
	results *memresult.Backend
	client  *client.Client
	w       *stalk.Worker
	ended   chan error
	cancel  context.CancelFunc
	runs    sync.Map      // by task id: *atomic.Int32
	gate    chan struct{} // what the task hold waits for
	sent    atomic.Int64  // by load
	log     *logLines
}

func (r *faultRig) run(ctx context.Context) int {
	info, _ := handlers.InfoFrom(ctx)
	n, _ := r.runs.LoadOrStore(info.ID, new(atomic.Int32))
	return int(n.(*atomic.Int32).Add(1))
}

func (r *faultRig) ran(id string) int {
	n, there := r.runs.Load(id)
	if !there {
		return 0
	}
	return int(n.(*atomic.Int32).Load())
}

func startFaultRig(t *testing.T, node *testservers.Server, vhost string, options map[string]any, change func(*stalk.Config)) *faultRig {
	t.Helper()
	r := &faultRig{t: t, node: node, proxy: faultproxy.New(t, node.Addr), results: memresult.New(), gate: make(chan struct{}), ended: make(chan error, 1), log: newLogLines()}
	direct := strings.TrimSuffix(node.URL, "/") + vhost
	own, err := dial.Broker(direct, dial.BrokerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.client, err = client.New(client.Config{Transport: own, Results: r.results, Attempts: 1000}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.client.Close() })
	tr, err := dial.Broker(r.proxy.Through(t, direct), dial.BrokerOptions{Transport: options, Node: "w1@faults", Logger: r.log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	add := func(ctx context.Context, in struct{ X, Y int }) (int, error) { r.run(ctx); return in.X + in.Y, nil }
	nap := func(ctx context.Context, in struct{ Seconds float64 }) (int, error) {
		n := r.run(ctx)
		select {
		case <-time.After(time.Duration(in.Seconds * float64(time.Second))):
			return n, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	hold := func(ctx context.Context, _ struct{}) (int, error) {
		n := r.run(ctx)
		select {
		case <-r.gate:
			return n, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	again := func(ctx context.Context, _ struct{}) (string, error) {
		r.run(ctx)
		if info, _ := handlers.InfoFrom(ctx); info.Retries < 2 {
			return "", handlers.Retry(nil, 50*time.Millisecond)
		}
		return "done", nil
	}
	sum := func(ctx context.Context, in struct{ Xs []int }) (int, error) {
		total := 0
		for _, x := range in.Xs {
			total += x
		}
		return total, nil
	}
	reg, err := handlers.NewRegistry(handlers.Func("add", add), handlers.Func("nap", nap), handlers.Func("hold", hold), handlers.Func("again", again), handlers.Func("sum", sum))
	if err != nil {
		t.Fatal(err)
	}
	cfg := stalk.Config{Transport: tr, Handlers: reg, Results: r.results, Concurrency: 4, Node: "w1@faults", Logger: r.log.logger(), Events: stalk.Events{NoMingle: true}}
	if change != nil {
		change(&cfg)
	}
	if r.w, err = stalk.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- r.w.Run(ctx) }()
	t.Cleanup(func() {
		r.stop()
		r.proxy.Thaw()
		r.await("no connection is left", func() bool { return r.proxy.Conns() == 0 })
		r.await("no goroutine of the worker is left", func() bool { return !strings.Contains(stacks(), "stalk/worker.(*") })
	})
	r.await("the worker is ready", func() bool { return r.w.Ready() == nil })
	return r
}

// stacks is what every goroutine is doing. No other test of this package has a worker in this process.
func stacks() string {
	buf := make([]byte, 8<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// stop ends the worker and says how, and how long that took.
func (r *faultRig) stop() (time.Duration, error) {
	r.t.Helper()
	began := time.Now()
	r.cancel()
	select {
	case err := <-r.ended:
		r.ended <- err
		return time.Since(began), err
	case <-time.After(faultTimeout):
		r.t.Fatalf("Run does not end\n%s", r.log.tail())
		return 0, nil
	}
}

func (r *faultRig) await(what string, is func() bool) time.Duration {
	r.t.Helper()
	began := time.Now()
	for ; !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > faultTimeout {
			r.t.Fatalf("%s: not within %v\n%s", what, faultTimeout, r.log.tail())
		}
	}
	return time.Since(began)
}

func (r *faultRig) send(s canvas.Signature) *client.AsyncResult {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), faultTimeout)
	defer cancel()
	res, err := r.client.Send(ctx, s)
	if err != nil {
		r.t.Fatalf("Send: %v", err)
	}
	return res
}

func (r *faultRig) want(res *client.AsyncResult, want any) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), faultTimeout)
	defer cancel()
	got, err := res.Value(ctx)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("result of %s: %v, %v; want %v (ran %d times)\n%s", res.ID, got, err, want, r.ran(res.ID), r.log.tail())
	}
}

// ctl runs rabbitmqctl.
func (r *faultRig) ctl(args ...string) {
	r.t.Helper()
	if out, err := r.node.Ctl(r.t.Context(), args...); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
}

func TestRabbitMQFaults(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("RabbitMQ takes some seconds to boot")
	}
	parts := []struct {
		name string
		test func(*testing.T, *testservers.Server, string)
	}{
		{"frozen and stopped", frozenAndStopped},
		{"away and stopped", awayAndStopped},
		{"alarm", underAlarm},
		{"consumer_timeout", outlastsConsumerTimeout},
		{"cuts under load", cutsUnderLoad},
		{"restarts under load", restartsUnderLoad},
	}
	var o testservers.RabbitMQOptions
	for i := range parts {
		o.VHosts = append(o.VHosts, fmt.Sprint("qf", i))
	}
	node, err := testservers.StartRabbitMQWith(t.Context(), o)
	if errors.Is(err, testservers.ErrMissing) && os.Getenv("INTEROP") != "required" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	for i, tt := range parts {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, node, o.VHosts[i]) })
	}
}

// frozenAndStopped: the peer is there and says nothing. The worker ends in the bounds of its ladder, gives the tasks back, and leaves nothing.
func frozenAndStopped(t *testing.T, node *testservers.Server, vhost string) {
	r := startFaultRig(t, node, vhost, map[string]any{"heartbeat": int64(600)}, func(c *stalk.Config) { c.Settle = 3 * time.Second })
	r.want(r.send(canvas.New("add", 1, 2)), 3)
	running := r.send(canvas.New("nap", 1.0))
	r.await("it runs", func() bool { return r.ran(running.ID) == 1 })
	r.proxy.Freeze(faultproxy.Both)
	took, err := r.stop()
	t.Logf("frozen broker, heartbeats far away: Run ended after %v: %v", took.Round(10*time.Millisecond), err)
	if err != nil || took > 40*time.Second {
		t.Errorf("Run ended after %v: %v", took, err)
	}
	r.want(running, 1) // its result was stored before the ack
}

func awayAndStopped(t *testing.T, node *testservers.Server, vhost string) {
	r := startFaultRig(t, node, vhost, nil, func(c *stalk.Config) { c.Settle = 3 * time.Second })
	running := r.send(canvas.New("nap", 1.0))
	retrying := r.send(canvas.New("again"))
	r.await("they run", func() bool { return r.ran(running.ID) == 1 && r.ran(retrying.ID) >= 1 })
	r.proxy.Refuse(true)
	r.await("it is not ready", func() bool { return r.w.Ready() != nil })
	took, err := r.stop()
	t.Logf("broker away: Run ended after %v: %v", took.Round(10*time.Millisecond), err)
	if err != nil || took > 40*time.Second {
		t.Errorf("Run ended after %v: %v", took, err)
	}
	r.want(running, 1)
}

// underAlarm: what is there is worked off, what would publish waits and is not run again, control answers no one but hangs on nothing, and
// everything ends well when the alarm does.
func underAlarm(t *testing.T, node *testservers.Server, vhost string) {
	r := startFaultRig(t, node, vhost, nil, func(c *stalk.Config) { c.Settle = 2 * time.Second })
	hold := r.send(canvas.New("hold"))
	chain := r.send(canvas.Chain(canvas.New("hold"), canvas.New("add", 10)))
	parent := r.send(canvas.New("hold").Link(canvas.New("again").SI().TaskID("linked")))
	r.await("they run", func() bool { return r.ran(hold.ID) == 1 && r.ran(parent.ID) == 1 && r.w.Stats().Active == 3 })
	over := r.alarm()
	defer over()
	close(r.gate)
	r.want(hold, 1) // results and acks need no publishing here
	time.Sleep(3 * time.Second)
	if n := r.ran("linked"); n != 0 {
		t.Errorf("what follows ran %d times during the alarm", n)
	}
	if n := r.ran(parent.ID); n != 1 {
		t.Errorf("what waits to publish was run %d times", n)
	}
	over()
	r.want(parent, 1)
	r.want(chain, 11)
	r.want(r.client.Result("linked"), "done")
	last := r.send(canvas.New("nap", 1.0).Link(canvas.New("add", 1).TaskID("late")))
	r.await("it runs", func() bool { return r.ran(last.ID) == 1 })
	defer r.alarm()()
	took, err := r.stop()
	t.Logf("alarm: Run ended after %v: %v", took.Round(10*time.Millisecond), err)
	if err != nil || took > 60*time.Second {
		t.Errorf("Run ended after %v: %v", took, err)
	}
}

// alarm has the node take no messages until the function it returns is called.
func (r *faultRig) alarm() (over func()) {
	r.t.Helper()
	r.ctl("set_disk_free_limit", "900000GB")
	r.await("the broker takes nothing", func() bool {
		ctx, cancel := context.WithTimeout(r.t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := r.client.Send(ctx, canvas.New("add", 0, 0))
		return errors.Is(err, transports.ErrBlocked)
	})
	return sync.OnceFunc(func() { r.ctl("set_disk_free_limit", "20MB") })
}

// outlastsConsumerTimeout: a task that is longer than the broker's limit, one that is held longer, more than there are slots for, and a
// chord with such a part: all end once and right, and the broker takes back a bounded number of times.
func outlastsConsumerTimeout(t *testing.T, node *testservers.Server, vhost string) {
	const limit = 8
	ms := limit * 1000
	if _, err := node.Ctl(t.Context(), "eval", fmt.Sprintf("application:set_env(rabbit, channel_tick_interval, 200), application:set_env(rabbit, consumer_timeout, %d).", ms)); err != nil {
		t.Fatal(err)
	}
	defer node.Ctl(t.Context(), "eval", "application:set_env(rabbit, channel_tick_interval, 60000), application:set_env(rabbit, consumer_timeout, 1800000).") //nolint:errcheck // the node ends with the test
	r := startFaultRig(t, node, vhost, map[string]any{"consumer_timeout": int64(limit)}, func(c *stalk.Config) { c.Concurrency, c.Prefetch = 2, 10 })
	eta := r.send(canvas.New("add", 3, 4).Countdown(1.5 * limit * time.Second))
	var many []*client.AsyncResult
	for range 12 { // two at a time: the last one waits for longer than the limit
		many = append(many, r.send(canvas.New("nap", 1.5)))
	}
	for _, res := range many {
		r.want(res, 1)
	}
	r.want(eta, 7)
	for _, res := range append(many, eta) {
		if n := r.ran(res.ID); n != 1 {
			t.Errorf("%s ran %d times", res.ID, n)
		}
	}
	if text := r.log.text(); longFaults && strings.Contains(text, "PRECONDITION") { // a busy machine may be late

		t.Errorf("the broker has closed a channel for tasks that are not longer than its limit:\n%s", r.log.tail())
	}
	long := r.send(canvas.New("nap", 1.5*limit))
	chord := r.send(canvas.Chord([]canvas.Signature{canvas.New("add", 1, 1), canvas.New("nap", 1.2*limit)}, canvas.New("sum")))
	r.want(long, 1)
	r.want(chord, 3)
	if n := r.ran(long.ID); n != 1 {
		t.Errorf("the long one ran %d times here", n)
	}
	s := r.w.Stats()
	t.Logf("a task of 1.5 times the limit: %d runs, %d redeliveries in all", r.ran(long.ID), s.Redelivered)
	if s.Redelivered > 40 {
		t.Errorf("%d redeliveries", s.Redelivered)
	}
}

// under load sends until told to stop and returns what was sent.
func (r *faultRig) load(done <-chan struct{}) (sent []*client.AsyncResult) {
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	for i := 0; ; i++ {
		s := canvas.New("add", i, 1).TaskID(fmt.Sprint("load-", i))
		if i%10 == 9 {
			s = canvas.New("again").TaskID(fmt.Sprint("load-", i))
		}
		for {
			attempt, end := context.WithTimeout(ctx, 5*time.Second)
			res, err := r.client.Send(attempt, s)
			end()
			if err == nil {
				sent = append(sent, res)
				r.sent.Add(1)
				break
			}
			select { // not confirmed: the same once more, which at worst runs twice
			case <-done:
				return sent
			case <-ctx.Done(): // the test has failed
				return sent
			case <-time.After(50 * time.Millisecond):
			}
		}
		select {
		case <-done:
			return sent
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// during loads the worker while break hurts it, and wants every result.
func (r *faultRig) during(hurt func()) {
	r.t.Helper()
	done := make(chan struct{})
	var sent []*client.AsyncResult
	var wg sync.WaitGroup
	wg.Go(func() { sent = r.load(done) })
	hurt()
	close(done)
	wg.Wait()
	for i, res := range sent {
		want := any(i + 1)
		if i%10 == 9 {
			want = "done"
		}
		r.want(res, want)
		if r.t.Failed() {
			return
		}
	}
	twice := 0
	for i, res := range sent {
		if n := r.ran(res.ID); i%10 != 9 && n > 1 {
			twice++
		}
	}
	r.t.Logf("%d tasks sent, 0 lost, %d ran more than once", len(sent), twice)
}

// more waits until n more tasks are sent.
func (r *faultRig) more(n int64) {
	r.t.Helper()
	from := r.sent.Load()
	r.await("tasks are sent", func() bool { return r.sent.Load() >= from+n })
}

func cutsUnderLoad(t *testing.T, node *testservers.Server, vhost string) {
	r := startFaultRig(t, node, vhost, nil, nil)
	var worst time.Duration
	cuts := 8
	if longFaults {
		cuts = 100
	}
	r.during(func() {
		for i := range cuts {
			switch i % 4 {
			case 0:
				r.proxy.Cut()
			case 1:
				r.proxy.CutAfter(faultproxy.ToClient, 100+i*37)
			case 2:
				r.proxy.CutAfter(faultproxy.ToServer, 100+i*37)
			case 3:
				r.proxy.Refuse(true)
				time.Sleep(200 * time.Millisecond)
				r.proxy.Refuse(false)
			}
			r.more(20)
			worst = max(worst, r.await("ready again", func() bool { return r.w.Ready() == nil }))
		}
	})
	t.Logf("%d cuts, half frames and refusals: ready again within %v", cuts, worst.Round(time.Millisecond))
}

func restartsUnderLoad(t *testing.T, node *testservers.Server, vhost string) {
	rounds := 1
	if longFaults {
		rounds = 20
	}
	r := startFaultRig(t, node, vhost, nil, nil)
	var all []time.Duration
	r.during(func() {
		for i := range rounds {
			r.more(50)
			var err error
			if i%2 == 0 {
				err = node.Kill()
			} else {
				err = node.Stop()
			}
			if err != nil {
				t.Fatal(err)
			}
			r.await("it is not ready", func() bool { return r.w.Ready() != nil })
			if err := node.Start(t.Context()); err != nil { // returns once the port speaks AMQP
				t.Fatal(err)
			}
			all = append(all, r.await("ready again", func() bool { return r.w.Ready() == nil }).Round(time.Millisecond))
		}
		r.more(50)
	})
	t.Logf("%d restarts, by kill -9 and in order: ready again %v after the port answered", rounds, all)
}
