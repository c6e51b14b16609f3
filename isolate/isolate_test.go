package isolate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// A host is a Host that remembers.
type host struct {
	log *slog.Logger

	mu    sync.Mutex
	said  []string
	heard chan struct{} // a word for each report; nil: none
}

func (h *host) Logger() *slog.Logger { return h.log }

func (h *host) say(s string) {
	h.mu.Lock()
	h.said = append(h.said, s)
	h.mu.Unlock()
	if h.heard != nil {
		h.heard <- struct{}{}
	}
}

func (h *host) Report(_ context.Context, s protocol.State, meta protocol.Value) error {
	h.say(fmt.Sprintf("%s %s", s, protocol.Repr(meta)))
	return nil
}

func (h *host) Spawn(_ context.Context, s handlers.Signature) (handlers.Sent, error) {
	h.say(fmt.Sprint("spawn ", s.Value()))
	return handlers.Sent{ID: "id-1", Tuple: []protocol.Value{"t"}}, nil
}

func (h *host) Reserve(_ context.Context, bytes int64) error {
	h.say(fmt.Sprint("reserve ", bytes))
	if bytes > 1000 {
		return fmt.Errorf("no: %w", handlers.ErrBudget)
	}
	return nil
}

func (h *host) AddToChord(_ context.Context, s handlers.Signature) (handlers.Sent, error) {
	h.say(fmt.Sprint("chord ", s.Value()))
	return handlers.Sent{ID: "id-2", Tuple: "tuple"}, nil
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A bench is a pool and what it says.
type bench struct {
	t    *testing.T
	pool *Pool
	log  *buffer
	host *host
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, log: &buffer{}}
	log := slog.New(slog.NewTextHandler(b.log, nil))
	b.host = &host{log: log.With("task", "id-0"), heard: make(chan struct{}, 100)}
	if cfg.Alive == 0 {
		cfg.Alive = time.Minute // the machine may be busy
	}
	cfg.Logger = log
	b.pool = New(cfg)
	t.Cleanup(func() {
		b.pool.Close()
		if left := b.pool.PIDs(); len(left) > 0 {
			t.Errorf("after Close there are children: %v", left)
		}
	})
	return b
}

func handlerNamed(t testing.TB, name string) handlers.Handler {
	t.Helper()
	r, err := testRegistry("")
	if err != nil {
		t.Fatal(err)
	}
	h, ok := r.Lookup(name)
	if !ok {
		t.Fatalf("no handler %q", name)
	}
	return h
}

// call runs a handler as the worker does.
func (b *bench) call(ctx context.Context, name string, args ...protocol.Value) (any, error) {
	b.t.Helper()
	if args == nil {
		args = []protocol.Value{}
	}
	t := &protocol.Task{ID: "id-0", Name: name, Args: args, Kwargs: &protocol.Object{}}
	info := handlers.Info{ID: t.ID, Name: name, Args: args, Kwargs: t.Kwargs, Queue: "q", Retries: 2}
	info.Properties.ContentType = "application/json"
	return b.pool.Wrap(handlerNamed(b.t, name)).Invoke()(handlers.NewContext(ctx, info, b.host), t)
}

func (b *bench) must(name string, args ...protocol.Value) any {
	b.t.Helper()
	v, err := b.call(b.t.Context(), name, args...)
	if err != nil {
		b.t.Fatalf("%s: %v\nlog:\n%s", name, err, b.log)
	}
	return v
}

