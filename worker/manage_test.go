package worker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// pool is what stats tells of the pool: slots, prefetch_count.
func (c *replies) wantPool(slots, window int) {
	c.r.t.Helper()
	synctest.Wait()
	got := c.ask("stats")
	_, list, _ := strings.Cut(got, `"processes": [`)
	list, _, _ = strings.Cut(list, "]")
	if n := len(strings.FieldsFunc(list, func(r rune) bool { return r == ',' })); n != slots || !strings.Contains(got, fmt.Sprintf(`"prefetch_count": %d,`, window)) {
		c.r.t.Errorf("stats = %s\nwant %d processes and prefetch_count %d", got, slots, window)
	}
}

func (r *rig) wantActive(n int) {
	r.t.Helper()
	synctest.Wait()
	if got := r.w.Stats().Active; got != n {
		r.t.Fatalf("%d tasks run, want %d\nlog:\n%s", got, n, r.log)
	}
}

func TestPoolGrowsAndShrinks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("sleep", sleeper(time.Minute)))
		c := r.client()
		for i := range 9 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "sleep"})
		}
		r.wantActive(1)
		c.want("pool_shrink", `{"error": "ValueError(\"Can't shrink pool. All processes busy!\")"}`)
		c.want("pool_grow", `{"ok": "pool will grow"}`, arg("n", int64(3)))
		r.wantActive(4)
		c.wantPool(4, 16)
		c.want("pool_shrink", `{"error": "ValueError(\"Can't shrink pool. All processes busy!\")"}`, arg("n", int64(2)))
		pass(2 * time.Minute) // the last one runs
		r.wantActive(1)
		c.want("pool_shrink", `{"ok": "pool will shrink"}`, arg("n", int64(2)))
		c.wantPool(2, 8)
		c.want("pool_shrink", `{"error": "ValueError(\"Can't shrink pool. All processes busy!\")"}`, arg("n", int64(2)))
		c.wantPool(1, 4)
		pass(time.Minute)
		c.want("pool_shrink", `{"ok": "pool will shrink"}`)
		c.wantPool(0, 1)
		r.send(protocol.Task{ID: "late", Name: "sleep"})
		r.wantQueue("q", 1, 0) // nobody there to run it
		c.want("pool_grow", `{"ok": "pool will grow"}`)
		r.wantActive(1)
		c.want("pool_grow", `{"ok": "pool will grow"}`, arg("n", int64(-1)))
		c.want("pool_grow", `{"error": "TypeError(\"'str' object cannot be interpreted as an integer\")"}`, arg("n", "x"))
		c.want("pool_grow", `{"error": "TypeError(\"'float' object cannot be interpreted as an integer\")"}`, arg("n", 2.5))
		c.want("pool_grow", `{"error": "ValueError('more than 100000 slots')"}`, arg("n", int64(1<<40)))
		c.want("pool_shrink", `{"error": "TypeError(\"unsupported operand type(s) for -: 'NoneType' and 'int'\")"}`, arg("n", nil))
		c.want("pool_restart", `{"error": "ValueError('Pool restarts not enabled')"}`)
		c.want("autoscale", `{"error": "ValueError('Autoscale not enabled')"}`)
		c.want("autoscale", `{"error": "TypeError(\"autoscale() got an unexpected keyword argument 'x'\")"}`, arg("max", int64(3)), arg("x", int64(1)))
	})
}

func TestPoolShrinksWhileTheWorkerStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Concurrency, c.Grace = 3, -1 }, handlers.Func("sleep", sleeper(time.Minute)))
		c := r.client()
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		r.wantActive(1)
		r.cancel()
		synctest.Wait()
		c.want("pool_shrink", `{"ok": "pool will shrink"}`, arg("n", int64(2)))
		c.want("pool_grow", `{"ok": "pool will grow"}`, arg("n", int64(1)))
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if took := time.Since(began); took < 50*time.Second || took > 2*time.Minute {
			t.Errorf("stopping took %v, want what is left of the task's minute", took)
		}
		r.wantState("a", protocol.Success)
	})
}

func TestShutdownFromRemote(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("sleep", sleeper(20*time.Second)))
		c := r.client()
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		r.send(protocol.Task{ID: "b", Name: "sleep"})
		synctest.Wait()
		c.broadcast(protocol.ControlRequest{Method: "shutdown"})
		if got := c.next(); got != "" {
			t.Errorf("shutdown answers %s", got)
		}
		r.ended = true // Run ends without our help
		if err := <-r.end; err != nil {
			t.Errorf("Run = %v", err)
		}
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 1, 0)
		r.wantLog("Got shutdown from remote")
	})
}

func TestRateLimitHoldsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Concurrency = 20 }, handlers.Func("double", double).With(handlers.Options{Rate: "1/h"}), handlers.Func("free", double))
		c := r.client()
		for i := range 10 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "double", Args: args(int64(1))})
		}
		r.send(protocol.Task{ID: "eta", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(24 * time.Hour)})
		done := func(want int) {
			t.Helper()
			synctest.Wait()
			if got := r.w.Stats().Succeeded; got != int64(want) {
				t.Fatalf("%d tasks are done, want %d", got, want)
			}
		}
		done(1)
		c.want("registered", `["double [rate_limit=1/h]", "free"]`)
		c.want("rate_limit", `{"ok": "new rate limit set successfully"}`, arg("task_name", "double"), arg("rate_limit", "6/m"))
		c.want("registered", `["double [rate_limit=6/m]", "free"]`)
		done(2) // a new bucket has a token
		pass(25 * time.Second)
		done(4) // one each 10 s
		c.want("rate_limit", `{"ok": "new rate limit set successfully"}`, arg("task_name", "double"), arg("rate_limit", "1/m"))
		done(5)
		pass(50 * time.Second)
		done(5)
		c.want("rate_limit", `{"ok": "rate limit disabled successfully"}`, arg("task_name", "double"), arg("rate_limit", int64(0)))
		done(10)
		c.want("rate_limit", `{"ok": "new rate limit set successfully"}`, arg("task_name", "free"), arg("rate_limit", 0.5))
		for i := range 3 {
			r.send(protocol.Task{ID: fmt.Sprint("f", i), Name: "free", Args: args(int64(1))})
		}
		done(11)
		pass(4 * time.Second)
		done(13)
		pass(24 * time.Hour)
		done(14)
		r.wantLog("New rate limit for tasks of type double: 6/m.")
		r.wantLog("Rate limits disabled for tasks of type double")
	})
}

func TestRateLimitAnswersAsCelery(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		c := r.client()
		set, off := `{"ok": "new rate limit set successfully"}`, `{"ok": "rate limit disabled successfully"}`
		for _, tt := range []struct {
			rate protocol.Value
			want string
		}{
			{"10/m", set},
			{"abc", `{"error": "Invalid rate limit string: ValueError(\"could not convert string to float: 'abc'\")"}`},
			{"/m", `{"error": "Invalid rate limit string: ValueError(\"could not convert string to float: ''\")"}`},
			{"0x1p3", `{"error": "Invalid rate limit string: ValueError(\"could not convert string to float: '0x1p3'\")"}`},
			{"1__0", `{"error": "Invalid rate limit string: ValueError(\"could not convert string to float: '1__0'\")"}`},
			{"10/x", `{"error": "KeyError('x')"}`},
			{"", off},
			{int64(0), off},
			{nil, off},
			{[]protocol.Value{}, off},
			{"0", set},
			{"inf", set},
			{"1e999", set},
			{true, set},
			{2.5, set},
			{"1_0/s", set},
			{" 5 /s", set},
			{"10/", set},
			{[]protocol.Value{int64(1)}, `{"error": "TypeError(\"float() argument must be a string or a real number, not 'list'\")"}`},
			{protocol.ObjectOf(arg("a", int64(1))), `{"error": "TypeError(\"float() argument must be a string or a real number, not 'dict'\")"}`},
			{"-1", `{"error": "Invalid rate limit string: ValueError(\"a rate is zero or more: '-1'\")"}`},
			{"nan", `{"error": "Invalid rate limit string: ValueError(\"a rate is zero or more: 'nan'\")"}`},
		} {
			if got := c.ask("rate_limit", arg("task_name", "double"), arg("rate_limit", tt.rate), arg("extra", int64(1))); got != tt.want {
				t.Errorf("rate %v: %s\nwant %s", tt.rate, got, tt.want)
			}
		}
		c.want("rate_limit", `{"error": "unknown task"}`, arg("task_name", "nope"), arg("rate_limit", "1/s"))
		c.want("rate_limit", `{"error": "TypeError(\"rate_limit() missing 1 required positional argument: 'rate_limit'\")"}`, arg("task_name", "nope"))
		c.want("rate_limit", `{"error": "TypeError(\"rate_limit() missing 2 required positional arguments: 'task_name' and 'rate_limit'\")"}`)
		r.wantLog("Rate limit attempt for unknown task nope")
	})
}

func TestTimeLimitHoldsForWhatStartsLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Concurrency = 2 }, handlers.Func("sleep", sleeper(time.Minute)).With(handlers.Options{HardLimit: time.Hour}))
		c := r.client()
		r.send(protocol.Task{ID: "before", Name: "sleep"})
		synctest.Wait()
		c.want("time_limit", `{"ok": "time limits set successfully"}`, arg("task_name", "sleep"), arg("soft", 1.5), arg("hard", int64(20)))
		c.want("registered", `["sleep [time_limit=20 soft_time_limit=1.5]"]`, arg("taskinfoitems", []protocol.Value{"time_limit", "soft_time_limit"}))
		r.send(protocol.Task{ID: "after", Name: "sleep"})
		pass(2 * time.Second)
		r.wantException("after", "SoftTimeLimitExceeded")
		pass(time.Minute)
		r.wantState("before", protocol.Success)
		c.want("time_limit", `{"ok": "time limits set successfully"}`, arg("task_name", "sleep"))
		r.send(protocol.Task{ID: "none", Name: "sleep"})
		pass(2 * time.Minute)
		r.wantState("none", protocol.Success)
		r.wantLog("New time limits for tasks of type sleep: soft=1.5 hard=20")
		c.want("time_limit", `{"error": "unknown task"}`, arg("task_name", "nope"), arg("soft", 1.0))
		c.want("time_limit", `{"error": "unknown task"}`)
		c.want("time_limit", `{"error": "TypeError('soft must be a real number, not str')"}`, arg("task_name", "sleep"), arg("soft", "x"))
	})
}

