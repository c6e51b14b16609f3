package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/client"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// A rig is a client with a broker and a store in memory; the test is the worker.
type rig struct {
	*testing.T
	broker *membroker.Broker
	store  *memresult.Backend
	client *client.Client
}

func newRig(t *testing.T, change func(*client.Config)) *rig {
	t.Helper()
	r := &rig{T: t, broker: membroker.New(), store: memresult.New()}
	cfg := client.Config{Transport: r.broker, Results: r.store}
	if change != nil {
		change(&cfg)
	}
	var err error
	if r.client, err = client.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.client.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

func (r *rig) send(s canvas.Signature) *client.AsyncResult {
	r.Helper()
	res, err := r.client.Send(r.Context(), s)
	if err != nil {
		r.Fatalf("Send: %v", err)
	}
	return res
}

// sent are the tasks in the queue.
func (r *rig) sent(queue string) []*protocol.Task {
	r.Helper()
	var tasks []*protocol.Task
	for _, m := range r.broker.Messages(queue) {
		task, err := protocol.DecodeTask(m, protocol.DecodeOptions{})
		if err != nil {
			r.Fatal(err)
		}
		tasks = append(tasks, task)
	}
	return tasks
}

func (r *rig) end(id string, v protocol.Value) {
	r.put(protocol.Result{TaskID: id, Status: protocol.Success, Value: v})
}

func (r *rig) fail(id, why string) {
	r.put(protocol.Result{TaskID: id, Status: protocol.Failure, Exception: protocol.NewException("ValueError", why)})
}

func (r *rig) put(res protocol.Result) {
	r.Helper()
	if err := r.store.Store(r.Context(), resultbackend.Record{Result: res}); err != nil {
		r.Fatal(err)
	}
}

// get starts a Get and returns how it ends.
func get[T any](res *client.AsyncResult, ctx context.Context) <-chan ended[T] {
	ch := make(chan ended[T], 1)
	go func() {
		var v T
		err := res.Get(ctx, &v)
		ch <- ended[T]{v, err}
	}()
	return ch
}

type ended[T any] struct {
	v   T
	err error
}

func TestATaskIsSentAndWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		res := r.send(canvas.New("add", 2, 3).Kw(map[string]any{"k": true}))
		tasks := r.sent("celery")
		if len(tasks) != 1 || tasks[0].ID != res.ID || tasks[0].Name != "add" || tasks[0].RootID != res.ID || tasks[0].Origin == "" {
			t.Fatalf("sent %+v", tasks)
		}
		if s, err := res.State(t.Context()); s != protocol.Pending || err != nil {
			t.Errorf("State = %v, %v", s, err)
		}
		ch := get[int](res, t.Context())
		synctest.Wait()
		r.put(protocol.Result{TaskID: res.ID, Status: protocol.Started})
		synctest.Wait()
		if ready, err := res.Ready(t.Context()); ready || err != nil {
			t.Errorf("Ready = %v, %v", ready, err)
		}
		r.end(res.ID, int64(5))
		if got := <-ch; got.v != 5 || got.err != nil {
			t.Errorf("Get = %d, %v", got.v, got.err)
		}
		if ready, _ := res.Ready(t.Context()); !ready {
			t.Error("not ready")
		}
		if err := res.Get(t.Context(), nil); err != nil {
			t.Errorf("Get(nil): %v", err)
		}
		var wrong string
		if err := res.Get(t.Context(), &wrong); err == nil || !is[*protocol.DecodeError](err) {
			t.Errorf("an int into a string: %v", err)
		}
	})
}