func (b *bench) lost(ctx context.Context, name string) *LostError {
	b.t.Helper()
	v, err := b.call(ctx, name)
	var lost *LostError
	if !errors.As(err, &lost) {
		b.t.Fatalf("%s = %v, %v, want a LostError\nlog:\n%s", name, v, err, b.log)
	}
	return lost
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// alive reports whether a process is there and, where /proc tells, no zombie.
func alive(pid int) bool {
	if _, known := residentMemory("self"); !known {
		return syscall.Kill(pid, 0) == nil
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z'
}

func (b *bench) wantLog(parts ...string) {
	b.t.Helper()
	for _, part := range parts {
		eventually(b.t, fmt.Sprintf("the log says %q; it says:\n%s", part, b.log), func() bool { return strings.Contains(b.log.String(), part) })
	}
}

func TestArgumentsAndResultsCross(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	offset := -3600
	args := []protocol.Value{
		nil, true, int64(-1 << 62), 3.0, "text \xff",
		[]byte{0, 255},
		[]protocol.Value{},
		protocol.ObjectOf(protocol.Member{Key: "", Value: protocol.Set{int64(1)}}),
		protocol.DateTime{Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 5400))},
		protocol.Date{Year: 1, Month: 2, Day: 3},
		protocol.TimeOfDay{Hour: 1, Microsecond: 5, Offset: &offset},
		protocol.Decimal("1E+5"),
		protocol.UUID{1, 2},
	}
	got := b.must("echo", args...)
	want := []protocol.Value{args, &protocol.Object{}}
	if g, w := protocol.PythonRepr(got), protocol.PythonRepr(want); g != w {
		t.Errorf("echo = %s\nwant   %s", g, w)
	}
}

func TestOneChildServesManyTasks(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Slots: func() int { return 1 }})
	first := b.must("pid")
	if first == int64(os.Getpid()) {
		t.Error("the task ran in this process")
	}
	for range 20 {
		if got := b.must("pid"); got != first {
			t.Fatalf("a task ran in process %v, the first one in %v", got, first)
		}
	}
	if n := len(b.pool.PIDs()); n != 1 {
		t.Errorf("there are %d children for one slot", n)
	}
}

func TestCrashesAreContained(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, status, said string }{
		{"exit", "exitcode 3", ""},
		{"kill", "signal 9 (SIGKILL)", ""},
		{"goroutine panics", "exitcode 2", "panic: in a goroutine"},
		{"map", "exitcode 2", "fatal error: concurrent map writes"},
		{"overflow", "exitcode 2", "fatal error: stack overflow"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.name == "map" && raceDetector {
				t.Skip("the race detector comes first")
			}
			b := newBench(t, Config{})
			b.must("pid") // so that the run below is job 1
			lost := b.lost(t.Context(), tt.name)
			want := "Worker exited prematurely: " + tt.status + " Job: 1."
			if lost.Error() != want {
				t.Errorf("lost = %q, want %q", lost, want)
			}
			if exc := protocol.FromError(lost); exc.Module != "billiard.exceptions" || exc.Type != "WorkerLostError" || len(exc.Args) != 1 || exc.Args[0] != want {
				t.Errorf("exception = %+v", exc)
			}
			b.wantLog("exited with '"+tt.status+"'", tt.said)
			if got := b.must("pid"); got == int64(lost.PID) {
				t.Error("the next task ran in the dead child")
			}
			if alive(lost.PID) {
				t.Error("the child is there")
			}
		})
	}
}

func TestPanicIsOneAsInProcess(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	for name, want := range map[string]string{"panic": "odd: 6", "nil map": "assignment to entry in nil map", "goexit": "handler called runtime.Goexit"} {
		func() {
			defer func() {
				p, ok := recover().(*Panic)
				if !ok || p.Text != want {
					t.Errorf("%s: panicked with %v, want %q", name, p, want)
					return
				}
				if name != "goexit" && (len(p.Frames) == 0 || !strings.Contains(fmt.Sprint(p.Frames), "isolate.")) {
					t.Errorf("%s: frames %v", name, p.Frames)
				}
				if name == "panic" && !strings.HasSuffix(p.Frames[0].Function, ".panics") {
					t.Errorf("the innermost frame is %s", p.Frames[0].Function)
				}
			}()
			v, err := b.call(t.Context(), name)
			t.Errorf("%s = %v, %v", name, v, err)
		}()
	}
	b.must("pid")
}

