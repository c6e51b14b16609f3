package memresult_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/resultbackend/resultbackendtest"
)

// Not parallel: the suite looks for goroutines left behind.
func TestSuite(t *testing.T) {
	resultbackendtest.Run(t, func(t *testing.T) resultbackendtest.Backend {
		b := memresult.New()
		return resultbackendtest.Backend{
			Backend: b,
			Away:    b.Away,
			Watch: func(t *testing.T, id string) <-chan protocol.Result {
				ch := make(chan protocol.Result, 100)
				sent := len(b.Records(id))
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for ctx.Err() == nil {
						// Wakes at each write, for WaitFor asks at each.
						_, _ = b.WaitFor(ctx, id, func(protocol.State) bool { return len(b.Records(id)) > sent })
						for _, r := range b.Records(id)[sent:] {
							sent++
							ch <- r.Result
						}
					}
				}()
				t.Cleanup(func() { cancel(); <-ended })
				return ch
			},
		}
	})
}

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memresult.New()
		go func() {
			for _, s := range []protocol.State{protocol.Started, protocol.Progress, protocol.Success} {
				time.Sleep(time.Hour)
				_ = b.Store(t.Context(), resultbackend.Record{Result: protocol.Result{TaskID: "t", Status: s, Value: int64(5)}})
			}
		}()
		began := time.Now()
		r, err := b.Wait(t.Context(), "t")
		if err != nil || r.Value != int64(5) || time.Since(began) != 3*time.Hour {
			t.Errorf("Wait = %v, %v after %v; want 5 after 3h", r.Value, err, time.Since(began))
		}
		want := []protocol.State{protocol.Started, protocol.Progress, protocol.Success}
		if diff := cmp.Diff(want, b.States("t")); diff != "" {
			t.Errorf("States (-want +got):\n%s", diff)
		}
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memresult.New()
		record := resultbackend.Record{Result: protocol.Result{TaskID: "t", Status: protocol.Started}}
		b.Fail(2, resultbackend.ErrTooLarge)
		for n, want := range []error{resultbackend.ErrTooLarge, resultbackend.ErrTooLarge, nil} {
			if err := b.Store(t.Context(), record); !errors.Is(err, want) {
				t.Errorf("store %d: %v, want %v", n, err, want)
			}
		}
		b.Delay(time.Minute)
		began := time.Now()
		if err := b.Store(t.Context(), record); err != nil || time.Since(began) != time.Minute {
			t.Errorf("delayed Store: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Store(ctx, record); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Store cut short: %v", err)
		}
		if n := len(b.Records("")); n != 2 {
			t.Errorf("%d records were kept, want 2", n)
		}
	})
}
