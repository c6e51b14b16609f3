package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

func TestBrokenConnectionLosesNothingAndDoublesNothing(t *testing.T) {
	for slots, line := range map[int]string{
		1: "a copy of a", // no slot is free to take the copy before the end: it finds the run settled, or settling
		2: "a copy of a running task came back",
	} {
		t.Run(fmt.Sprint(slots, " slots"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var runs atomic.Int32
				r := startRig(t, func(c *Config) { c.Concurrency = slots }, handlers.Func("sleep", func(ctx context.Context, in nothing) (string, error) {
					runs.Add(1)
					return sleeper(time.Minute)(ctx, in)
				}))
				r.send(protocol.Task{ID: "a", Name: "sleep"})
				synctest.Wait()
				r.broker.Cut() // the broker brings a copy while its run is still going on here
				pass(2 * time.Minute)
				r.wantLog(line)
				r.wantState("a", protocol.Success)
				r.wantQueue("q", 0, 0)
				if n := runs.Load(); n != 1 {
					t.Errorf("the task ran %d times", n)
				}
			})
		})
	}
}

func TestLostAckIsNotASecondRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, nil, handlers.Func("count", func(context.Context, nothing) (int32, error) { return runs.Add(1), nil }))
		r.broker.Fail(membroker.Settle, 1, fmt.Errorf("test: %w", transports.ErrLost))
		r.send(protocol.Task{ID: "a", Name: "count"})
		synctest.Wait()
		r.broker.Cut()
		pass(time.Minute)
		r.wantQueue("q", 0, 0)
		if n := runs.Load(); n != 1 {
			t.Errorf("the task ran %d times", n)
		}
	})
}

func TestHeldTasksSurviveABrokenConnectionOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, nil, handlers.Func("count", func(context.Context, nothing) (int32, error) { return runs.Add(1), nil }))
		r.send(protocol.Task{ID: "a", Name: "count", ETA: time.Now().Add(time.Hour)})
		synctest.Wait()
		for range 5 {
			r.broker.Cut()
			pass(time.Minute)
			r.wantQueue("q", 0, 1)
		}
		pass(2 * time.Hour)
		r.wantState("a", protocol.Success)
		if n := runs.Load(); n != 1 {
			t.Errorf("the task ran %d times", n)
		}
	})
}

func TestRefusedRetryPublishReturnsTheMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, nil, handlers.Func("again", func(ctx context.Context, _ nothing) (int, error) {
			runs.Add(1)
			if info, _ := handlers.InfoFrom(ctx); info.Retries == 0 {
				return 0, handlers.Retry(nil, 0)
			}
			return 1, nil
		}))
		r.broker.Fail(membroker.Publish, 30, fmt.Errorf("test: %w", transports.ErrRefused))
		r.send(protocol.Task{ID: "a", Name: "again"})
		pass(10 * time.Minute)
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 0, 0)
		if n := runs.Load(); n < 3 {
			t.Errorf("ran %d times, want the first run repeated after the refusals", n)
		}
	})
}

// TestAnAlarmOfTheBrokerIsWaitedOut: running the task again would do nothing but harm, and a queue that counts
// deliveries would give its message up.
func TestAnAlarmOfTheBrokerIsWaitedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, nil, handlers.Func("again", func(ctx context.Context, _ nothing) (int, error) {
			runs.Add(1)
			if info, _ := handlers.InfoFrom(ctx); info.Retries == 0 {
				return 0, handlers.Retry(nil, 0)
			}
			return 1, nil
		}), handlers.Func("double", double))
		r.broker.Fail(membroker.Publish, -1, fmt.Errorf("test: %w", transports.ErrBlocked))
		r.send(protocol.Task{ID: "a", Name: "again"})
		next := protocol.ObjectOf(protocol.Member{Key: "task", Value: "double"}, protocol.Member{Key: "args", Value: args(int64(1))},
			protocol.Member{Key: "kwargs", Value: &protocol.Object{}}, protocol.Member{Key: "immutable", Value: true},
			protocol.Member{Key: "options", Value: protocol.ObjectOf(protocol.Member{Key: "task_id", Value: "b"}, protocol.Member{Key: "queue", Value: "q"})})
		r.send(protocol.Task{ID: "first", Name: "double", Args: args(int64(1)), Callbacks: args(next)})
		pass(time.Hour)
		if n := runs.Load(); n != 1 {
			t.Errorf("ran %d times during the alarm, want once", n)
		}
		r.broker.Fail(membroker.Publish, 0, nil)
		pass(time.Minute)
		r.wantState("a", protocol.Success)
		r.wantState("first", protocol.Success)
		r.wantState("b", protocol.Success)
		r.wantQueue("q", 0, 0)
	})
}

