package worker

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// counted is a task that counts its runs.
func counted(runs *atomic.Int32) handlers.Handler {
	return handlers.Func("counted", func(context.Context, nothing) (string, error) {
		runs.Add(1)
		return "done", nil
	})
}

// again sends n messages that the broker brings a second time: somebody else took them and broke.
func (r *rig) again(n int, send func()) {
	r.t.Helper()
	r.broker.Delay(membroker.Connect, time.Second)
	r.broker.Cut()
	synctest.Wait() // the worker is dialling
	r.broker.Delay(membroker.Connect, 0)
	conn, err := r.broker.Connect(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	send()
	c, err := conn.Consume(r.t.Context(), []transports.Queue{{Name: "q"}}, n)
	if err != nil {
		r.t.Fatal(err)
	}
	for range n {
		if _, err := c.Receive(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := conn.Close(); err != nil {
		r.t.Fatal(err)
	}
	pass(time.Second + repeatTimeout + time.Millisecond)
}

// hanging is a store that does not answer who reads.
type hanging struct{ *memresult.Backend }

func (h hanging) Load(ctx context.Context, _ string) (protocol.Result, error) {
	<-ctx.Done()
	return protocol.Result{}, fmt.Errorf("%w: %w", resultbackend.ErrUnavailable, ctx.Err())
}

func TestRedeliveredSuccessDoesNotRunAgain(t *testing.T) {
	success := func(id string) resultbackend.Record {
		return resultbackend.Record{Result: protocol.Result{TaskID: id, Status: protocol.Success, Value: "stored"}}
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		before func(*rig)
		send   func(*rig)
		runs   int32
		logged bool
	}{
		{"the store knows its success", nil, func(r *rig) { r.results.Store(t.Context(), success("a")) }, nil, 0, true},
		{"nobody knows it", nil, nil, nil, 1, false},
		{"the store knows its failure", nil, func(r *rig) {
			r.results.Store(t.Context(), resultbackend.Record{Result: protocol.Result{TaskID: "a", Status: protocol.Failure}})
		}, nil, 1, false},
		{"the worker remembers it", nil, func(r *rig) {
			r.send(protocol.Task{ID: "a", Name: "counted"})
			synctest.Wait()
			r.results.Forget(t.Context(), "a")
		}, nil, 1, true},
		{"the worker does not remember so long", func(c *Config) { c.SuccessExpires = time.Hour }, func(r *rig) {
			r.send(protocol.Task{ID: "a", Name: "counted"})
			synctest.Wait()
			r.results.Forget(t.Context(), "a")
			time.Sleep(2 * time.Hour)
		}, nil, 2, false},
		{"the worker does not remember so many", func(c *Config) { c.SuccessMax = 1 }, func(r *rig) {
			r.send(protocol.Task{ID: "a", Name: "counted"})
			synctest.Wait()
			r.send(protocol.Task{ID: "b", Name: "counted"})
			synctest.Wait()
			r.results.Forget(t.Context(), "a")
		}, nil, 3, false},
		{"a first delivery runs", nil, func(r *rig) { r.results.Store(t.Context(), success("a")) }, func(r *rig) { r.send(protocol.Task{ID: "a", Name: "counted"}) }, 1, false},
		{"unless asked for, it runs", func(c *Config) { c.Deduplicate = false }, func(r *rig) { r.results.Store(t.Context(), success("a")) }, nil, 1, false},
		{"a store that is away", nil, func(r *rig) {
			r.results.Store(t.Context(), success("a"))
			r.results.Away(true)
		}, nil, 1, false},
		{"a store that hangs", nil, func(r *rig) {
			r.results.Store(t.Context(), success("a"))
			r.w.cfg.Results = hanging{r.results}
		}, nil, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int32
				r := startRig(t, func(c *Config) {
					c.Deduplicate, c.Settle = true, time.Second
					if tt.change != nil {
						tt.change(c)
					}
				}, counted(&runs))
				synctest.Wait() // at its start the worker looks at the store, which some replace
				if tt.before != nil {
					tt.before(r)
				}
				if tt.send != nil {
					tt.send(r)
				} else {
					r.again(1, func() { r.send(protocol.Task{ID: "a", Name: "counted"}) })
				}
				synctest.Wait()
				if n := runs.Load(); n != tt.runs {
					t.Errorf("%d runs, want %d\n%s", n, tt.runs, r.log)
				}
				if tt.logged {
					r.wantLog("Task counted[a] Task already completed successfully.")
				}
				if tt.logged && r.broker.Unsettled("q")+r.broker.Ready("q") != 0 {
					t.Error("the copy is not acknowledged")
				}
			})
		})
	}
}

// A worker that died between the record and what follows it leaves that to whoever gets the message again.
func TestRepeatedTaskCountsItsPartAndSendsWhatFollows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, func(c *Config) { c.Deduplicate = true })
		synctest.Wait()
		store := func(id string, value protocol.Value, children ...protocol.Value) {
			t.Helper()
			rec := resultbackend.Record{Result: protocol.Result{TaskID: id, Status: protocol.Success, Value: value, Children: children}}
			if err := r.results.Store(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
		store("one", int64(100))
		store("two", int64(200))
		r.again(2, func() {
			r.apply(canvas.Chord([]canvas.Signature{add(1, 1).TaskID("one"), add(2, 2).TaskID("two")}, canvas.New("sum").TaskID("body")))
		})
		if res := r.wantState("body", protocol.Success); res.Value != int64(300) {
			t.Errorf("the body saw %v", res.Value)
		}
		store("first", int64(50))
		r.again(1, func() { r.apply(canvas.Chain(add(1, 1).TaskID("first"), add(5).TaskID("second"))) })
		if res := r.wantState("second", protocol.Success); res.Value != int64(55) {
			t.Errorf("the next step saw %v", res.Value)
		}
		store("sent", int64(50), []protocol.Value{[]protocol.Value{"next", nil}, nil})
		r.again(1, func() { r.apply(canvas.Chain(add(1, 1).TaskID("sent"), add(5).TaskID("next"))) })
		if _, err := r.results.Load(t.Context(), "next"); err == nil {
			t.Error("what the record shows as sent was sent again")
		}
		r.wantQueue("q", 0, 0)
	})
}

// With deduplication a connection that breaks again and again loses nothing and runs nothing twice that succeeded.
func TestDeduplicationUnderBrokenConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, func(c *Config) { c.Deduplicate, c.Concurrency = true, 2 }, counted(&runs))
		r.broker.Delay(membroker.Settle, 20*time.Millisecond)
		for i := range 40 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "counted"})
		}
		for range 20 {
			pass(30 * time.Millisecond)
			r.broker.Cut()
		}
		pass(5 * time.Minute)
		for i := range 40 {
			r.wantState(fmt.Sprint(i), protocol.Success)
		}
		if n := runs.Load(); n != 40 {
			t.Errorf("%d runs of 40 tasks", n)
		}
		r.wantQueue("q", 0, 0)
	})
}

// A success that cannot be stored is a failure for its caller, and for who remembers successes.
func TestASuccessThatBecameAFailureIsNotRemembered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Deduplicate = true }, handlers.Func("double", double))
		r.results.Fail(1, resultbackend.ErrTooLarge)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		r.send(protocol.Task{ID: "b", Name: "double", Args: args(int64(1))})
		pass(time.Second)
		r.wantState("a", protocol.Failure)
		r.wantState("b", protocol.Success)
		if now := time.Now(); r.w.done.has("0 a", now) || !r.w.done.has("0 b", now) {
			t.Errorf("remembered as successes: %v", r.w.done.list(now))
		}
	})
}