func TestMemoryCap(t *testing.T) {
	t.Parallel()
	if _, known := residentMemory("self"); !known {
		t.Skip("there is no cap without /proc")
	}
	b := newBench(t, Config{})
	lost := b.lost(t.Context(), "allocate")
	if got := lost.Error(); !strings.HasPrefix(got, "Worker exited prematurely: signal 9 (SIGKILL) Job: 0. It used ") || !strings.HasSuffix(got, " MiB of memory, more than its cap of 200 MiB.") {
		t.Errorf("lost = %q", got)
	}
	b.must("pid")
}

func TestContextEndsWithItsCause(t *testing.T) {
	t.Parallel()
	deadlined := func(ctx context.Context) (context.Context, func()) {
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		return ctx, cancel
	}
	cancelled := func(cause error) func(ctx context.Context, b *bench) (context.Context, func()) {
		return func(ctx context.Context, b *bench) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			go func() {
				<-b.host.heard
				cancel(cause)
			}()
			return ctx, func() { cancel(nil) }
		}
	}
	for _, tt := range []struct {
		name string
		end  func(ctx context.Context, b *bench) (context.Context, func())
		want string
	}{
		{"soft limit", cancelled(handlers.ErrSoftLimit), "true false false false " + handlers.ErrSoftLimit.Error()},
		{"shutdown", cancelled(handlers.ErrShutdown), "false true false false " + handlers.ErrShutdown.Error()},
		{"not ours", cancelled(fmt.Errorf("not ours: %w", handlers.ErrShutdown)), "false true false false not ours: " + handlers.ErrShutdown.Error()},
		{"another", cancelled(errOdd), "false false false false odd"},
		{"deadline", func(ctx context.Context, _ *bench) (context.Context, func()) { return deadlined(ctx) }, "false false false true " + context.DeadlineExceeded.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Config{Patience: time.Minute})
			b.must("pid")
			ctx, end := tt.end(t.Context(), b)
			defer end()
			got, err := b.call(ctx, "cause")
			if err != nil || got != tt.want {
				t.Errorf("cause = %v, %v, want %q", got, err, tt.want)
			}
		})
	}
	b := newBench(t, Config{})
	ctx, end := cancelled(handlers.ErrShutdown)(t.Context(), b)
	defer end()
	if _, err := b.call(ctx, "canceled"); !errors.Is(err, context.Canceled) || err.Error() != "interrupted: context canceled" {
		t.Errorf("err = %v", err)
	}
}

func TestWhoeverDoesNotEndIsKilled(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"deaf", "spin", "stopped"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Config{Patience: 50 * time.Millisecond})
			end := func(cause error) (context.Context, *Leash) {
				l := b.pool.Leash()
				if _, err := l.Acquire(t.Context()); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeoutCause(l.Context(t.Context()), 50*time.Millisecond, cause)
				t.Cleanup(cancel)
				return ctx, l
			}
			ctx, l := end(handlers.ErrShutdown)
			if _, err := b.call(ctx, name); !errors.Is(err, handlers.ErrShutdown) {
				t.Errorf("err = %v, want ErrShutdown: the task runs again", err)
			}
			l.Release()
			ctx, l = end(errOdd)
			b.lost(ctx, name)
			l.Release()
		})
	}
}

// leashed runs a handler on a leash, in the background, and returns once it has a child.
func (b *bench) leashed(name string) (l *Leash, pid int, ended chan error) {
	b.t.Helper()
	l = b.pool.Leash()
	pid, err := l.Acquire(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	ended = make(chan error, 1)
	ctx := l.Context(b.t.Context())
	go func() {
		_, err := b.call(ctx, name)
		l.Release()
		ended <- err
	}()
	return l, pid, ended
}

func TestKillEndsWhatNothingElseEnds(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"deaf", "spin", "stopped", "allocate"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Config{})
			l, pid, ended := b.leashed(name)
			time.Sleep(20 * time.Millisecond) // in the handler or before it: both must do
			l.Kill()
			if err := <-ended; err == nil {
				t.Error("the run has no error")
			}
			eventually(t, "the child is gone", func() bool { return !alive(pid) })
			if strings.Contains(b.log.String(), "exited with") {
				t.Errorf("the log tells of an end of our own making:\n%s", b.log)
			}
			b.must("pid")
		})
	}
}