func TestSlotsGoOnWhileResultsAreOnTheirWayUntilTheWindowIsFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Settling, c.Prefetch = 2, 100 }, handlers.Func("double", double))
		r.results.Away(true)
		for i := range 10 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "double", Args: args(int64(i))})
		}
		pass(time.Minute)
		if s := r.w.Stats(); s.Succeeded != 3 || s.Settling != 2 {
			t.Errorf("%+v, want two settling and the slot holding a third", s)
		}
		r.results.Away(false)
		pass(time.Minute)
		r.wantQueue("q", 0, 0)
		r.wantState("9", protocol.Success)
	})
}

func TestDialIsRepeatedForEverButRefusedCredentialsEndTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reg, _ := handlers.NewRegistry(handlers.Func("double", double))
		b := membroker.New()
		b.Fail(membroker.Connect, 20, fmt.Errorf("test: %w", transports.ErrDisconnected))
		w, err := New(Config{Transport: b, Handlers: reg, Queues: []transports.Queue{{Name: "q", Create: true}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error)
		go func() { end <- w.Run(ctx) }()
		pass(time.Second)
		if w.Ready() == nil {
			t.Error("ready without a connection")
		}
		pass(20 * time.Minute)
		if err := w.Ready(); err != nil {
			t.Errorf("Ready = %v after the broker came back", err)
		}
		cancel()
		if err := <-end; err != nil {
			t.Errorf("Run = %v", err)
		}

		b.Fail(membroker.Connect, 1, fmt.Errorf("test: %w", transports.ErrCredentials))
		w, _ = New(Config{Transport: b, Handlers: reg})
		if err := w.Run(t.Context()); !errors.Is(err, transports.ErrCredentials) {
			t.Errorf("Run = %v, want ErrCredentials", err)
		}
		if err := w.Run(t.Context()); !errors.Is(err, ErrRan) {
			t.Errorf("second Run = %v, want ErrRan", err)
		}
	})
}

func TestTooManyDeliveriesGoToQuarantine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Deliveries = 3 }, handlers.Func("loop", func(context.Context, nothing) (int, error) { return 0, handlers.Requeue(nil) }))
		r.broker.Counting(true)
		r.send(protocol.Task{ID: "a", Name: "loop"})
		synctest.Wait()
		r.wantException("a", "WorkerLostError")
		r.wantQueue("q", 0, 0)
		r.wantQueue("q.quarantine", 1, 0)
	})
}

// picky stores nothing that it is told to find in a document.
type picky struct {
	*memresult.Backend
	refuses func(protocol.Result) bool
}

func (p picky) Store(ctx context.Context, r resultbackend.Record) error {
	if p.refuses(r.Result) {
		return &protocol.EncodeError{Err: errors.New("int too big to convert")}
	}
	return p.Backend.Store(ctx, r)
}

