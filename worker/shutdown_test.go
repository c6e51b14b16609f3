package worker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

func TestHeldTasksGoBackAtShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Hour)})
		r.wantQueue("q", 0, 1)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.wantQueue("q", 1, 0)
		r.wantLog("Restoring 1 unacknowledged message(s)")
	})
}

func TestWarmShutdownLetsTasksFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("sleep", sleeper(20*time.Second)))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		r.send(protocol.Task{ID: "b", Name: "sleep"})
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 1, 0) // b was never started
	})
}

func TestEndOfGraceReturnsRunningTasks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("sleep", sleeper(time.Hour)))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		synctest.Wait()
		err := r.stop()
		if !errors.Is(err, ErrGrace) || !strings.Contains(err.Error(), "sleep[a]") {
			t.Fatalf("Run = %v, want ErrGrace naming the task", err)
		}
		r.wantQueue("q", 1, 0)
		if got := r.results.Records("a"); len(got) != 0 {
			t.Errorf("an interrupted task stored %v", got)
		}
	})
}

func TestStopNowEndsTheGracePeriod(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Grace = -1 }, handlers.Func("sleep", sleeper(time.Hour)))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		synctest.Wait()
		r.cancel()
		pass(10 * time.Minute) // without a limit the worker waits
		began := time.Now()
		r.w.StopNow()
		r.w.StopNow()
		if err := r.stop(); !errors.Is(err, ErrGrace) {
			t.Fatalf("Run = %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("stopping took %v", took)
		}
		r.wantQueue("q", 1, 0)
	})
}

func TestAHandlerThatNeverStopsDoesNotStopTheShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		never := make(chan struct{})
		defer close(never)
		r := startRig(t, nil, handlers.Func("never", func(context.Context, nothing) (int, error) { <-never; return 0, nil }))
		r.send(protocol.Task{ID: "a", Name: "never"})
		synctest.Wait()
		if err := r.stop(); !errors.Is(err, ErrGrace) {
			t.Fatalf("Run = %v", err)
		}
		r.wantQueue("q", 1, 0)
	})
}

// TestShutdownEndsWhileTheStoreIsAway: the grace period, even one without limit, is for handlers.
func TestShutdownEndsWhileTheStoreIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Grace = -1 }, handlers.Func("double", double), handlers.Func("sleep", sleeper(time.Minute)))
		r.results.Away(true)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		r.send(protocol.Task{ID: "b", Name: "sleep"})
		synctest.Wait()
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Errorf("Run = %v: no handler was cut short", err)
		}
		if took := time.Since(began); took < time.Minute || took > 2*time.Minute {
			t.Errorf("stopping took %v, want the handler's minute and the time to settle", took)
		}
		r.wantQueue("q", 2, 0)
	})
}

func TestAnAbandonedHandlerDoesNotHoldAnUnlimitedGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		never := make(chan struct{})
		defer close(never)
		r := startRig(t, func(c *Config) { c.Grace = -1 }, handlers.Func("never", func(context.Context, nothing) (int, error) { <-never; return 0, nil }))
		r.send(protocol.Task{ID: "a", Name: "never", HardLimit: time.Second})
		pass(time.Minute)
		r.wantException("a", "TimeLimitExceeded")
		if err := r.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		r.wantQueue("q", 0, 0)
	})
}

// slowLog takes a second over each line that says part.
type slowLog struct {
	slog.Handler
	part string
}

func (l slowLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, l.part) {
		time.Sleep(time.Second)
	}
	return l.Handler.Handle(ctx, r)
}

// A task is looked at when the worker is told to stop: what it then waits for never comes, so it goes back as well.
func TestATaskHeldAfterTheEndOfTheCalendarGoesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) {
			c.Concurrency, c.Grace = 2, -1
			c.Logger = slog.New(slowLog{c.Logger.Handler(), " received"})
		}, handlers.Func("sleep", sleeper(time.Hour)))
		r.send(protocol.Task{ID: "runs", Name: "sleep"})
		pass(2 * time.Second)
		r.send(protocol.Task{ID: "waits", Name: "sleep", ETA: time.Now().Add(time.Minute)})
		pass(500 * time.Millisecond)
		r.cancel()
		pass(time.Second)
		r.wantQueue("q", 1, 1) // another worker may have it, while ours lets its task finish
	})
}

// A copy that waits for its run goes back when that has settled nothing and the worker takes no more.
func TestACopyIsNotRunByAWorkerThatStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		runs, let := 0, make(chan struct{})
		r := startRig(t, func(c *Config) { c.Concurrency, c.Grace = 3, -1 }, handlers.Func("back", func(context.Context, nothing) (int, error) {
			runs++
			<-let
			return 0, handlers.Requeue(nil)
		}), handlers.Func("sleep", sleeper(time.Hour)))
		r.send(protocol.Task{ID: "a", Name: "back"})
		synctest.Wait()
		r.broker.Cut()
		pass(2 * time.Second)
		r.wantLog("a copy of a running task came back")
		r.send(protocol.Task{ID: "other", Name: "sleep"}) // so that the shutdown lasts
		synctest.Wait()
		r.cancel()
		synctest.Wait()
		close(let)
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if runs != 1 {
			t.Errorf("the task ran %d times", runs)
		}
		r.wantQueue("q", 1, 0)
	})
}

// The copy waits for a slot already when the worker is told to stop; the slot it gets later is not for it.
func TestACopyThatWaitsForASlotGoesBackAtShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		runs, let := 0, make(chan struct{})
		r := startRig(t, func(c *Config) { c.Concurrency, c.Grace = 2, -1 }, handlers.Func("back", func(context.Context, nothing) (int, error) {
			runs++
			<-let
			return 0, handlers.Requeue(nil)
		}))
		r.send(protocol.Task{ID: "a", Name: "back"})
		synctest.Wait()
		r.broker.Cut()
		pass(2 * time.Second)
		r.wantLog("a copy of a running task came back")
		taken := make(chan bool, 2)
		for range 2 { // the free slot, and first in the line for the other
			go func() { taken <- r.w.slots.acquire(t.Context()) }()
			synctest.Wait()
		}
		close(let)
		synctest.Wait()
		r.cancel()
		synctest.Wait()
		for range 2 {
			if !<-taken {
				t.Fatal("a slot was not to be had")
			}
			r.w.slots.release()
			synctest.Wait()
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if runs != 1 {
			t.Errorf("the task ran %d times", runs)
		}
		r.wantQueue("q", 1, 0)
	})
}
