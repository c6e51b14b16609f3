package handlers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

// TestRetryText has what Celery 5.7 prints for the same Retry (celery/exceptions.py, Retry.__str__).
func TestRetryText(t *testing.T) {
	t.Parallel()
	boom := protocol.NewException("ValueError", "boom")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"whole seconds", Retry(boom, 2*time.Second), "Retry in 2s: ValueError('boom')"},
		{"no cause", Retry(nil, 2*time.Second), "Retry in 2s"},
		{"at once", Retry(nil, 0), "Retry in 0s"},
		{"a part of a second", Retry(nil, 2500*time.Millisecond), "Retry in 2.5s"},
		{"little", Retry(nil, 120*time.Microsecond), "Retry in 0.00012s"},
		{"very little", Retry(nil, 10*time.Microsecond), "Retry in 1e-05s"},
		{"the default delay", Retry(nil, -1), "Retry in 180s"},
		{"a time", RetryAt(boom, time.Date(2026, 11, 21, 7, 28, 25, 0, time.UTC)), "Retry at 2026-11-21 07:28:25+00:00: ValueError('boom')"},
		{"a time with microseconds", RetryAt(nil, time.Date(2026, 11, 21, 7, 28, 25, 403537999, time.FixedZone("", -3*3600-1800))), "Retry at 2026-11-21 07:28:25.403537-03:30"},
		{"an error of Go", Retry(errors.New("it's gone"), time.Second), `Retry in 1s: RuntimeError("it's gone")`},
		{"a wrapped exception", Retry(fmt.Errorf("while saving: %w", boom), time.Second), "Retry in 1s: ValueError('boom')"},
		{"the soft limit", Retry(ErrSoftLimit, time.Second), "Retry in 1s: SoftTimeLimitExceeded()"},
		{"a reject", Reject(boom), "reject requeue=False: ValueError: boom"},
		{"a requeue", Requeue(nil), "reject requeue=True: None"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.err.Error(); got != tt.want {
				t.Errorf("text = %q, want %q", got, tt.want)
			}
		})
	}
	if !errors.Is(fmt.Errorf("later: %w", Retry(boom, 0)), boom) || !errors.Is(Requeue(boom), boom) {
		t.Error("the cause cannot be found")
	}
}

// TestCountdownAsCelery: get_exponential_backoff_interval of celery/utils/time.py, and the delays beside it.
func TestCountdownAsCelery(t *testing.T) {
	t.Parallel()
	most := func(n int64) int64 { return n - 1 }
	seconds := func(p RetryPolicy, retries ...int) (got []float64) {
		for _, n := range retries {
			got = append(got, p.Countdown(n, most).Seconds())
		}
		return got
	}
	for _, tt := range []struct {
		name   string
		policy RetryPolicy
		want   []float64 // for 0, 1, 2, 3, 10, 1000 retries
	}{
		{"the first delay is the factor", RetryPolicy{Backoff: time.Second}, []float64{1, 2, 4, 8, 600, 600}},
		{"a factor", RetryPolicy{Backoff: 5 * time.Second, NoJitter: true}, []float64{5, 10, 20, 40, 600, 600}},
		{"a limit below", RetryPolicy{Backoff: 5 * time.Second, BackoffMax: 7 * time.Second}, []float64{5, 7, 7, 7, 7, 7}},
		{"a factor above the limit", RetryPolicy{Backoff: 2 * time.Hour}, []float64{600, 600, 600, 600, 600, 600}},
		{"less than a second is one", RetryPolicy{Backoff: time.Millisecond, NoJitter: true}, []float64{1, 2, 4, 8, 600, 600}},
		{"the longest limit does not overflow", RetryPolicy{Backoff: math.MaxInt64, BackoffMax: math.MaxInt64, NoJitter: true}, slices.Repeat([]float64{9223372036}, 6)},
		{"no backoff: the delay", RetryPolicy{Delay: 7 * time.Second}, []float64{7, 7, 7, 7, 7, 7}},
		{"nothing: 180 seconds", RetryPolicy{}, []float64{180, 180, 180, 180, 180, 180}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, seconds(tt.policy, 0, 1, 2, 3, 10, 1000)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}

	// Jitter is a whole number from 0 to the countdown, both included: what is asked for is [0, 5).
	var asked []int64
	p := RetryPolicy{Backoff: 4 * time.Second}
	for _, drawn := range []int64{0, 3, 4} {
		got := p.Countdown(0, func(n int64) int64 { asked = append(asked, n); return drawn })
		if got != time.Duration(drawn)*time.Second {
			t.Errorf("drew %d, got %v", drawn, got)
		}
	}
	if !slices.Equal(asked, []int64{5, 5, 5}) {
		t.Errorf("drew from %v, want 5 each time", asked)
	}
}

func TestRetryPolicyLimit(t *testing.T) {
	t.Parallel()
	zero, none := 0, -1
	for _, tt := range []struct {
		max       *int
		want      int
		unlimited bool
	}{{nil, 3, false}, {&zero, 0, false}, {&none, 0, true}} {
		if n, unlimited := (RetryPolicy{Max: tt.max}).Limit(); n != tt.want || unlimited != tt.unlimited {
			t.Errorf("Limit = %d, %v, want %d, %v", n, unlimited, tt.want, tt.unlimited)
		}
	}
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"": 0, "0": 0, "5": 5, "2.5": 2.5, "10/s": 10, "120/m": 2, "7200/h": 2} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "/m", "10/", "10/d", "-1", "inf", "nan", "10/m/s"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("ParseRate(%q) = %v, want an error", text, got)
		}
	}
}

