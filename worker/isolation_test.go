package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/isolate"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// The test binary is the program whose children run the handlers below. With WORKER_TEST_MAIN it is one whose main has a mistake.
func TestMain(m *testing.M) {
	if os.Getenv("WORKER_TEST_MAIN") == "unserved" {
		fmt.Println(newIsolated())
		return
	}
	reg, err := handlers.NewRegistry(isolatedHandlers()...)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if isolate.Serve(reg) {
		return
	}
	os.Exit(m.Run())
}

func newIsolated() error {
	reg, err := handlers.NewRegistry(isolatedHandlers()...)
	if err != nil {
		return err
	}
	_, err = New(Config{Transport: unusable{}, Handlers: reg})
	return err
}

// unusable is a Transport that nobody dials.
type unusable struct{ transports.Transport }

func (unusable) String() string { return "nowhere" }

var errSmall = errors.New("small")

// isolatedHandlers run in children. "i.pid" and what it says of its process are how the tests know.
func isolatedHandlers() []handlers.Handler {
	make := func(name string, o handlers.Options, fn func(ctx context.Context) (any, error)) handlers.Handler {
		o.Isolate = true
		return handlers.Func(name, func(ctx context.Context, _ nothing) (any, error) { return fn(ctx) }).With(o)
	}
	no := handlers.Options{}
	one := 1
	yes := true
	return []handlers.Handler{
		handlers.Func("i.double", double).With(handlers.Options{Isolate: true}),
		make("i.pid", no, func(context.Context) (any, error) { return os.Getpid(), nil }),
		make("i.new", no, func(context.Context) (any, error) { return fmt.Sprint(newIsolated()), nil }),
		handlers.Func("i.deaf.to", func(context.Context, struct {
			X int `json:"x"`
		},
		) (int, error) {
			select {}
		}).With(handlers.Options{Isolate: true}),
		make("i.deaf", no, func(context.Context) (any, error) { select {} }),
		make("i.exit", no, func(context.Context) (any, error) { os.Exit(3); return nil, nil }),
		make("i.exit.early", handlers.Options{EarlyAck: true, RejectOnLost: &yes}, func(context.Context) (any, error) { os.Exit(3); return nil, nil }),
		make("i.exit.retried", handlers.Options{RetryOnLost: &yes, RejectOnLost: &yes, Retry: handlers.RetryPolicy{Max: &one, Delay: time.Millisecond}}, func(context.Context) (any, error) {
			os.Exit(3)
			return nil, nil
		}),
		// It ends its process the first time: the file of the argument tells.
		handlers.Func("i.exit.once", func(_ context.Context, in struct {
			Path string `json:"path"`
		},
		) (string, error) {
			if _, err := os.Stat(in.Path); err == nil {
				return "second", nil
			}
			if err := os.WriteFile(in.Path, nil, 0o600); err != nil {
				return "", err
			}
			os.Exit(3)
			return "", nil
		}).With(handlers.Options{Isolate: true, RejectOnLost: &yes}),
		make("i.panic", no, func(context.Context) (any, error) { panic("boo") }),
		make("i.soft", no, func(ctx context.Context) (any, error) { <-ctx.Done(); return nil, ctx.Err() }),
		make("i.waits", no, func(ctx context.Context) (any, error) { <-ctx.Done(); return nil, context.Cause(ctx) }),
		make("i.progress", no, func(ctx context.Context) (any, error) {
			if err := handlers.Report(ctx, "HALFWAY", 50); err != nil {
				return nil, err
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}),
		make("i.spawn", no, func(ctx context.Context) (any, error) {
			sent, err := handlers.Spawn(ctx, canvas.New("double", 4))
			return sent.ID, err
		}),
		make("i.replace", no, func(context.Context) (any, error) { return nil, handlers.Replace(canvas.New("double", 6)) }),
		make("i.retry", handlers.Options{Retry: handlers.RetryPolicy{Delay: time.Millisecond, On: func(err error) bool { return errors.Is(err, errSmall) }}}, func(ctx context.Context) (any, error) {
			if i, _ := handlers.InfoFrom(ctx); i.Retries < 2 {
				return nil, fmt.Errorf("too %w", errSmall)
			}
			return "third", nil
		}),
		make("i.expected", handlers.Options{Expected: func(err error) bool { return errors.Is(err, errSmall) }}, func(context.Context) (any, error) {
			return nil, fmt.Errorf("too %w", errSmall)
		}),
		make("i.reserve", no, func(ctx context.Context) (any, error) {
			err := handlers.Reserve(ctx, 1<<30)
			return fmt.Sprint(errors.Is(err, handlers.ErrBudget)), handlers.Reserve(ctx, 1<<20)
		}),
	}
}

// isolatedRig is a rig outside of a bubble: what children do takes real time.
func isolatedRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	return startRig(t, func(c *Config) {
		c.Isolation.Alive = time.Minute // the machine may be busy
		if change != nil {
			change(c)
		}
	}, append(isolatedHandlers(), handlers.Func("double", double))...)
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within a minute: %s\nlog:\n%s", what, r.log)
		}
	}
}

