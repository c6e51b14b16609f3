package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// statsOf is the line of one name; the test fails when there is none.
func statsOf(t *testing.T, w *Worker, name string) TaskStats {
	t.Helper()
	for _, s := range w.TaskStats() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no counts of %s among %d", name, len(w.TaskStats()))
	return TaskStats{}
}

func raw(name string, fn func(context.Context) (any, error)) handlers.Handler {
	return handlers.Raw(name, func(ctx context.Context, _ []protocol.Value, _ *protocol.Object) (any, error) { return fn(ctx) })
}

func TestMeterCountsEveryEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		once, returned := false, false
		r := startRig(t, func(c *Config) { c.HardLimit = 10 * time.Second },
			raw("ok", func(context.Context) (any, error) { time.Sleep(300 * time.Millisecond); return 1, nil }),
			raw("bad", func(context.Context) (any, error) { return nil, protocol.NewException("ValueError", "no") }),
			raw("worse", func(context.Context) (any, error) { return nil, protocol.NewException("a.b.C d", "no") }),
			raw("noack", func(context.Context) (any, error) { return nil, errors.New("no") }).With(handlers.Options{AckOnFailure: new(bool)}),
			raw("requeue", func(context.Context) (any, error) {
				if !returned {
					returned = true
					return nil, handlers.Requeue(errors.New("not now"))
				}
				return nil, nil
			}),
			raw("reject", func(context.Context) (any, error) { return nil, handlers.Reject(errors.New("no")) }),
			raw("ignore", func(context.Context) (any, error) { return nil, handlers.ErrIgnore }),
			raw("again", func(context.Context) (any, error) {
				if !once {
					once = true
					return nil, handlers.Retry(nil, 5*time.Second)
				}
				return nil, nil
			}),
			raw("slow", func(context.Context) (any, error) { time.Sleep(time.Minute); return nil, nil }),
		)
		for i, name := range []string{"ok", "ok", "bad", "worse", "reject", "ignore", "again", "nobody", "slow", "noack", "requeue"} {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: name})
		}
		gone := time.Now().Add(-time.Hour)
		r.send(protocol.Task{ID: "x", Name: "ok", Expires: gone})
		time.Sleep(2 * time.Minute)
		synctest.Wait()

		type counts struct {
			Received, Started, Succeeded, Failed, TimedOut, Retried, Rejected, Ignored, Revoked, Refused int64
			Exceptions                                                                                   map[string]int64
		}
		for name, want := range map[string]counts{
			"ok":      {Received: 2, Started: 2, Succeeded: 2, Revoked: 1},
			"bad":     {Received: 1, Started: 1, Failed: 1, Exceptions: map[string]int64{"ValueError": 1}},
			"worse":   {Received: 1, Started: 1, Failed: 1, Exceptions: map[string]int64{"UnknownException": 1}},
			"reject":  {Received: 1, Started: 1, Failed: 1, Rejected: 1, Exceptions: map[string]int64{"Reject": 1}},
			"noack":   {Received: 1, Started: 1, Failed: 1, Rejected: 1, Exceptions: map[string]int64{"RuntimeError": 1}},
			"requeue": {Received: 2, Started: 2, Succeeded: 1, Rejected: 1},
			"ignore":  {Received: 1, Started: 1, Ignored: 1},
			"again":   {Received: 2, Started: 2, Succeeded: 1, Retried: 1},
			"slow":    {Received: 1, Started: 1, Failed: 1, TimedOut: 1, Exceptions: map[string]int64{"TimeLimitExceeded": 1}},
			"unknown": {Failed: 1, Refused: 1, Exceptions: map[string]int64{"NotRegistered": 1}},
		} {
			s := statsOf(t, r.w, name)
			got := counts{s.Received, s.Started, s.Succeeded, s.Failed, s.Outcomes["timed_out"], s.Retried, s.Rejected, s.Outcomes["ignored"], s.Revoked, s.Refused, s.Exceptions}
			if want.Exceptions == nil {
				want.Exceptions = map[string]int64{}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
			if s.Queue != "q" {
				t.Errorf("%s was counted for queue %q, want q", name, s.Queue)
			}
		}
		ok := statsOf(t, r.w, "ok")
		if n, sum := ok.Runtime.Count(), ok.Runtime.Sum; n != 2 || sum < .5999 || sum > .6001 {
			t.Errorf("runtime of ok: %d runs of %v s, want 2 of 0.6", n, sum)
		}
		slow := statsOf(t, r.w, "slow")
		if n, sum := slow.OtherRuns.Count(), slow.OtherRuns.Sum; n != 1 || sum < 9.99 || sum > 10.01 {
			t.Errorf("runtime of slow: %d runs of %v s, want 1 of 10", n, sum)
		}
		// The retry was held for its 5 seconds, which is no wait.
		if w := statsOf(t, r.w, "again").Wait; w.Count() != 2 || w.Sum > 4.9 {
			t.Errorf("wait of again: %d starts after %v s", w.Count(), w.Sum)
		}
		if d := cmp.Diff([]SentStats{{"again", "q", 1}}, r.w.SentStats()); d != "" {
			t.Errorf("published (-want +got):\n%s", d)
		}
		s := r.w.Stats()
		if s.Redelivered != 1 {
			t.Errorf("%d redeliveries, want 1", s.Redelivered)
		}
		if s.Unsettled != 0 || s.Oldest != 0 || s.Longest != 0 || s.Active != 0 {
			t.Errorf("an idle worker has %+v", s)
		}
	})
}

func TestWaitLeavesOutWhatTheSenderWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, nil,
			raw("t", func(context.Context) (any, error) { return nil, nil }),
			raw("block", func(context.Context) (any, error) { time.Sleep(30 * time.Second); return nil, nil }))
		// Held for 10 s; when it is due the only slot is taken for another 20.
		r.send(protocol.Task{ID: "eta", Name: "t", ETA: time.Now().Add(10 * time.Second)})
		synctest.Wait()
		r.send(protocol.Task{ID: "b", Name: "block"})
		time.Sleep(15 * time.Second)
		synctest.Wait()
		s := r.w.Stats()
		if s.Unsettled != 2 || s.Oldest != 15*time.Second || s.Longest != 15*time.Second || s.InUse != 1 || s.Slots != 1 {
			t.Errorf("Stats = %+v, want 2 unsettled, oldest and longest 15s, the one slot in use", s)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if w := statsOf(t, r.w, "t").Wait; w.Count() != 1 || w.Sum < 19.9 || w.Sum > 20.1 {
			t.Errorf("wait: %d of %v s, want 1 of 20", w.Count(), w.Sum)
		}
	})
}

func TestQueueWaitNeedsTheMessageToSayWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, nil, raw("t", func(context.Context) (any, error) { return nil, nil }))
		for i, change := range []func(*protocol.Message){
			func(*protocol.Message) {}, // Celery's own messages do not say
			func(m *protocol.Message) { m.Properties.Timestamp = time.Now().Add(-7 * time.Second) },
			func(m *protocol.Message) { m.Headers.Set("timestamp_in_ms", time.Now().Add(-time.Second).UnixMilli()) },
			func(m *protocol.Message) { m.Headers.Set("timestamp_in_ms", "yesterday") },
			func(m *protocol.Message) { m.Headers.Set("timestamp_in_ms", int64(1)) },         // 1970 is not credible
			func(m *protocol.Message) { m.Properties.Timestamp = time.Now().Add(time.Hour) }, // a clock ahead of ours: no wait
		} {
			m := message(t, protocol.Task{ID: fmt.Sprint(i), Name: "t"})
			change(&m)
			r.broker.Send("q", m)
		}
		synctest.Wait()
		s := statsOf(t, r.w, "t")
		if s.Started != 6 || s.QueueWait.Count() != 3 || s.QueueWait.Sum < 7.99 || s.QueueWait.Sum > 8.01 {
			t.Errorf("started %d, queue wait %d of %v s; want 6, and 3 of 8", s.Started, s.QueueWait.Count(), s.QueueWait.Sum)
		}
	})
}

func TestEarlyAckIsNotUnsettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, nil, raw("t", func(context.Context) (any, error) { time.Sleep(time.Minute); return nil, nil }).With(handlers.Options{EarlyAck: true}))
		r.send(protocol.Task{ID: "1", Name: "t"})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := r.w.Stats(); s.Unsettled != 0 || s.Longest != 10*time.Second {
			t.Errorf("unsettled %d, longest %v; want 0 and 10s", s.Unsettled, s.Longest)
		}
		time.Sleep(time.Minute)
	})
}

func TestMeterIsBounded(t *testing.T) {
	reg, err := handlers.NewRegistry(raw("t", nil))
	if err != nil {
		t.Fatal(err)
	}
	m := newMeter(&Config{Handlers: reg})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				j := &job{
					delivery: &transports.Delivery{Queue: fmt.Sprint("q", i%100)},
					task:     &protocol.Task{Name: fmt.Sprint("name", i)},
				}
				if i%2 == 0 {
					j.task.Name = "t"
				}
				m.took(j)
				m.received(j)
				m.refused(j, protocol.NewException(fmt.Sprint("E", g, i), "x"))
				m.gone(j)
				m.gone(j)
			}
		})
	}
	wg.Wait()
	w := &Worker{meter: m}
	all := w.TaskStats()
	if len(all) != 2*(queuesMax+1) {
		t.Errorf("%d series, want %d", len(all), 2*(queuesMax+1))
	}
	var received, failed int64
	for _, s := range all {
		received += s.Received
		if len(s.Exceptions) > exceptionsMax+1 {
			t.Errorf("%s/%s counts %d exceptions apart", s.Name, s.Queue, len(s.Exceptions))
		}
		for _, n := range s.Exceptions {
			failed += n
		}
	}
	if received != 4000 || failed != 4000 {
		t.Errorf("received %d, failed %d, want 4000 each", received, failed)
	}
	if n, _ := m.unsettled.look(time.Now()); n != 0 {
		t.Errorf("%d are left in the line", n)
	}
}

func TestHistogramBounds(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{-time.Second, 0, 100 * time.Microsecond, 100*time.Microsecond + 1, 10 * time.Second, 1e18, 1<<63 - 1} {
		h.observe(d)
	}
	s := h.snapshot()
	if len(s.Counts) != len(s.Bounds)+1 || len(scaleNanos) != len(h.counts)-1 {
		t.Fatalf("%d counts for %d bounds", len(s.Counts), len(s.Bounds))
	}
	if s.Counts[0] != 3 || s.Counts[1] != 1 || s.Counts[18] != 1 || s.Counts[25] != 2 || s.Count() != 7 {
		t.Errorf("counts %v", s.Counts)
	}
}

// BenchmarkMeter is what one task costs from its arrival to its end.
func BenchmarkMeter(b *testing.B) {
	reg, err := handlers.NewRegistry(raw("t", nil), raw("u", nil))
	if err != nil {
		b.Fatal(err)
	}
	m, task, d := newMeter(&Config{Handlers: reg}), &protocol.Task{Name: "t"}, &transports.Delivery{Queue: "celery"}
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		j := &job{}
		for pb.Next() {
			*j = job{delivery: d, task: task, received: now}
			m.took(j)
			m.received(j)
			m.begins(j, now)
			m.started(j)
			m.returned(j, now)
			m.ended(j, outcome{took: time.Millisecond})
			m.gone(j)
		}
	})
}

func TestMeterAllocatesNothing(t *testing.T) {
	reg, err := handlers.NewRegistry(raw("t", nil))
	if err != nil {
		t.Fatal(err)
	}
	m, now := newMeter(&Config{Handlers: reg}), time.Now()
	j := &job{delivery: &transports.Delivery{Queue: "q"}, task: &protocol.Task{Name: "t"}, received: now}
	if n := testing.AllocsPerRun(100, func() {
		j.marks = marks{}
		m.took(j)
		m.received(j)
		m.begins(j, now)
		m.started(j)
		m.returned(j, now)
		m.ended(j, outcome{})
		m.gone(j)
	}); n != 0 {
		t.Errorf("%v allocations for a task, want none", n)
	}
}

func TestEveryOutcomeHasAName(t *testing.T) {
	for kind, name := range outcomeNames {
		if name == "" {
			t.Errorf("outcome %d has no name", kind)
		}
	}
}
