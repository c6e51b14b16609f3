package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// A crowd counts who is inside, weighed.
type crowd struct{ now, most atomic.Int64 }

func (c *crowd) enter(n int64) {
	now := c.now.Add(n)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
}

func (c *crowd) leave(n int64) { c.now.Add(-n) }

func TestHeavyTasksTakeSeveralSlots(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var inside crowd
		run := func(weight int64) func(context.Context, nothing) (int64, error) {
			return func(context.Context, nothing) (int64, error) {
				inside.enter(weight)
				defer inside.leave(weight)
				time.Sleep(time.Second)
				return weight, nil
			}
		}
		r := startRig(t, func(c *Config) { c.Concurrency = 4 },
			handlers.Func("one", run(1)),
			handlers.Func("three", run(3)).With(handlers.Options{Slots: 3}),
			handlers.Func("all", run(4)).With(handlers.Options{Slots: 99}))
		for i, name := range []string{"one", "three", "three", "one", "all", "one", "three", "all"} {
			r.send(protocol.Task{ID: string(rune('a' + i)), Name: name})
		}
		pass(20 * time.Second)
		for i := range 8 {
			r.wantState(string(rune('a'+i)), protocol.Success)
		}
		if most := inside.most.Load(); most != 4 {
			t.Errorf("tasks of %d slots ran at a time, want 4", most)
		}
		if s := r.w.Stats(); s.InUse != 0 || s.Slots != 4 {
			t.Errorf("stats = %+v", s)
		}
		r.wantQueue("q", 0, 0)
	})
}

// A heavy task that waits for its slots is decided about again when it has them, and goes back when the worker stops.
func TestHeavyTaskIsRevokedOrGivenBackWhileItWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var ran atomic.Int64
		r := startRig(t, func(c *Config) { c.Concurrency, c.Grace = 2, time.Minute },
			handlers.Func("sleep", sleeper(10*time.Second)),
			handlers.Func("heavy", func(context.Context, nothing) (int64, error) { return ran.Add(1), nil }).With(handlers.Options{Slots: 2}))
		c := r.client()
		r.send(protocol.Task{ID: "s1", Name: "sleep"})
		r.send(protocol.Task{ID: "revoked", Name: "heavy"})
		r.send(protocol.Task{ID: "late", Name: "heavy", Expires: time.Now().Add(5 * time.Second)})
		synctest.Wait()
		c.want("revoke", `{"ok": "tasks {'revoked'} flagged as revoked"}`, arg("task_id", "revoked"))
		pass(11 * time.Second)
		r.wantState("revoked", protocol.Revoked)
		r.wantState("late", protocol.Revoked)
		r.wantState("s1", protocol.Success)
		r.send(protocol.Task{ID: "s2", Name: "sleep"})
		r.send(protocol.Task{ID: "back", Name: "heavy"})
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		r.wantState("s2", protocol.Success)
		r.wantQueue("q", 1, 0)
		if n := ran.Load(); n != 0 {
			t.Errorf("heavy ran %d times, want never", n)
		}
	})
}

func TestReserveKeepsTasksWithinTheBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var inside crowd
		h := handlers.Func("need", func(ctx context.Context, in struct {
			X int64 `json:"x"`
		},
		) (string, error) {
			if err := handlers.Reserve(ctx, 1<<20); err != nil { // replaced by the next
				return "", err
			}
			if err := handlers.Reserve(ctx, in.X<<20); err != nil {
				return "", err
			}
			inside.enter(in.X)
			defer inside.leave(in.X)
			time.Sleep(time.Second)
			return "ok", nil
		})
		r := startRig(t, func(c *Config) { c.Concurrency, c.Memory = 8, 100<<20 }, h)
		for i, x := range []int64{60, 60, 30, 100, 10, 1, 90, 101} {
			r.send(protocol.Task{ID: string(rune('a' + i)), Name: "need", Args: args(x)})
		}
		synctest.Wait()
		if s := r.w.Stats(); s.Memory != 100<<20 || s.Reserved == 0 || s.Reserved > s.Memory {
			t.Errorf("stats = %+v", s)
		}
		pass(20 * time.Second)
		for i := range 7 {
			r.wantState(string(rune('a'+i)), protocol.Success)
		}
		if most := inside.most.Load(); most > 100 || most < 90 {
			t.Errorf("%d MiB at a time, want close to 100 and not above", most)
		}
		e := r.wantException("h", "MemoryError")
		if want := "the task needs about 101 MiB of memory, more than the 100 MiB that all tasks of this worker may have together"; len(e.Args) != 1 || e.Args[0] != want {
			t.Errorf("args = %q, want %q", e.Args, want)
		}
		if s := r.w.Stats(); s.Reserved != 0 {
			t.Errorf("%d bytes are still reserved", s.Reserved)
		}
	})
}