func TestConsumersAreAddedAndCancelled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) {
			c.Declared = []transports.Queue{{Name: "known", Exchange: "x", RoutingKey: "k", Create: true}}
		}, handlers.Func("double", double))
		c := r.client()
		names := func(want ...string) {
			t.Helper()
			synctest.Wait()
			got := c.ask("active_queues")
			at := 0
			for _, name := range want {
				i := strings.Index(got[at:], `{"name": "`+name+`", "exchange"`)
				if i < 0 {
					t.Fatalf("active_queues = %s\nwant %v", got, want)
				}
				at += i
			}
			if n := strings.Count(got, `"consumer_arguments"`); n != len(want) {
				t.Fatalf("active_queues = %s\nwant %v", got, want)
			}
		}
		c.want("add_consumer", `{"ok": "add consumer new"}`, arg("queue", "new"), arg("exchange", nil), arg("exchange_type", "direct"), arg("routing_key", nil))
		c.want("add_consumer", `{"ok": "add consumer new"}`, arg("queue", "new"))
		c.want("add_consumer", `{"ok": "add consumer known"}`, arg("queue", "known"), arg("exchange", "other"))
		names("q", "new", "known")
		if got := c.ask("active_queues"); !strings.Contains(got, `"exchange": {"name": "x"`) || strings.Contains(got, "other") {
			t.Errorf("a known queue is not as configured: %s", got)
		}
		if n := strings.Count(r.log.String(), "Started consuming from new"); n != 1 {
			t.Errorf("told %d times, want once\n%s", n, r.log)
		}
		r.broker.Send("new", message(t, protocol.Task{ID: "a", Name: "double", Args: args(int64(1))}))
		synctest.Wait()
		r.wantState("a", protocol.Success)

		r.broker.Cut() // it survives reconnects
		pass(time.Minute)
		c = r.client()
		names("q", "new", "known")
		r.broker.Send("known", message(t, protocol.Task{ID: "b", Name: "double", Args: args(int64(1))}))
		synctest.Wait()
		r.wantState("b", protocol.Success)

		c.want("cancel_consumer", `{"ok": "no longer consuming from none"}`, arg("queue", "none"))
		c.want("cancel_consumer", `{"ok": "no longer consuming from new"}`, arg("queue", "new"))
		names("q", "known")
		r.wantLog("Canceling queue new")
		r.broker.Send("new", message(t, protocol.Task{ID: "c", Name: "double", Args: args(int64(1))}))
		r.wantQueue("new", 1, 0)
		c.want("cancel_consumer", `{"ok": "no longer consuming from q"}`, arg("queue", "q"))
		c.want("cancel_consumer", `{"ok": "no longer consuming from known"}`, arg("queue", "known"))
		names()
		c.want("active_queues", `[]`)
		r.broker.Cut()
		pass(time.Minute)
		c = r.client()
		names()
		r.send(protocol.Task{ID: "d", Name: "double", Args: args(int64(1))})
		r.wantQueue("q", 1, 0)
		c.want("add_consumer", `{"ok": "add consumer q"}`, arg("queue", "q"))
		r.wantQueue("q", 0, 0)
		r.wantState("d", protocol.Success)
		c.want("add_consumer", `{"error": "TypeError(\"add_consumer() missing 1 required positional argument: 'queue'\")"}`)
		c.want("cancel_consumer", `{"error": "TypeError(\"cancel_consumer() missing 1 required positional argument: 'queue'\")"}`)
		c.want("add_consumer", `{"error": "ValueError(\"no such exchange type: 'magic'\")"}`, arg("queue", "m"), arg("exchange_type", "magic"))
	})
}

// TestConsumersAreAddedWhileReconnecting: the order is kept for the next connection.
func TestConsumersAreAddedWhileReconnecting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Transport.(*membroker.Broker).Fail(membroker.Consume, 3, transports.ErrRefused) }, handlers.Func("double", double))
		c := r.client()
		c.want("add_consumer", `{"ok": "add consumer new"}`, arg("queue", "new"))
		c.want("cancel_consumer", `{"ok": "no longer consuming from q"}`, arg("queue", "q"))
		pass(time.Minute)
		r.broker.Send("new", message(t, protocol.Task{ID: "a", Name: "double", Args: args(int64(1))}))
		r.send(protocol.Task{ID: "b", Name: "double", Args: args(int64(1))})
		r.wantQueue("q", 1, 0)
		r.wantState("a", protocol.Success)
	})
}