func TestKillEndsWhatTheHandlerStarted(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	l, _, ended := b.leashed("subprocess")
	<-b.host.heard
	b.host.mu.Lock()
	said := b.host.said[0]
	b.host.mu.Unlock()
	pid, err := strconv.Atoi(strings.TrimPrefix(said, "PROGRESS "))
	if err != nil || !alive(pid) {
		t.Fatalf("the handler said %q (%v), which is no process", said, err)
	}
	l.Kill()
	<-ended
	eventually(t, "the handler's own process is gone", func() bool { return !alive(pid) })
}

func TestWhatACrashLeavesIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	if lost := b.lost(t.Context(), "leaves a process"); lost.Status != "exitcode 4" {
		t.Errorf("lost = %v", lost)
	}
}

func TestTerminateBySignal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		signum syscall.Signal
		status string
	}{
		{"deaf", syscall.SIGTERM, "signal 15 (SIGTERM)"},
		{"deaf", syscall.SIGINT, "signal 2 (SIGINT)"},
		{"spin", syscall.SIGKILL, "signal 9 (SIGKILL)"},
		{"deaf", syscall.SIGUSR1, "signal 9 (SIGKILL)"}, // a Go program takes no notice of it
		{"deaf", 0, "signal 9 (SIGKILL)"},
	} {
		t.Run(fmt.Sprint(tt.name, " ", int(tt.signum)), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Config{})
			if !strings.HasPrefix(tt.status, "signal 9 ") {
				b.pool.grace = time.Minute // the signal itself must do it, however busy the machine is
			}
			b.must("pid")
			l, pid, ended := b.leashed(tt.name)
			time.Sleep(100 * time.Millisecond) // in the handler or before it: both must do
			l.Terminate(int(tt.signum))
			var lost *LostError
			if err := <-ended; !errors.As(err, &lost) || lost.Status != tt.status {
				t.Errorf("the run ended with %v, want %s", err, tt.status)
			}
			eventually(t, "the child is gone", func() bool { return !alive(pid) })
		})
	}
	b := newBench(t, Config{})
	b.pool.grace = time.Minute
	l, _, ended := b.leashed("cause")
	<-b.host.heard
	l.Terminate(int(syscall.SIGUSR2))
	if err := <-ended; err != nil {
		t.Errorf("a handler that ends by itself: %v", err)
	}
}

// What a service manager sends to all processes of a service is not meant for children.
func TestChildrenLeaveSignalsToTheWorker(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Slots: func() int { return 1 }})
	pid, _ := b.must("pid").(int64)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(int(pid), s); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		time.Sleep(20 * time.Millisecond)
		if got := b.must("pid"); got != pid {
			t.Fatalf("the child %d is gone: %v", pid, got)
		}
	}
	if pgid, err := syscall.Getpgid(int(pid)); err != nil || pgid != int(pid) {
		t.Errorf("the child's group is %d (%v), want its own", pgid, err)
	}
}

func TestHostIsAsInProcess(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	b.must("progress")
	got := b.must("spawn")
	if text := protocol.PythonRepr(got); text != "[['t'], 'id-1', 'tuple', True]" {
		t.Errorf("spawn = %s", text)
	}
	want := []string{"PROGRESS {'done': 0}", "PROGRESS {'done': 1}", "PROGRESS {'done': 2}", "UPLOADING b'x'", "spawn a signature", "chord another", "reserve 1000", "reserve 1001"}
	if text := protocol.PythonRepr(b.must("reserve")); !strings.HasPrefix(text, "[True, \"no: ") {
		t.Errorf("reserve = %s", text)
	}
	if fmt.Sprint(b.host.said) != fmt.Sprint(want) {
		t.Errorf("the host heard %q", b.host.said)
	}
	if got := fmt.Sprint(b.must("info")); !strings.HasPrefix(got, "true application/json q {ID:id-0 Name:info") || !strings.Contains(got, "Retries:2") {
		t.Errorf("info = %s", got)
	}
	if got := fmt.Sprint(b.must("env")); got != "[  ]" {
		t.Errorf("the handler's environment: %q", got)
	}
	// Outside a task there is no host.
	h := handlerNamed(t, "progress")
	if _, err := b.pool.Wrap(h).Invoke()(t.Context(), &protocol.Task{Name: "progress"}); !errors.Is(err, handlers.ErrNoTask) {
		t.Errorf("err = %v, want ErrNoTask", err)
	}
}

func TestLinesReachTheLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	b.must("log")
	b.wantLog(`level=INFO msg=said task=id-0 a=1 g.b=two g.h.c=3.5 g.h.d=1m0s`, "msg=\"to stdout\"", "msg=\"to stderr\"", "panic: not at all")
	if strings.Contains(b.log.String(), "hidden") {
		t.Error("a line of a lower level was logged")
	}
	b.must("leaves")
	b.wantLog("late: isolate: the task is over", "a late line")
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	call := func(name string) error {
		_, err := b.call(t.Context(), name)
		return err
	}
	var retry *handlers.RetryError
	err := call("retry")
	if !errors.As(err, &retry) || *retry.Max != 7 || retry.In != 2*time.Second || fmt.Sprint(retry.Args, retry.Kwargs) != "[1 x] map[k:2.5]" || retry.Error() != "Retry in 2s: ValueError('boom', 3)" || !strings.HasPrefix(err.Error(), "again: ") {
		t.Errorf("retry = %v (%+v)", err, retry)
	}
	if err := call("retry at"); !errors.As(err, &retry) || retry.Error() != "Retry at 2030-01-02 03:04:05.000006+00:00: RuntimeError('odd: 4')" {
		t.Errorf("retry at = %v", err)
	}
	var reject *handlers.RejectError
	if err := call("reject"); !errors.As(err, &reject) || !reject.Requeue || reject.Cause.Error() != "odd" {
		t.Errorf("reject = %v", err)
	}
	if err := call("ignore"); !errors.Is(err, handlers.ErrIgnore) || errors.Is(err, handlers.ErrShutdown) {
		t.Errorf("ignore = %v", err)
	}
	var replace *handlers.ReplaceError
	if err := call("replace"); !errors.As(err, &replace) || replace.Signature.Value() != "instead" || replace.Signature.Err() != nil {
		t.Errorf("replace = %v", err)
	}
	if exc := protocol.FromError(call("exception")); exc.Module != "shop.errors" || exc.Repr() != "Declined(1, Decimal('1.10'))" || exc.Traceback != "Traceback" {
		t.Errorf("exception = %+v", exc)
	}
	var failure *Failure
	if err := call("odd"); !errors.As(err, &failure) || !failure.Expected() || failure.Retries() || protocol.FromError(err).Repr() != "RuntimeError('why: odd: 5')" {
		t.Errorf("odd = %v (%+v)", err, failure)
	}
	if exc := protocol.FromError(call("unencodable")); exc.Type != "EncodeError" {
		t.Errorf("unencodable = %+v", exc)
	}
	if _, err := b.call(t.Context(), "pid", int64(1)); protocol.FromError(err).Type != "TypeError" {
		t.Errorf("arguments that do not fit: %v", err)
	}
	if _, err := b.pool.Wrap(handlerNamed(t, "pid").As("unheard")).Invoke()(t.Context(), &protocol.Task{Name: "unheard"}); protocol.FromError(err).Type != "NotRegistered" {
		t.Errorf("a name the child does not know: %v", err)
	}
}

func TestTooLargeToCross(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it moves half a gigabyte")
	}
	b := newBench(t, Config{})
	if got, ok := b.must("size", int64(30<<20)).(string); !ok || len(got) != 30<<20 {
		t.Errorf("30 MiB came as %d bytes", len(got))
	}
	_, err := b.call(t.Context(), "size", int64(frameMax))
	if exc := protocol.FromError(err); exc.Type != "EncodeError" || !strings.Contains(exc.Repr(), "256 MiB") {
		t.Errorf("a result of %d bytes: %v", frameMax, err)
	}
	b.must("pid")
}

