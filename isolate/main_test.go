package isolate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// The test binary is the program whose children run the handlers below.
func TestMain(m *testing.M) {
	if os.Getenv("ISOLATE_TEST_WORKER") != "" && !Child() {
		workerMain()
		return
	}
	if ServeFunc(testRegistry) {
		return
	}
	os.Exit(m.Run())
}

var errOdd = errors.New("odd")

type oddError struct{ n int }

func (e oddError) Error() string { return "odd: " + strconv.Itoa(e.n) }

type nothing struct{}

func task(name string, fn func(ctx context.Context) (any, error)) handlers.Handler {
	return handlers.Func(name, func(ctx context.Context, _ nothing) (any, error) { return fn(ctx) }).With(handlers.Options{Isolate: true})
}

// testHandlers are served by the children and, wrapped, by the tests.
func testHandlers() []handlers.Handler {
	return []handlers.Handler{
		handlers.Raw("echo", func(_ context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
			return []protocol.Value{args, kwargs}, nil
		}),
		task("pid", func(context.Context) (any, error) { return os.Getpid(), nil }),
		task("info", func(ctx context.Context) (any, error) {
			i, ok := handlers.InfoFrom(ctx)
			return fmt.Sprintf("%v %+v %v %+v", ok, i.Properties.ContentType, i.Queue, i), nil
		}),
		task("env", func(context.Context) (any, error) {
			return []any{os.Getenv(childVariable), os.Getenv(noteVariable), os.Getenv("NOTIFY_SOCKET")}, nil
		}),
		task("exit", func(context.Context) (any, error) { os.Exit(3); return nil, nil }),
		task("kill", func(context.Context) (any, error) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}),
		task("goroutine panics", func(context.Context) (any, error) {
			go func() { panic("in a goroutine") }()
			select {}
		}),
		task("map", func(context.Context) (any, error) { return nil, raceOnMap() }),
		task("overflow", func(context.Context) (any, error) {
			debug.SetMaxStack(1 << 20)
			return endless(0), nil
		}),
		task("panic", func(context.Context) (any, error) { panics(); return nil, nil }),
		//lint:ignore SA5000 that is the fault
		task("nil map", func(context.Context) (any, error) { var m map[string]int; m["a"] = 1; return nil, nil }),
		task("goexit", func(context.Context) (any, error) { runtime.Goexit(); return nil, nil }),
		task("allocate", func(ctx context.Context) (any, error) {
			var kept [][]byte
			for {
				b := make([]byte, 8<<20)
				for i := 0; i < len(b); i += 4096 {
					b[i] = 1
				}
				kept = append(kept, b)
				if len(kept) > 1<<10 { // where nobody stops it, the test fails before the machine does
					return len(kept), nil
				}
			}
		}).With(handlers.Options{Isolate: true, MemoryCap: 200 << 20}),
		task("large", func(context.Context) (any, error) {
			b := make([]byte, 150<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			return os.Getpid(), nil
		}),
		task("deaf", func(context.Context) (any, error) { select {} }),
		task("spin", func(context.Context) (any, error) {
			//lint:ignore SA5002 that is the fault
			for {
			}
		}),
		task("stopped", func(context.Context) (any, error) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			select {}
		}),
		task("cause", func(ctx context.Context) (any, error) {
			_ = handlers.Progress(ctx, "waiting")
			<-ctx.Done()
			cause := context.Cause(ctx)
			return fmt.Sprint(errors.Is(cause, handlers.ErrSoftLimit), errors.Is(cause, handlers.ErrShutdown), errors.Is(cause, handlers.ErrTerminated), errors.Is(cause, context.DeadlineExceeded), cause), nil
		}),
		task("canceled", func(ctx context.Context) (any, error) {
			_ = handlers.Progress(ctx, "waiting")
			<-ctx.Done()
			return nil, fmt.Errorf("interrupted: %w", ctx.Err())
		}),
		task("progress", func(ctx context.Context) (any, error) {
			for i := range 3 {
				if err := handlers.Progress(ctx, map[string]any{"done": i}); err != nil {
					return nil, err
				}
			}
			return nil, handlers.Report(ctx, "UPLOADING", []byte("x"))
		}),
		task("reserve", func(ctx context.Context) (any, error) {
			if err := handlers.Reserve(ctx, 1000); err != nil {
				return nil, err
			}
			err := handlers.Reserve(ctx, 1001)
			return []any{errors.Is(err, handlers.ErrBudget), err.Error()}, nil
		}),
		task("spawn", func(ctx context.Context) (any, error) {
			sent, err := handlers.Spawn(ctx, signature{value: "a signature"})
			if err != nil {
				return nil, err
			}
			added, err := handlers.AddToChord(ctx, signature{value: "another"})
			if err != nil {
				return nil, err
			}
			_, bad := handlers.Spawn(ctx, signature{err: errOdd})
			return []any{sent, sent.ID, added.Tuple, errors.Is(bad, errOdd)}, nil
		}),
		task("leaves", func(ctx context.Context) (any, error) {
			go func() {
				var err error
				for !errors.Is(err, errOver) { // the task may take its time to be over
					time.Sleep(50 * time.Millisecond)
					err = handlers.Progress(ctx, "late")
				}
				slog.Warn(fmt.Sprint("late: ", err))
				handlers.Logger(ctx).Warn("a late line")
			}()
			return nil, nil
		}),
		task("log", func(ctx context.Context) (any, error) {
			log := handlers.Logger(ctx)
			log.Debug("hidden")
			log.With("a", 1).WithGroup("g").Info("said", "b", "two", slog.Group("h", "c", 3.5, "d", time.Minute))
			fmt.Println("to stdout")
			fmt.Fprintln(os.Stderr, "to stderr")
			println("panic: not at all")
			return nil, nil
		}),
		task("retry", func(context.Context) (any, error) {
			most := 7
			return nil, fmt.Errorf("again: %w", &handlers.RetryError{
				Cause: protocol.NewException("ValueError", "boom", int64(3)), In: 2 * time.Second, Max: &most, Args: []any{1, "x"}, Kwargs: map[string]any{"k": 2.5},
			})
		}),
		task("retry at", func(context.Context) (any, error) {
			return nil, handlers.RetryAt(oddError{4}, time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC))
		}),
		task("reject", func(context.Context) (any, error) { return nil, handlers.Requeue(errOdd) }),
		task("ignore", func(context.Context) (any, error) { return nil, handlers.ErrIgnore }),
		task("replace", func(context.Context) (any, error) { return nil, handlers.Replace(signature{value: "instead"}) }),
		task("exception", func(context.Context) (any, error) {
			return nil, fmt.Errorf("wrapped: %w", &protocol.Exception{Module: "shop.errors", Type: "Declined", Args: []protocol.Value{int64(1), protocol.Decimal("1.10")}, Traceback: "Traceback"})
		}),
		task("odd", func(context.Context) (any, error) { return nil, fmt.Errorf("why: %w", oddError{5}) }).With(handlers.Options{
			Isolate:  true,
			Expected: func(err error) bool { var o oddError; return errors.As(err, &o) && o.n == 5 },
			Retry:    handlers.RetryPolicy{On: func(err error) bool { var o oddError; return errors.As(err, &o) && o.n == 4 }},
		}),
		task("unencodable", func(context.Context) (any, error) { return make(chan int), nil }),
		task("subprocess", func(ctx context.Context) (any, error) {
			cmd := exec.Command("sleep", "300")
			if err := cmd.Start(); err != nil {
				return nil, err
			}
			_ = handlers.Progress(ctx, cmd.Process.Pid)
			select {}
		}),
		task("leaves a process", func(context.Context) (any, error) {
			cmd := exec.Command("sleep", "300")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // it holds our output open
			if err := cmd.Start(); err != nil {
				return nil, err
			}
			os.Exit(4)
			return nil, nil
		}),
		handlers.Func("size", func(_ context.Context, in struct {
			N int `json:"n"`
		},
		) (string, error) {
			return string(make([]byte, in.N)), nil
		}),
	}
}

