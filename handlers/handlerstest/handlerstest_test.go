package handlerstest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/handlers/handlerstest"
	"github.com/stalkworker/stalk/protocol"
)

func returning(v any, err error) handlers.Handler {
	return handlers.Func("t.t", func(context.Context, struct{}) (any, error) { return v, err })
}

func TestEndings(t *testing.T) {
	t.Parallel()
	zero := 0
	boom := protocol.NewException("ValueError", "boom")
	always := func(error) bool { return true }
	auto := handlers.Options{Retry: handlers.RetryPolicy{On: always, Delay: 7 * time.Second}}
	eta := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name      string
		h         handlers.Handler
		with      []any
		want      handlerstest.Ending
		exception string
		countdown time.Duration
	}{
		{"a value", returning(1, nil), nil, handlerstest.Succeeded, "", 0},
		{"an exception", returning(nil, boom), nil, handlerstest.Failed, "ValueError: boom", 0},
		{"an error of Go", returning(nil, errors.New("x")), nil, handlerstest.Failed, "RuntimeError: x", 0},
		{"a value JSON cannot carry", returning(func() {}, nil), nil, handlerstest.Failed, "EncodeError", 0},
		{"a retry", returning(nil, handlers.Retry(boom, time.Second)), nil, handlerstest.Retried, "ValueError: boom", time.Second},
		{"a wrapped retry", returning(nil, fmt.Errorf("so: %w", handlers.Retry(boom, 0))), nil, handlerstest.Retried, "ValueError: boom", 0},
		{"a retry by the default delay", returning(nil, handlers.Retry(nil, -1)), nil, handlerstest.Retried, "", 180 * time.Second},
		{"a retry by the policy's delay", returning(nil, handlers.Retry(nil, -1)).With(auto), nil, handlerstest.Retried, "", 7 * time.Second},
		{"a retry at a time", returning(nil, handlers.RetryAt(nil, eta)), nil, handlerstest.Retried, "", 0},
		{"the third retry is the last", returning(nil, handlers.Retry(boom, 0)), []any{handlerstest.Retries(2)}, handlerstest.Retried, "ValueError: boom", 0},
		{"past it the cause fails", returning(nil, handlers.Retry(boom, 0)), []any{handlerstest.Retries(3)}, handlerstest.Failed, "ValueError: boom", 0},
		{
			"without a cause, Celery's words", returning(nil, handlers.Retry(nil, 0)).With(handlers.Options{Retry: handlers.RetryPolicy{Max: &zero}}),
			[]any{handlerstest.ID("i")},
			handlerstest.Failed, "MaxRetriesExceededError: Can't retry t.t[i] args:() kwargs:{}", 0,
		},
		{"an automatic retry", returning(nil, boom).With(auto), nil, handlerstest.Retried, "ValueError: boom", 7 * time.Second},
		{"a reject is retried too", returning(nil, handlers.Reject(boom)).With(auto), nil, handlerstest.Retried, "ValueError: boom", 7 * time.Second},
		{"ignore is not", returning(nil, handlers.ErrIgnore).With(auto), nil, handlerstest.Ignored, "", 0},
		{"a reject", returning(nil, handlers.Reject(boom)), nil, handlerstest.Rejected, "ValueError: boom", 0},
		{"a requeue", returning(nil, handlers.Requeue(nil)), nil, handlerstest.Requeued, "", 0},
		{"the soft limit", returning(nil, handlers.ErrSoftLimit), nil, handlerstest.Failed, "SoftTimeLimitExceeded", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := handlerstest.Run(t.Context(), tt.h, tt.with...)
			text := ""
			if r.Exception != nil {
				text = r.Exception.Error()
			}
			if r.Ending != tt.want || !strings.HasPrefix(text, tt.exception) || tt.exception == "" && text != "" || r.Countdown != tt.countdown {
				t.Errorf("%s, %q, %v; want %s, %q, %v", r.Ending, text, r.Countdown, tt.want, tt.exception, tt.countdown)
			}
			if err := r.Scan(new(any)); (err == nil) != (tt.want == handlerstest.Succeeded) {
				t.Errorf("Scan: %v", err)
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	h := handlers.Func("t", func(ctx context.Context, _ struct{}) (any, error) {
		cancel(handlers.ErrShutdown)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if r := handlerstest.Run(ctx, h); r.Ending != handlerstest.Interrupted {
		t.Errorf("%s %v, want interrupted", r.Ending, r.Err)
	}
}

// TestValuesAsPythonSeesThem: what comes back went through FromGo and JSON.
func TestValuesAsPythonSeesThem(t *testing.T) {
	t.Parallel()
	type out struct {
		N     int       `json:"n"`
		F     float64   `json:"f"`
		Empty []string  `json:"empty"`
		At    time.Time `json:"at"`
	}
	r := handlerstest.Run(t.Context(), returning(out{3, 3, nil, time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)}, nil))
	want := `{"n": 3, "f": 3.0, "empty": [], "at": {"__type__": "datetime", "__value__": "2026-11-21T01:02:03+00:00"}}`
	if got := r.JSON(); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	var back out
	if err := r.Scan(&back); err != nil || back.N != 3 || !back.At.Equal(time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)) {
		t.Errorf("Scan: %v, %v", back, err)
	}
	none := handlers.Func("t", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil })
	if r := handlerstest.Run(t.Context(), none); r.Ending != handlerstest.Succeeded || r.Value != nil {
		t.Errorf("a result of struct{} is %v, want None", r.Value)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	var got handlers.Info
	h := handlers.Raw("t", func(ctx context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
		got, _ = handlers.InfoFrom(ctx)
		return len(args) + kwargs.Len(), nil
	})
	r := handlerstest.Run(t.Context(), h, 1, handlerstest.Header("tenant", 7), "two", handlerstest.Kwargs{"a": nil},
		handlerstest.ID("i"), handlerstest.Redelivered(), handlerstest.Retries(4))
	tenant, _ := got.Headers.Get("tenant")
	if r.Value != int64(3) || got.ID != "i" || got.RootID != "i" || got.Name != "t" || !got.Redelivered || got.Retries != 4 || tenant != int64(7) {
		t.Errorf("value %v, info %+v", r.Value, got)
	}
}

func TestReportsAreRecordedUntilTheEnd(t *testing.T) {
	t.Parallel()
	var kept context.Context
	h := handlers.Func("t", func(ctx context.Context, _ struct{}) (any, error) {
		kept = ctx
		if err := handlers.Progress(ctx, map[string]any{"done": 1}); err != nil {
			return nil, err
		}
		return nil, handlers.Report(ctx, "UPLOADING", 0.5)
	})
	r := handlerstest.Run(t.Context(), h)
	if len(r.Reports) != 2 || r.Reports[0].State != protocol.Progress || r.Reports[1] != (handlerstest.Report{State: "UPLOADING", Meta: 0.5}) {
		t.Errorf("reports: %v", r.Reports)
	}
	if err := handlers.Progress(kept, 1); !errors.Is(err, handlerstest.ErrOver) {
		t.Errorf("a report after the end: %v, want ErrOver", err)
	}
}

// TestMistakesOfTheTestPanic: what no task message could be is not a result.
func TestMistakesOfTheTestPanic(t *testing.T) {
	t.Parallel()
	good := returning(nil, nil)
	for name, run := range map[string]func(){
		"handlerstest: argument 2 (chan int)": func() { handlerstest.Run(t.Context(), good, 1, make(chan int)) },
		"handlerstest: two Kwargs":            func() { handlerstest.Run(t.Context(), good, handlerstest.Kwargs{}, handlerstest.Kwargs{}) },
		"handlerstest: header h (func())":     func() { handlerstest.Header("h", func() {}) },
		`handlerstest: handlers: task ""`:     func() { handlerstest.Run(t.Context(), good.As("")) },
	} {
		var got any
		func() {
			defer func() { got = recover() }()
			run()
		}()
		if text, _ := got.(string); !strings.HasPrefix(text, name) {
			t.Errorf("panic %v, want %q", got, name)
		}
	}
}

// ExampleRun tests a task as a unit test would.
func ExampleRun() {
	resize := handlers.Func("resize", func(ctx context.Context, in struct {
		Name  string `json:"name"`
		Steps int    `json:"steps" default:"2"`
	},
	) (map[string]any, error) {
		for i := range in.Steps {
			if err := handlers.Progress(ctx, map[string]int{"done": i}); err != nil {
				return nil, err
			}
		}
		return map[string]any{"name": in.Name, "ratio": 1.0}, nil
	})

	r := handlerstest.Run(context.Background(), resize, "a.jpg")
	fmt.Println(r)
	for _, report := range r.Reports {
		fmt.Println(report)
	}
	var out struct {
		Ratio float64 `json:"ratio"`
	}
	fmt.Println(r.Scan(&out), out.Ratio)

	fmt.Println(handlerstest.Run(context.Background(), resize, "a.jpg", handlerstest.Kwargs{"name": "b.jpg"}).Exception)
	// Output:
	// succeeded {"name": "a.jpg", "ratio": 1.0}
	// PROGRESS {"done": 0}
	// PROGRESS {"done": 1}
	// <nil> 1
	// TypeError: resize() got multiple values for argument 'name'
}
