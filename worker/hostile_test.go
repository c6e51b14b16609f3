package worker

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// TestOddArgumentsAreAnswered: whatever a client sends, each command answers, none panics, and tasks run afterwards.
func TestOddArgumentsAreAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Concurrency = 2 }, handlers.Func("double", double), handlers.Func("sleep", sleeper(time.Second)))
		c := r.client()
		odd := func() protocol.Value {
			deep := protocol.Value("x")
			for range 50 {
				deep = []protocol.Value{deep}
			}
			values := []protocol.Value{
				nil, true, int64(-1), int64(0), int64(3), int64(1 << 62), -0.5, 1e300, "", "double", "\x00\n\u200b\ufffd", strings.Repeat("x", 300), "q", "KILL", "5/s", "-1/h",
				[]protocol.Value{},
				[]protocol.Value{nil, int64(1), "a", []protocol.Value{}, protocol.ObjectOf()},
				[]protocol.Value{"a", "b=c"},
				protocol.ObjectOf(), protocol.ObjectOf(arg("a", nil), arg("b", []protocol.Value{protocol.ObjectOf(), "v"})), deep,
			}
			return values[rand.IntN(len(values))]
		}
		for name, s := range signatures {
			if name == "shutdown" {
				continue
			}
			for range 60 {
				args := &protocol.Object{}
				for _, a := range append(append([]string{"queue_arguments", "expires", "durable", "no_such"}, s.required...), s.optional...) {
					if rand.IntN(4) > 0 {
						args.Set(a, odd())
					}
				}
				c.broadcast(protocol.ControlRequest{Method: name, Arguments: args})
				if got := c.next(); !strings.HasPrefix(got, `{"w1@test": `) {
					t.Fatalf("%s(%s) = %q", name, protocol.Repr(args), got)
				}
			}
		}
		if log := r.log.String(); strings.Contains(log, "panic") {
			t.Error(log[strings.Index(log, "panic"):][:min(2000, len(log)-strings.Index(log, "panic"))])
		}
		c.ask("add_consumer", arg("queue", "q"))
		c.ask("pool_grow", arg("n", int64(2)))
		c.ask("rate_limit", arg("task_name", "double"), arg("rate_limit", nil))
		c.ask("time_limit", arg("task_name", "double"))
		r.send(protocol.Task{ID: "good", Name: "double", Args: args(int64(21))})
		pass(time.Minute)
		r.wantState("good", protocol.Success)
	})
}

// TestRatesChangeWhileTasksArrive: no task keeps a turn of a rate that does not hold any more.
func TestRatesChangeWhileTasksArrive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Concurrency, c.Prefetch = 16, 100 }, handlers.Func("double", double))
		const tasks = 600
		go func() {
			for i := range tasks {
				r.send(protocol.Task{ID: fmt.Sprint(i), Name: "double", Args: args(int64(1))})
				if i%7 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
		c := r.client()
		for i := range 60 {
			c.ask("rate_limit", arg("task_name", "double"), arg("rate_limit", []protocol.Value{"1/h", "1000/s", "2/h", 0.001}[i%4]))
			time.Sleep(time.Millisecond)
		}
		pass(time.Second)
		c.want("rate_limit", `{"ok": "rate limit disabled successfully"}`, arg("task_name", "double"), arg("rate_limit", ""))
		pass(time.Second)
		synctest.Wait()
		if got := r.w.Stats().Succeeded; got != tasks {
			t.Errorf("%d of %d tasks are done", got, tasks)
		}
	})
}