func testRegistry(note string) (*handlers.Registry, error) {
	switch note {
	case "broken":
		return nil, errors.New("the registry cannot be built")
	case "dies":
		fmt.Fprintln(os.Stderr, "I do not feel well")
		os.Exit(9)
	case "hangs":
		select {}
	}
	return handlers.NewRegistry(testHandlers()...)
}

func raceOnMap() error {
	m := map[int]int{}
	for range 8 {
		go func() {
			for i := 0; ; i++ {
				m[i%3] = i
			}
		}()
	}
	select {}
}

//lint:ignore SA5007 that is the fault
func endless(n int) int { return endless(n+1) + 1 }

//go:noinline
func panics() { panic(oddError{6}) }

// workerMain is a worker to be killed: it tells the ids of its children, one of which runs a deaf task.
func workerMain() {
	ready.Store(true)
	p := New(Config{Alive: time.Minute}) // the machine may be busy
	h, err := testRegistry("")
	if err != nil {
		os.Exit(1)
	}
	deaf, _ := h.Lookup(os.Getenv("ISOLATE_TEST_WORKER"))
	go func() { _, _ = p.Wrap(deaf).Invoke()(context.Background(), &protocol.Task{ID: "a", Name: deaf.Name()}) }()
	for {
		if pids := p.PIDs(); len(pids) == 2 {
			_ = json.NewEncoder(os.Stdout).Encode(pids)
			select {}
		}
		p.Warm()
		time.Sleep(5 * time.Millisecond)
	}
}
