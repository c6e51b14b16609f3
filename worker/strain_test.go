package worker

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// TestASlowStoreSlowsOnlyWhatWaitsForIt: while results are on their way slots go on, as many tasks beyond them as Settling says.
func TestASlowStoreSlowsOnlyWhatWaitsForIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const settling, n = 8, 24
		ran := make(chan time.Duration, n)
		began := time.Now()
		r := startRig(t, func(c *Config) { c.Concurrency, c.Settling, c.Prefetch = 2, settling, 16 }, handlers.Func("note", func(context.Context, nothing) (int, error) {
			ran <- time.Since(began)
			return 0, nil
		}))
		r.results.Delay(time.Second)
		for i := range n {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "note"})
		}
		pass(500 * time.Millisecond)
		if got := len(ran); got < settling || got > settling+2 {
			t.Errorf("%d tasks ran while the first results were stored, want %d and those in the slots", got, settling)
		}
		pass(time.Minute)
		close(ran)
		last := time.Duration(0)
		for at := range ran {
			last = max(last, at)
		}
		if most := n / settling * time.Second; last >= most {
			t.Errorf("the last of %d tasks began after %v, want less than %v: results are stored beside the tasks", n, last, most)
		}
		r.wantQueue("q", 0, 0)
	})
}

// TestALongTaskFillsOneSlotOnly: what is short passes it by.
func TestALongTaskFillsOneSlotOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Concurrency = 2 }, handlers.Func("double", double), handlers.Func("long", sleeper(time.Minute)))
		r.send(protocol.Task{ID: "long", Name: "long"})
		for i := range 500 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "double", Args: args(int64(i))})
		}
		pass(time.Second)
		for i := range 500 {
			r.wantState(fmt.Sprint(i), protocol.Success)
		}
		r.wantQueue("q", 0, 1)
		pass(time.Minute)
		r.wantState("long", protocol.Success)
	})
}

// TestLargeMessagesKeepTheWindowNarrow: it is wide for small tasks, and no wider than has room when messages or results are large.
func TestLargeMessagesKeepTheWindowNarrow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		large := strings.Repeat("x", 1<<19)
		r := startRig(t, func(c *Config) { c.Concurrency = 2 }, handlers.Func("double", double),
			handlers.Func("large", func(context.Context, nothing) (string, error) { return large, nil }),
			handlers.Raw("size", func(_ context.Context, args []protocol.Value, _ *protocol.Object) (any, error) {
				return len(args[0].(string)), nil
			}))
		r.results.Delay(time.Millisecond) // so that tasks wait for each other
		n := 0
		window := func(tasks int, name string, values ...protocol.Value) int {
			for range tasks {
				n++
				r.send(protocol.Task{ID: fmt.Sprint(n), Name: name, Args: args(values...)})
			}
			pass(time.Minute)
			r.wantQueue("q", 0, 0)
			return r.w.window()
		}
		for _, tt := range []struct {
			what        string
			window      int
			least, most int
		}{
			{"small tasks", window(200, "double", int64(1)), 2 * 64, 2 * 64},
			{"large arguments", window(40, "size", large), 2 * 4, 2 * 16},
			{"small tasks again", window(200, "double", int64(1)), 2 * 64, 2 * 64},
			{"large results", window(40, "large"), 2 * 4, 2 * 16},
		} {
			if tt.window < tt.least || tt.window > tt.most {
				t.Errorf("after %s the window is %d messages, want %d to %d", tt.what, tt.window, tt.least, tt.most)
			}
		}
	})
}

// TestManyHeldTasks: each costs a bounded piece of memory, none runs before its time, and all run when it comes.
// It looks at the heap, so that it has it to itself.
func TestManyHeldTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 3000
		var ran atomic.Int64
		r := startRig(t, nil, handlers.Func("note", func(context.Context, nothing) (int, error) {
			ran.Add(1)
			return 0, nil
		}).With(handlers.Options{IgnoreResult: true}))
		synctest.Wait()
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		due := time.Now().Add(time.Hour)
		before := heap()
		for i := range n {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "note", ETA: due})
		}
		pass(time.Minute)
		if held := r.w.calendar.len(); held != n {
			t.Fatalf("%d tasks are held, want %d", held, n)
		}
		if each := (heap() - before) / n; each > 16<<10 { // with what the broker of the rig keeps of it
			t.Errorf("%d bytes for each held task", each)
		}
		pass(time.Until(due) - time.Second)
		if got := ran.Load(); got != 0 {
			t.Errorf("%d tasks ran before their time", got)
		}
		pass(2 * time.Second)
		if got := ran.Load(); got != n {
			t.Errorf("%d of %d tasks ran when their time came", got, n)
		}
		r.wantQueue("q", 0, 0)
	})
}

// TestAHundredQueues are served alike.
func TestAHundredQueues(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) {
			for i := range 99 {
				c.Queues = append(c.Queues, transports.Queue{Name: fmt.Sprintf("q%d", i), Create: true})
			}
		}, handlers.Func("double", double))
		synctest.Wait()
		for round := range 3 {
			for i := range 99 {
				r.broker.Send(fmt.Sprintf("q%d", i), message(t, protocol.Task{ID: fmt.Sprintf("%d-%d", round, i), Name: "double", Args: args(int64(i))}))
			}
			pass(time.Second)
			for i := range 99 {
				r.wantState(fmt.Sprintf("%d-%d", round, i), protocol.Success)
			}
		}
	})
}