func is[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

func TestFailuresAreExceptions(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, tt := range []struct {
		name   string
		result protocol.Result
		want   string
	}{
		{"failed", protocol.Result{Status: protocol.Failure, Exception: protocol.NewException("ValueError", "no")}, "ValueError: no"},
		{"revoked", protocol.Result{Status: protocol.Revoked, Exception: protocol.TaskRevoked("expired")}, "TaskRevokedError: expired"},
		{"failed with no exception that could be read", protocol.Result{Status: protocol.Failure, Value: "what"}, "Exception: what"},
	} {
		res := r.send(canvas.New("t"))
		tt.result.TaskID = res.ID
		r.put(tt.result)
		err := res.Get(t.Context(), nil)
		if !is[*protocol.Exception](err) || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		if s, err := res.State(t.Context()); s != tt.result.Status || err != nil {
			t.Errorf("%s: State = %v, %v", tt.name, s, err)
		}
	}
}

func TestAGroupIsJoinedInItsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		res := r.send(canvas.Group(canvas.New("a"), canvas.New("b"), canvas.Group(canvas.New("c"), canvas.New("d"))))
		if !res.Group || len(res.Children) != 4 {
			t.Fatalf("%+v", res)
		}
		ch := get[[]string](res, t.Context())
		for i, id := range []int{2, 0, 3, 1} {
			if s, err := res.State(t.Context()); s != protocol.Pending || err != nil {
				t.Errorf("State after %d = %v, %v", i, s, err)
			}
			r.end(res.Children[id].ID, fmt.Sprint(id))
		}
		if got := <-ch; got.err != nil || !cmp.Equal(got.v, []string{"0", "1", "2", "3"}) {
			t.Errorf("Get = %v, %v", got.v, got.err)
		}
		if s, err := res.State(t.Context()); s != protocol.Success || err != nil {
			t.Errorf("State = %v, %v", s, err)
		}
		if tasks := r.sent("celery"); len(tasks) != 4 || tasks[0].Group != res.ID {
			t.Errorf("sent %v", tasks)
		}
	})
}

func TestAGroupFailsAsSoonAsOneMemberDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		res := r.send(canvas.Group(canvas.New("a"), canvas.New("b"), canvas.New("c")))
		ch := get[[]int](res, t.Context())
		synctest.Wait()
		r.fail(res.Children[2].ID, "last")
		if got := <-ch; got.err == nil || got.err.Error() != "ValueError: last" {
			t.Errorf("Get: %v", got.err)
		}
		if s, err := res.State(t.Context()); s != protocol.Failure || err != nil {
			t.Errorf("State = %v, %v", s, err)
		}
		if ready, err := res.Ready(t.Context()); ready || err != nil {
			t.Errorf("Ready = %v, %v", ready, err)
		}
	})
}

func TestAnEmptyGroupIsDone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var got []int
	if err := r.send(canvas.Group()).Get(t.Context(), &got); err != nil || len(got) != 0 {
		t.Errorf("Get = %v, %v", got, err)
	}
	if _, err := r.client.Send(t.Context(), canvas.Chain()); err == nil {
		t.Error("a chain without steps was sent")
	}
}

func TestAStepBeforeThatFailsEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		res := r.send(canvas.Chain(canvas.New("a"), canvas.New("b"), canvas.New("c")))
		if res.Parent == nil || res.Parent.Parent == nil || res.Parent.Parent.Parent != nil {
			t.Fatalf("%+v has not the two steps before it", res)
		}
		first := res.Parent.Parent
		if tasks := r.sent("celery"); len(tasks) != 1 || tasks[0].ID != first.ID || len(tasks[0].Chain) != 2 {
			t.Fatalf("sent %+v", tasks)
		}
		ch := get[int](res, t.Context())
		time.Sleep(10 * time.Second)
		r.fail(first.ID, "at once") // and whoever runs it fails to tell the others
		start := time.Now()
		if got := <-ch; !is[*protocol.Exception](got.err) || got.err.Error() != "ValueError: at once" {
			t.Errorf("Get: %v", got.err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("noticed after %v", took)
		}
		if err := res.Get(t.Context(), nil); err == nil || err.Error() != "ValueError: at once" {
			t.Errorf("Get again: %v", err)
		}
	})
}

func TestAChordIsBegunBeforeItIsSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	res := r.send(canvas.Chord([]canvas.Signature{canvas.New("a"), canvas.New("b")}, canvas.New("sum")))
	if res.Parent == nil || !res.Parent.Group || len(res.Parent.Children) != 2 {
		t.Fatalf("%+v", res)
	}
	for i, task := range r.sent("celery") {
		m := resultbackend.Member{GroupID: task.Group, TaskID: task.ID, Index: task.GroupIndex, State: protocol.Success, Value: int64(i)}
		tally, err := r.store.Count(t.Context(), m)
		if want := []resultbackend.TallyState{resultbackend.Open, resultbackend.Claimed}[i]; err != nil || tally.State != want {
			t.Errorf("part %d is %v, %v; want %v", i, tally.State, err, want)
		}
	}
}

func TestAChordWithoutAStoreIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *client.Config) { c.Results = nil })
	chord := canvas.Chord([]canvas.Signature{canvas.New("a"), canvas.New("b")}, canvas.New("sum"))
	if _, err := r.client.Send(t.Context(), chord); !errors.Is(err, client.ErrNoChords) {
		t.Errorf("Send: %v, want ErrNoChords", err)
	}
	if n := r.broker.Ready("celery"); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
	res := r.send(canvas.New("a"))
	if err := res.Get(t.Context(), nil); !errors.Is(err, client.ErrNoResults) {
		t.Errorf("Get: %v, want ErrNoResults", err)
	}
	if err := res.Forget(t.Context()); err != nil {
		t.Errorf("Forget: %v", err)
	}
}

// plain is a store that can be read and nothing else: it is polled, and counts no chords.
type plain struct {
	resultbackend.Backend
	resultbackend.Loader
}

func TestAStoreThatCannotWaitIsPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memresult.New()
		r := newRig(t, func(c *client.Config) { c.Results = plain{store, store} })
		r.store = store
		chord := r.send(canvas.Chord([]canvas.Signature{canvas.New("a"), canvas.New("b")}, canvas.New("sum")))
		var names []string
		for _, task := range r.sent("celery") {
			names = append(names, task.Name)
		}
		if !cmp.Equal(names, []string{"celery.chord_unlock", "a", "b"}) {
			t.Errorf("sent %v", names)
		}
		ch := get[int](chord, t.Context())
		time.Sleep(time.Minute)
		r.end(chord.ID, int64(7))
		start := time.Now()
		if got := <-ch; got.v != 7 || got.err != nil || time.Since(start) > time.Second {
			t.Errorf("Get = %v, %v after %v", got.v, got.err, time.Since(start))
		}
	})
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		res := r.send(canvas.Chain(canvas.New("a"), canvas.New("b")))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := res.Get(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get: %v, want DeadlineExceeded", err)
		}
		r.store.Away(true)
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := res.Get(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get while the store is away: %v, want DeadlineExceeded", err)
		}
		ch := get[int](res, t.Context())
		time.Sleep(time.Minute)
		r.store.Away(false)
		r.end(res.ID, int64(1))
		if got := <-ch; got.v != 1 || got.err != nil {
			t.Errorf("Get = %v, %v", got.v, got.err)
		}
	})
}

func TestIgnoredResultsAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	res := r.send(canvas.New("a").IgnoreResult(true))
	if err := res.Get(t.Context(), nil); !errors.Is(err, client.ErrIgnored) {
		t.Errorf("Get: %v, want ErrIgnored", err)
	}
}

func TestAMessageIsSentAgain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(r *rig)
		want  error
	}{
		{"after broken connections", func(r *rig) { r.broker.Fail(membroker.Publish, 3, transports.ErrDisconnected) }, nil},
		{"when refused", func(r *rig) { r.broker.Fail(membroker.Publish, 3, transports.ErrRefused) }, nil},
		{"when the broker is away for a moment", func(r *rig) { r.broker.Fail(membroker.Connect, 3, transports.ErrDisconnected) }, nil},
		{"but not for ever", func(r *rig) { r.broker.Fail(membroker.Publish, 4, transports.ErrDisconnected) }, transports.ErrDisconnected},
		{"and not with wrong credentials", func(r *rig) { r.broker.Fail(membroker.Connect, 1, transports.ErrCredentials) }, transports.ErrCredentials},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				tt.fault(r)
				start := time.Now()
				_, err := r.client.Send(t.Context(), canvas.New("a"))
				if !errors.Is(err, tt.want) {
					t.Fatalf("Send: %v, want %v", err, tt.want)
				}
				if took := time.Since(start); took > 700*time.Millisecond {
					t.Errorf("took %v", took)
				}
				if n := r.broker.Ready("celery"); err == nil && n != 1 {
					t.Errorf("%d messages", n)
				}
			})
		})
	}
}