func TestChildrenAreReplaced(t *testing.T) {
	t.Parallel()
	slots := func() int { return 1 }
	t.Run("after so many tasks", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, Config{Slots: slots, MaxTasks: 3})
		seen := map[any]int{}
		for range 9 {
			seen[b.must("pid")]++
		}
		for pid, n := range seen {
			if n != 3 {
				t.Errorf("child %v ran %d tasks, want 3", pid, n)
			}
			eventually(t, "the child has ended", func() bool { return !alive(int(pid.(int64))) || n < 3 || len(b.pool.PIDs()) == 1 })
		}
		if len(seen) != 3 {
			t.Errorf("there were %d children, want 3", len(seen))
		}
	})
	t.Run("after much memory", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, Config{Slots: slots, MaxMemory: 100 << 20})
		first := b.must("pid")
		if got := b.must("large"); got != first {
			t.Fatalf("the second task ran in %v, the first one in %v", got, first)
		}
		if got := b.must("pid"); got == first {
			t.Error("the child was kept")
		}
		b.wantLog("child process exiting after exceeding memory limit (", "/ 102400KiB)")
	})
	t.Run("by Restart", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, Config{Slots: slots})
		first := b.must("pid")
		b.pool.Restart()
		if got := b.must("pid"); got == first {
			t.Error("the child was kept")
		}
	})
	t.Run("when slots go", func(t *testing.T) {
		t.Parallel()
		var mu sync.Mutex
		n := 3
		b := newBench(t, Config{Slots: func() int { mu.Lock(); defer mu.Unlock(); return n }})
		var leashes []*Leash
		for range 3 {
			l := b.pool.Leash()
			if _, err := l.Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			leashes = append(leashes, l)
		}
		for _, l := range leashes {
			l.Release()
		}
		mu.Lock()
		n = 1
		mu.Unlock()
		b.pool.Trim()
		eventually(t, "one child is left", func() bool { return len(b.pool.PIDs()) == 1 })
	})
}

func TestIdleChildThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Slots: func() int { return 1 }})
	for range 5 {
		pid, _ := b.must("pid").(int64)
		if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		b.must("pid") // at once: the end may not have been noticed
	}
}

func TestChildThatDoesNotStart(t *testing.T) {
	t.Parallel()
	for note, want := range map[string]string{
		"broken": "isolate: the child process is not ready: the registry cannot be built",
		"dies":   "isolate: the child process ended before it was ready: exitcode 9: I do not feel well",
		"hangs":  "isolate: timed out after 300ms waiting for the child process",
	} {
		t.Run(note, func(t *testing.T) {
			t.Parallel()
			alive := time.Minute
			if note == "hangs" {
				alive = 300 * time.Millisecond
			}
			b := newBench(t, Config{Note: note, Alive: alive})
			_, err := b.call(t.Context(), "pid")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("err = %v, want %q", err, want)
			}
		})
	}
}

func TestCloseEndsAll(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	_, pid, ended := b.leashed("deaf")
	b.pool.Warm()
	eventually(t, "two children", func() bool { return len(b.pool.PIDs()) == 2 })
	pids := b.pool.PIDs()
	b.pool.Close()
	if err := <-ended; err == nil {
		t.Error("the run has no error")
	}
	for _, pid := range append(pids, pid) {
		if alive(pid) {
			t.Errorf("child %d is there after Close", pid)
		}
	}
	if _, err := b.call(t.Context(), "pid"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestNothingIsLeftOpen(t *testing.T) { // not parallel: it counts this process's files
	b := newBench(t, Config{MaxTasks: 1, Slots: func() int { return 2 }})
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		return len(entries)
	}
	b.must("pid")
	before := count()
	for i := range 20 {
		if i%4 == 0 {
			b.lost(t.Context(), "exit")
			continue
		}
		b.must("pid")
	}
	eventually(t, fmt.Sprintf("as many open files as before (%d)", before), func() bool { return count() <= before+6 }) // of one child on its way
}