// awaitState waits until the task has that state.
func (r *rig) awaitState(id string, want protocol.State) protocol.Result {
	r.t.Helper()
	var res protocol.Result
	r.eventually(fmt.Sprintf("%s is %s", id, want), func() bool {
		var err error
		res, err = r.results.Load(r.t.Context(), id)
		return err == nil && res.Status == want
	})
	return res
}

func (r *rig) awaitQueue(ready, unsettled int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("the queue holds %d ready and %d unsettled messages", ready, unsettled), func() bool {
		return r.broker.Ready("q") == ready && r.broker.Unsettled("q") == unsettled
	})
}

// order runs a command of remote control and returns its answer as JSON.
func (r *rig) order(method string, arguments ...protocol.Member) string {
	r.t.Helper()
	answer, err := r.w.control.node.Run(r.t.Context(), method, protocol.ObjectOf(arguments...))
	if err != nil {
		r.t.Fatalf("%s: %v", method, err)
	}
	v, err := protocol.FromGo(answer)
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := protocol.AppendJSON(nil, v)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

func TestIsolatedIsAsInProcess(t *testing.T) {
	t.Parallel()
	r := isolatedRig(t, func(c *Config) { c.Memory = 2 << 20 })
	r.send(protocol.Task{ID: "pid", Name: "i.pid"})
	if v := r.awaitState("pid", protocol.Success).Value; v == int64(os.Getpid()) {
		t.Error("the task ran in the worker's process")
	}
	r.send(protocol.Task{ID: "double", Name: "i.double", Args: args(int64(21))})
	if v := r.awaitState("double", protocol.Success).Value; v != int64(42) {
		t.Errorf("double = %v", v)
	}
	r.send(protocol.Task{ID: "panic", Name: "i.panic"})
	if res := r.awaitState("panic", protocol.Failure); res.Exception.Repr() != "RuntimeError('panic: boo')" || !strings.Contains(res.Traceback, "isolation_test.go") {
		t.Errorf("panic = %v\n%s", res.Exception, res.Traceback)
	}
	r.send(protocol.Task{ID: "soft", Name: "i.soft", SoftLimit: 50 * time.Millisecond})
	if res := r.awaitState("soft", protocol.Failure); res.Exception.Repr() != "SoftTimeLimitExceeded()" {
		t.Errorf("soft = %v", res.Exception)
	}
	r.send(protocol.Task{ID: "spawn", Name: "i.spawn"})
	res := r.awaitState("spawn", protocol.Success)
	child, _ := res.Value.(string)
	if len(res.Children) != 1 || !strings.Contains(protocol.PythonRepr(res.Children), child) {
		t.Errorf("spawn = %v, children %v", res.Value, res.Children)
	}
	r.send(protocol.Task{ID: "replace", Name: "i.replace"})
	r.send(protocol.Task{ID: "retry", Name: "i.retry"})
	if v := r.awaitState("retry", protocol.Success).Value; v != "third" {
		t.Errorf("retry = %v", v)
	}
	r.send(protocol.Task{ID: "expected", Name: "i.expected"})
	r.awaitState("expected", protocol.Failure)
	r.wantLog("raised expected: RuntimeError('too small')")
	r.send(protocol.Task{ID: "reserve", Name: "i.reserve"})
	if v := r.awaitState("reserve", protocol.Success).Value; v != "true" {
		t.Errorf("reserve = %v", v)
	}
	r.send(protocol.Task{ID: "map", Name: "celery.map", Kwargs: protocol.ObjectOf(
		arg("task", canvas.New("i.double").Value()), arg("it", []protocol.Value{int64(1), int64(2)}),
	)})
	if v := r.awaitState("map", protocol.Success).Value; protocol.Repr(v) != "[2, 4]" {
		t.Errorf("map = %v", v)
	}
}

func TestIsolatedHardLimitHolds(t *testing.T) {
	t.Parallel()
	r := isolatedRig(t, func(c *Config) { c.TrackStarted = true })
	for _, task := range []protocol.Task{
		{Name: "i.deaf"},
		// A task of the worker's own that calls it.
		{Name: "celery.map", Kwargs: protocol.ObjectOf(arg("task", canvas.New("i.deaf.to").Value()), arg("it", []protocol.Value{int64(1)}))},
		// Its soft limit was long ago.
		{Name: "i.deaf", SoftLimit: 50 * time.Millisecond},
	} {
		task.ID, task.HardLimit = fmt.Sprint(task.Name, task.SoftLimit), 300*time.Millisecond
		before := time.Now()
		r.send(task)
		r.send(protocol.Task{ID: "after " + task.ID, Name: "i.pid"})
		if res := r.awaitState(task.ID, protocol.Failure); res.Exception.Module != "billiard.exceptions" || res.Exception.Repr() != "TimeLimitExceeded(0.3)" || res.Traceback != "" {
			t.Errorf("%s = %+v", task.ID, res)
		}
		if took := time.Since(before); took < 300*time.Millisecond {
			t.Errorf("the limit came after %v", took)
		}
		r.awaitState("after "+task.ID, protocol.Success) // in the one slot there is
	}
	r.awaitQueue(0, 0)
	if strings.Contains(r.log.String(), "this is where it is") {
		t.Error("the log shows the stack of a goroutine of the worker's own")
	}
}

func TestLostChildFailsItsTask(t *testing.T) {
	t.Parallel()
	r := isolatedRig(t, nil)
	r.send(protocol.Task{ID: "a", Name: "i.exit"})
	res := r.awaitState("a", protocol.Failure)
	if e := res.Exception; e.Module != "billiard.exceptions" || e.Repr() != "WorkerLostError('Worker exited prematurely: exitcode 3 Job: 0.')" || res.Traceback != "" {
		t.Errorf("a = %+v", res)
	}
	r.wantLog("exited with 'exitcode 3'")
	r.send(protocol.Task{ID: "early", Name: "i.exit.early"}) // there is no message left to reject
	r.awaitState("early", protocol.Failure)
	r.send(protocol.Task{ID: "b", Name: "i.pid"})
	r.awaitState("b", protocol.Success)
	r.awaitQueue(0, 0)
	if s := r.w.Stats(); s.Failed != 2 {
		t.Errorf("stats = %+v", s)
	}
}

func TestLostChildByOption(t *testing.T) {
	t.Parallel()
	t.Run("its message goes back", func(t *testing.T) {
		t.Parallel()
		r := isolatedRig(t, nil)
		r.send(protocol.Task{ID: "once", Name: "i.exit.once", Args: args(t.TempDir() + "/first")})
		if v := r.awaitState("once", protocol.Success).Value; v != "second" {
			t.Errorf("once = %v", v)
		}
		if log := r.log.String(); strings.Contains(log, "raised unexpected") {
			t.Errorf("the first run counts as a failure:\n%s", log)
		}
		r.awaitQueue(0, 0)
	})
	t.Run("it is retried", func(t *testing.T) {
		t.Parallel()
		r := isolatedRig(t, nil)
		r.send(protocol.Task{ID: "a", Name: "i.exit.retried"})
		// Past the last retry it fails, although its message could go back.
		if res := r.awaitState("a", protocol.Failure); res.Exception.Type != "WorkerLostError" {
			t.Errorf("a = %+v", res.Exception)
		}
		r.wantLog("retry: Retry in 0.001s: WorkerLostError('Worker exited prematurely: exitcode 3 Job: 0.')")
		r.awaitQueue(0, 0)
		if s := r.w.Stats(); s.Retried != 1 || s.Failed != 1 {
			t.Errorf("stats = %+v", s)
		}
	})
	t.Run("by the worker's settings", func(t *testing.T) {
		t.Parallel()
		r := isolatedRig(t, func(c *Config) { c.RejectOnLost = true })
		r.send(protocol.Task{ID: "once", Name: "i.exit.once", Args: args(t.TempDir() + "/first")})
		r.awaitState("once", protocol.Success)
	})
}

func TestTerminateEndsAChild(t *testing.T) {
	t.Parallel()
	for _, signal := range []string{"SIGTERM", "SIGKILL", "SIGUSR1"} {
		t.Run(signal, func(t *testing.T) {
			t.Parallel()
			r := isolatedRig(t, nil)
			r.send(protocol.Task{ID: "a", Name: "i.deaf"})
			r.eventually("the task runs in a child", func() bool { s := r.w.ledger.sightings(isActive); return len(s) == 1 && s[0].pid != 0 })
			pid := r.w.ledger.sightings(isActive)[0].pid
			if pid == os.Getpid() {
				t.Error("the task is shown in the worker's process")
			}
			if got := r.order("active"); !strings.Contains(got, fmt.Sprintf(`"worker_pid": %d`, pid)) {
				t.Errorf("active = %s, want worker_pid %d", got, pid)
			}
			if got := r.order("stats"); !strings.Contains(got, fmt.Sprintf(`"processes": [%d]`, pid)) {
				t.Errorf("stats = %s, want the process %d", got, pid)
			}
			if got := r.order("revoke", arg("task_id", "a"), arg("terminate", true), arg("signal", signal)); got != `{"ok": "terminate: a"}` {
				t.Errorf("revoke = %s", got)
			}
			r.awaitState("a", protocol.Revoked)
			wantTerminated(t, r, "a", "terminated")
			r.send(protocol.Task{ID: "b", Name: "i.pid"})
			r.awaitState("b", protocol.Success)
			r.awaitQueue(0, 0)
			r.eventually("the child is gone", func() bool {
				_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
				return err != nil
			})
		})
	}
}

// A worker ends in good time although a handler is deaf, and its message goes back.
func TestShutdownEndsADeafChild(t *testing.T) {
	t.Parallel()
	r := isolatedRig(t, func(c *Config) { c.Grace, c.Settle = 100*time.Millisecond, 2*time.Second })
	r.send(protocol.Task{ID: "a", Name: "i.deaf"})
	r.eventually("the task runs", func() bool { return r.w.Stats().Active == 1 })
	if err := r.stop(); !errors.Is(err, ErrGrace) {
		t.Errorf("Run = %v, want ErrGrace", err)
	}
	if a, b := r.broker.Ready("q"), r.broker.Unsettled("q"); a != 1 || b != 0 {
		t.Errorf("the queue holds %d ready and %d unsettled messages, want 1 and 0", a, b)
	}
	if pids := r.w.children.PIDs(); len(pids) != 0 {
		t.Errorf("children are left: %v", pids)
	}
	if _, err := r.results.Load(t.Context(), "a"); err == nil {
		t.Error("the task has a result")
	}
}

func TestPoolRestartReplacesChildren(t *testing.T) {
	t.Parallel()
	r := isolatedRig(t, func(c *Config) { c.Isolation.Restarts = true })
	r.send(protocol.Task{ID: "a", Name: "i.pid"})
	before := r.awaitState("a", protocol.Success).Value
	if got := r.order("pool_restart"); got != `{"ok": "reload started"}` {
		t.Errorf("pool_restart = %s", got)
	}
	r.send(protocol.Task{ID: "b", Name: "i.pid"})
	if after := r.awaitState("b", protocol.Success).Value; after == before {
		t.Errorf("the process %v was kept", after)
	}
}

func TestMainMustServeItsChildren(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "WORKER_TEST_MAIN=unserved")
	out, err := cmd.CombinedOutput()
	if want := "has Options.Isolate: call isolate.Serve at the start of main"; err != nil || !bytes.Contains(out, []byte(want)) {
		t.Errorf("the worker of a main that does not serve: %v\n%s\nwant %q", err, out, want)
	}
	// A main that goes on once Serve has returned true would be a second worker.
	r := isolatedRig(t, nil)
	r.send(protocol.Task{ID: "a", Name: "i.new"})
	if v, _ := r.awaitState("a", protocol.Success).Value.(string); !strings.Contains(v, "this process is a child of a worker") {
		t.Errorf("a worker in a child: %q", v)
	}
}