func TestAStoreThatIsAwayKeepsTheChordFromBeingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.store.Away(true)
		_, err := r.client.Send(t.Context(), canvas.Chord([]canvas.Signature{canvas.New("a"), canvas.New("b")}, canvas.New("sum")))
		if !errors.Is(err, resultbackend.ErrUnavailable) {
			t.Errorf("Send: %v, want ErrUnavailable", err)
		}
		if n := r.broker.Ready("celery"); n != 0 {
			t.Errorf("%d messages were sent", n)
		}
	})
}

func TestMistakesComeOutBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	if _, err := client.New(client.Config{Attempts: -1, Encoding: protocol.Encoding{Serializer: "pickle"}}); err == nil {
		t.Error("New takes anything")
	}
	r := newRig(t, func(c *client.Config) {
		routes, err := canvas.ParseRoutes(map[string]any{"task_create_missing_queues": false})
		if err != nil {
			t.Fatal(err)
		}
		c.Routes = routes
	})
	for _, s := range []canvas.Signature{
		canvas.New("a", func() {}),
		canvas.New(""),
		canvas.Group(canvas.New("a"), canvas.New("b").Queue("nowhere")),
		{},
	} {
		if _, err := r.client.Send(t.Context(), s); err == nil {
			t.Errorf("%+v was sent", s)
		}
	}
	if qs := r.broker.Queues(); len(qs) != 0 {
		t.Errorf("queues %v were made", qs)
	}
}

func TestSettingsOfTasksAndRoutesHold(t *testing.T) {
	t.Parallel()
	routes, err := canvas.ParseRoutes(map[string]any{"task_routes": map[string]any{"a": "aqueue"}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(c *client.Config) {
		c.Routes, c.Encoding = routes, protocol.Encoding{Compression: "gzip"}
		c.Tasks = map[string]canvas.TaskDefaults{"b": {Queue: "bqueue", HardLimit: time.Minute}}
	})
	r.send(canvas.New("a"))
	r.send(canvas.New("b"))
	if got := r.sent("aqueue"); len(got) != 1 {
		t.Errorf("aqueue holds %v", got)
	}
	if got := r.sent("bqueue"); len(got) != 1 || got[0].HardLimit != time.Minute {
		t.Errorf("bqueue holds %v", got)
	}
}

func TestResultsAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	res := r.send(canvas.Chain(canvas.New("a"), canvas.New("b")))
	r.end(res.ID, nil)
	r.end(res.Parent.ID, nil)
	if err := res.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*client.AsyncResult{res, res.Parent} {
		if s, err := x.State(t.Context()); s != protocol.Pending || err != nil {
			t.Errorf("State = %v, %v", s, err)
		}
	}
}

func TestResultTuplesAreRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	l := func(v ...protocol.Value) protocol.Value { return []protocol.Value(v) }
	res, err := r.client.ResultOf(l(l("g", l(l("p", nil), nil)), l(l(l("a", nil), nil), l("b", nil))))
	if err != nil {
		t.Fatal(err)
	}
	if res.ID != "g" || !res.Group || res.Parent.ID != "p" || len(res.Children) != 2 || res.Children[1].ID != "b" {
		t.Errorf("read %+v", res)
	}
	deep := l(l("x", nil), nil)
	for range 1000 {
		deep = l(l("x", nil), l(deep))
	}
	for _, bad := range []protocol.Value{nil, "x", l(), l("x"), l(nil, nil), l(l("x", nil), "members"), l(l(int64(1), nil), nil), l(l("x", "p"), nil), deep} {
		if _, err := r.client.ResultOf(bad); err == nil {
			t.Errorf("%.100s is a result", protocol.Repr(bad))
		}
	}
	long := l(l("x", nil), nil)
	for range 5000 {
		long = l(l("x", long), nil)
	}
	if _, err := r.client.ResultOf(long); err != nil {
		t.Errorf("a long chain: %v", err)
	}
}

func TestAClosedClientSaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.send(canvas.New("a"))
	for range 2 {
		if err := r.client.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.client.Send(t.Context(), canvas.New("a")); err == nil {
		t.Error("a closed client sends")
	}
	if n := len(r.sent("celery")); n != 1 {
		t.Errorf("%d messages were sent, want the one before Close", n)
	}
}