func TestChainRunsTheFirstOutermost(t *testing.T) {
	t.Parallel()
	var order []string
	mark := func(name string) Middleware {
		return func(next Invoke) Invoke {
			return func(ctx context.Context, task *protocol.Task) (any, error) {
				order = append(order, name+" in")
				defer func() { order = append(order, name+" out") }()
				return next(ctx, task)
			}
		}
	}
	run := Chain(mark("a"), nil, mark("b"))(func(context.Context, *protocol.Task) (any, error) {
		order = append(order, "task")
		return 1, nil
	})
	if v, err := run(t.Context(), &protocol.Task{}); v != 1 || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	if diff := cmp.Diff([]string{"a in", "b in", "task", "b out", "a out"}, order); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if v, _ := Chain()(func(context.Context, *protocol.Task) (any, error) { return 2, nil })(t.Context(), nil); v != 2 {
		t.Errorf("an empty Chain: %v", v)
	}
}

type hostFunc func(s protocol.State, meta protocol.Value) error

func (f hostFunc) Report(_ context.Context, s protocol.State, meta protocol.Value) error {
	return f(s, meta)
}

func (f hostFunc) Spawn(context.Context, Signature) (Sent, error)      { return Sent{}, ErrNoTask }
func (f hostFunc) AddToChord(context.Context, Signature) (Sent, error) { return Sent{}, ErrNoTask }

func TestReport(t *testing.T) {
	t.Parallel()
	if err := Progress(t.Context(), nil); !errors.Is(err, ErrNoTask) {
		t.Errorf("outside a task: %v, want ErrNoTask", err)
	}
	if _, ok := InfoFrom(t.Context()); ok {
		t.Error("InfoFrom found a task outside of one")
	}
	if err := Report(NewContext(t.Context(), Info{}, nil), "X", nil); !errors.Is(err, ErrNoTask) {
		t.Errorf("without a host: %v, want ErrNoTask", err)
	}
	over := errors.New("over")
	var got []any
	ctx := NewContext(t.Context(), Info{ID: "i", Retries: 2}, hostFunc(func(s protocol.State, meta protocol.Value) error {
		got = append(got, s, meta)
		if s == "LATE" {
			return over
		}
		return nil
	}))
	if info, ok := InfoFrom(ctx); !ok || info.ID != "i" || info.Retries != 2 {
		t.Errorf("InfoFrom = %v, %v", info, ok)
	}
	type meta struct {
		Done int `json:"done"`
	}
	if err := Progress(ctx, meta{3}); err != nil {
		t.Error(err)
	}
	if err := Report(ctx, "LATE", nil); !errors.Is(err, over) {
		t.Errorf("the host's error became %v", err)
	}
	if len(got) != 4 || got[0] != protocol.Progress || got[2] != protocol.State("LATE") || got[3] != nil {
		t.Errorf("reported %v", got)
	} else if done, _ := got[1].(*protocol.Object).Get("done"); done != int64(3) {
		t.Errorf("meta is %v", got[1])
	}
	n := len(got)
	for _, s := range []protocol.State{"", protocol.Success, protocol.Failure, protocol.Revoked, protocol.Retry} {
		if err := Report(ctx, s, nil); err == nil {
			t.Errorf("state %q was accepted", s)
		}
	}
	if err := Progress(ctx, make(chan int)); err == nil {
		t.Error("a channel was accepted")
	}
	if len(got) != n {
		t.Errorf("a refused report reached the host: %v", got[n:])
	}
}