// TestStuckHandlerShowsItsStack: what cannot be killed is at least shown, and what it started.
func TestStuckHandlerShowsItsStack(t *testing.T) {
	t.Parallel()
	var let atomic.Bool
	r := startRig(t, nil, handlers.Func("stuck", func(context.Context, nothing) (int, error) {
		go spinsBeside(&let)
		spinsUntil(&let)
		return 0, nil
	}), handlers.Func("fine", func(context.Context, nothing) (int, error) { return 1, nil }))
	r.send(protocol.Task{ID: "a", Name: "stuck", HardLimit: 200 * time.Millisecond})
	if res := r.awaitState("a", protocol.Failure); res.Exception.Type != "TimeLimitExceeded" {
		t.Errorf("a = %v", res.Exception)
	}
	log := r.log.String()
	if strings.Count(log, "this is where it is") != 1 || !strings.Contains(log, "worker.spinsUntil") || !strings.Contains(log, "worker.spinsBeside") || strings.Contains(log, "TestMain") {
		t.Errorf("the log does not show where the handler is, and only that:\n%s", log)
	}
	let.Store(true)
	r.send(protocol.Task{ID: "b", Name: "fine", HardLimit: time.Minute})
	r.awaitState("b", protocol.Success)
}

//go:noinline
func spinsUntil(let *atomic.Bool) {
	for !let.Load() {
		runtime.Gosched()
	}
}

//go:noinline
func spinsBeside(let *atomic.Bool) {
	for !let.Load() {
		time.Sleep(time.Millisecond)
	}
}