// Whoever waits for memory hears its soft limit, and an abandoned handler keeps its part until it returns.
func TestReserveAndTimeLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cause := make(chan error, 1)
		hog := handlers.Func("hog", func(ctx context.Context, _ nothing) (string, error) {
			if err := handlers.Reserve(ctx, 10<<20); err != nil {
				return "", err
			}
			time.Sleep(time.Minute) // deaf to its context
			return "", handlers.Reserve(context.WithoutCancel(ctx), 1<<20)
		}).With(handlers.Options{HardLimit: time.Second})
		wait := handlers.Func("wait", func(ctx context.Context, _ nothing) (string, error) {
			err := handlers.Reserve(ctx, 5<<20)
			cause <- err
			return "", err
		}).With(handlers.Options{SoftLimit: 10 * time.Second})
		r := startRig(t, func(c *Config) { c.Concurrency, c.Memory = 2, 12<<20 }, hog, wait)
		r.send(protocol.Task{ID: "hog", Name: "hog"})
		synctest.Wait()
		r.send(protocol.Task{ID: "wait", Name: "wait"})
		pass(15 * time.Second)
		if err := <-cause; !errors.Is(err, handlers.ErrSoftLimit) {
			t.Errorf("Reserve = %v, want the soft limit", err)
		}
		r.wantException("hog", "TimeLimitExceeded")
		if s := r.w.Stats(); s.Reserved != 10<<20 {
			t.Errorf("%d bytes are reserved while the handler goes on, want 10 MiB", s.Reserved)
		}
		pass(time.Minute)
		if s := r.w.Stats(); s.Reserved != 0 {
			t.Errorf("%d bytes are reserved in the end", s.Reserved)
		}
	})
}

// A goroutine that the handler left behind neither holds up its end nor gets anything afterwards.
func TestReserveEndsWithTheHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		left := make(chan error, 2)
		h := handlers.Func("leaves", func(ctx context.Context, in struct {
			X int64 `json:"x"`
		},
		) (string, error) {
			ctx = context.WithoutCancel(ctx)
			if in.X == 0 {
				defer time.Sleep(time.Second)
				return "", handlers.Reserve(ctx, 10<<20)
			}
			go func() { left <- handlers.Reserve(ctx, 10<<20) }()
			time.Sleep(time.Millisecond) // it waits now
			go func() {
				time.Sleep(time.Minute)
				left <- handlers.Reserve(ctx, 1)
			}()
			return "", nil
		})
		r := startRig(t, func(c *Config) { c.Concurrency, c.Memory = 2, 12<<20 }, h)
		r.send(protocol.Task{ID: "holds", Name: "leaves", Args: args(int64(0))})
		synctest.Wait()
		r.send(protocol.Task{ID: "leaves", Name: "leaves", Args: args(int64(1))})
		pass(10 * time.Millisecond)
		r.wantState("leaves", protocol.Success)
		if err := <-left; err == nil {
			t.Error("memory was reserved for a task that is over")
		}
		pass(time.Minute)
		if err := <-left; err == nil {
			t.Error("memory was reserved for a task that has been over for long")
		}
		if s := r.w.Stats(); s.Reserved != 0 {
			t.Errorf("%d bytes are reserved in the end", s.Reserved)
		}
	})
}