func TestWhatCannotBeStoredIsToldAllTheSame(t *testing.T) {
	for _, tt := range []struct {
		name    string
		refuses func(protocol.Result) bool
		want    string
	}{
		{"a result", func(r protocol.Result) bool { return r.Status == protocol.Success }, "EncodeError"},
		{"arguments", func(r protocol.Result) bool { return r.Extended != nil }, "BackendStoreError"},
		{"a traceback", func(r protocol.Result) bool {
			return r.Traceback != "" || r.Status == protocol.Success && r.TaskID == "ok"
		}, "EncodeError"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store := memresult.New()
				r := startRig(t, func(c *Config) { c.Results, c.Extended = picky{store, tt.refuses}, true },
					handlers.Func("double", double), handlers.Func("fail", func(context.Context, nothing) (int, error) { return 0, errors.New("x") }))
				r.results = store
				r.send(protocol.Task{ID: "ok", Name: "double", Args: args(int64(1))})
				r.send(protocol.Task{ID: "bad", Name: "fail"})
				synctest.Wait()
				r.wantException("ok", tt.want)
				r.wantState("bad", protocol.Failure)
				r.wantQueue("q", 0, 0)
			})
		})
	}
}

func TestAStoreThatHangsDoesNotHoldTheHardLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("slow", func(ctx context.Context, _ nothing) (int, error) {
			handlers.Progress(ctx, 1) //nolint:errcheck // the store is what the test is about
			<-ctx.Done()
			return 0, ctx.Err()
		}))
		r.results.Delay(time.Hour)
		r.send(protocol.Task{ID: "a", Name: "slow", HardLimit: time.Second})
		pass(time.Minute)
		r.results.Delay(0)
		pass(time.Minute)
		r.wantException("a", "TimeLimitExceeded")
	})
}

func TestSetAsideIsCountedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Deliveries = 1 }, handlers.Func("loop", func(context.Context, nothing) (int, error) { return 0, handlers.Requeue(nil) }))
		r.broker.Counting(true)
		r.send(protocol.Task{ID: "a", Name: "loop"})
		synctest.Wait()
		if s := r.w.Stats(); s.Quarantined != 1 {
			t.Errorf("Quarantined = %d", s.Quarantined)
		}
	})
}

// rawLog writes messages as they are, as a handler that quotes nothing does.
type rawLog struct {
	slog.Handler
	out *logBuffer
}

func (l rawLog) Handle(_ context.Context, r slog.Record) error {
	_, err := fmt.Fprintf(l.out, "> %s\n", r.Message)
	return err
}

func TestMessagesCannotForgeLinesOfTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		out := &logBuffer{}
		r := startRig(t, func(c *Config) { c.Logger = slog.New(rawLog{slog.NewTextHandler(out, nil), out}) }, handlers.Func("double", double))
		id := "a\n[2026-11-21 00:00:00,000: ERROR/MainProcess] forged \x1b[31m"
		r.send(protocol.Task{ID: id, Name: "double", Shadow: "s\nh", Args: args(int64(1))})
		r.send(protocol.Task{ID: "b", Name: "no\nsuch"})
		synctest.Wait()
		r.wantState(id, protocol.Success)
		text := out.String()
		if !strings.Contains(text, "succeeded") || strings.Contains(text, "\n[2026") || strings.Contains(text, "\x1b") || strings.Contains(text, "\nh[") || strings.Contains(text, "no\nsuch") {
			t.Errorf("forged:\n%s", text)
		}
	})
}

func TestALostAckIsForgottenWhenItsCopyHasCome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, nil, handlers.Func("count", func(context.Context, nothing) (int32, error) { return runs.Add(1), nil }))
		r.broker.Fail(membroker.Settle, 1, fmt.Errorf("test: %w", transports.ErrLost))
		r.send(protocol.Task{ID: "a", Name: "count"})
		synctest.Wait()
		r.broker.Cut()
		pass(time.Minute)
		if r.w.ledger.wasSettled(&protocol.Task{ID: "a"}, "0") {
			t.Error("the run is still remembered: a new message of that id would be acked unrun when it is redelivered")
		}
	})
}
