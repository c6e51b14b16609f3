package worker

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func TestRetryIsStoredThenPublishedThenAcked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		runs := 0
		h := handlers.Func("again", func(ctx context.Context, _ nothing) (int, error) {
			runs++
			if info, _ := handlers.InfoFrom(ctx); info.Retries < 2 {
				return 0, handlers.Retry(protocol.NewException("ValueError", "not yet"), 10*time.Second)
			}
			return runs, nil
		})
		r := startRig(t, nil, h)
		r.send(protocol.Task{ID: "a", Name: "again"})
		synctest.Wait()
		res := r.wantState("a", protocol.Retry)
		if res.Exception == nil || res.Exception.Type != "ValueError" || !strings.Contains(res.Traceback, "celery.exceptions.Retry: Retry in 10s") || !res.DateDone.IsZero() {
			t.Errorf("RETRY document = %#v", res)
		}
		if len(res.Children) != 1 {
			t.Errorf("children of a retry = %v, want the task itself", res.Children)
		}
		pass(time.Minute)
		if res := r.wantState("a", protocol.Success); res.Value != int64(3) || res.ParentID != "a" {
			t.Errorf("result = %v with parent %q, want 3 with its own id", res.Value, res.ParentID)
		}
		want := []protocol.State{protocol.Retry, protocol.Retry, protocol.Success}
		if got := r.results.States("a"); !slices.Equal(got, want) {
			t.Errorf("states = %v, want %v", got, want)
		}
		r.wantQueue("q", 0, 0)
		r.wantLog("retry: Retry in 10s: ValueError('not yet')")
	})
}

func TestRetriesEndWithTheCauseOrMaxRetriesExceeded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := 1
		policy := handlers.Options{Retry: handlers.RetryPolicy{Max: &one}}
		with := handlers.Func("with", func(context.Context, nothing) (int, error) {
			return 0, handlers.Retry(protocol.NewException("KeyError", "k"), 0)
		}).With(policy)
		without := handlers.Func("without", func(context.Context, struct {
			X int `json:"x"`
		},
		) (int, error) {
			return 0, handlers.Retry(nil, 0)
		}).With(policy)
		r := startRig(t, nil, with, without)
		r.send(protocol.Task{ID: "a", Name: "with"})
		r.send(protocol.Task{ID: "b", Name: "without", Args: args(int64(7))})
		pass(time.Second)
		r.wantException("a", "KeyError")
		if exc := r.wantException("b", "MaxRetriesExceededError"); exc.Args[0] != "Can't retry without[b] args:(7,) kwargs:{}" {
			t.Errorf("text = %q", exc.Args[0])
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestAutomaticRetryBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		boom := errors.New("boom")
		var at []time.Duration
		began := time.Now()
		h := handlers.Func("flaky", func(context.Context, nothing) (int, error) {
			at = append(at, time.Since(began))
			return 0, boom
		}).With(handlers.Options{Retry: handlers.RetryPolicy{On: func(err error) bool { return errors.Is(err, boom) }, Backoff: 2 * time.Second, NoJitter: true}})
		r := startRig(t, nil, h)
		r.send(protocol.Task{ID: "a", Name: "flaky"})
		pass(time.Hour)
		r.wantException("a", "RuntimeError")
		want := []time.Duration{0, 2 * time.Second, 6 * time.Second, 14 * time.Second}
		if len(at) != 4 {
			t.Fatalf("ran at %v, want four runs", at)
		}
		for i := range want {
			if d := at[i] - want[i]; d < 0 || d > time.Second {
				t.Errorf("run %d at %v, want about %v", i, at[i], want[i])
			}
		}
	})
}

func TestFailuresPanicsAndWhatTheyStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil,
			handlers.Func("error", func(context.Context, nothing) (int, error) { return 0, errors.New("broken") }),
			handlers.Func("python", func(context.Context, nothing) (int, error) {
				return 0, &protocol.Exception{Module: "myapp.errors", Type: "PaymentDeclined", Args: args("card", int64(3))}
			}),
			handlers.Func("panic", func(context.Context, nothing) (int, error) { panic("oh no") }),
			handlers.Func("goexit", func(context.Context, nothing) (int, error) { runtime.Goexit(); return 0, nil }),
			handlers.Func("chan", func(context.Context, nothing) (any, error) { return make(chan int), nil }),
			handlers.Func("double", double),
		)
		for _, name := range []string{"error", "python", "panic", "goexit", "chan", "double"} {
			r.send(protocol.Task{ID: name, Name: name, Args: nil})
		}
		synctest.Wait()
		if exc := r.wantException("error", "RuntimeError"); exc.Args[0] != "broken" || exc.Module != "builtins" {
			t.Errorf("error: %#v", exc)
		}
		if exc := r.wantException("python", "PaymentDeclined"); exc.Module != "myapp.errors" || len(exc.Args) != 2 {
			t.Errorf("python: %#v", exc)
		}
		r.wantException("panic", "RuntimeError")
		r.wantException("goexit", "RuntimeError")
		tb := r.result("panic").Traceback
		if !strings.HasPrefix(tb, "Traceback (most recent call last):\n  File ") || !strings.Contains(tb, "outcome_test.go") || !strings.HasSuffix(tb, "RuntimeError: panic: oh no\n") {
			t.Errorf("traceback of a panic:\n%s", tb)
		}
		r.wantException("chan", "EncodeError")
		if exc := r.wantException("double", "TypeError"); exc.Args[0] != "double() missing 1 required positional argument: 'x'" {
			t.Errorf("missing argument: %v", exc.Args)
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestRejectIgnoreAndRequeue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var requeues int
		r := startRig(t, nil,
			handlers.Func("reject", func(context.Context, nothing) (int, error) { return 0, handlers.Reject(errors.New("no")) }),
			handlers.Func("ignore", func(context.Context, nothing) (int, error) { return 0, handlers.ErrIgnore }),
			handlers.Func("requeue", func(ctx context.Context, _ nothing) (bool, error) {
				info, _ := handlers.InfoFrom(ctx)
				if requeues++; requeues == 1 {
					return false, handlers.Requeue(nil)
				}
				return info.Redelivered, nil
			}))
		for _, name := range []string{"reject", "ignore", "requeue"} {
			r.send(protocol.Task{ID: name, Name: name})
		}
		synctest.Wait()
		exc := r.wantException("reject", "Reject")
		if exc.Module != "celery.exceptions" || len(exc.Args) != 2 || exc.Args[0] != "no" || exc.Args[1] != false || r.result("reject").Traceback != "" {
			t.Errorf("reject: %#v", exc)
		}
		if got := r.results.Records("ignore"); len(got) != 0 {
			t.Errorf("an ignored task stored %v", got)
		}
		if res := r.wantState("requeue", protocol.Success); res.Value != true {
			t.Errorf("the requeued task was not marked redelivered")
		}
		r.wantQueue("q", 0, 0)
	})
}

func TestSoftLimitEndsTheContextAndHardLimitTellsTheCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stubborn := make(chan struct{})
		r := startRig(t, nil,
			handlers.Func("soft", sleeper(time.Hour)),
			handlers.Func("caught", func(ctx context.Context, _ nothing) (string, error) {
				<-ctx.Done()
				return "cleaned up", nil
			}),
			handlers.Func("hard", func(context.Context, nothing) (string, error) { <-stubborn; return "late", nil }),
			handlers.Func("double", double))
		r.send(protocol.Task{ID: "soft", Name: "soft", SoftLimit: 2 * time.Second})
		r.send(protocol.Task{ID: "caught", Name: "caught", SoftLimit: 2 * time.Second})
		pass(5 * time.Second)
		if exc := r.wantException("soft", "SoftTimeLimitExceeded"); exc.Module != "billiard.exceptions" || len(exc.Args) != 0 {
			t.Errorf("soft: %#v", exc)
		}
		if res := r.wantState("caught", protocol.Success); res.Value != "cleaned up" {
			t.Errorf("caught = %v", res.Value)
		}
		r.wantLog("Soft time limit (2s) exceeded for soft[soft]")

		r.send(protocol.Task{ID: "hard", Name: "hard", HardLimit: 1500 * time.Millisecond})
		r.send(protocol.Task{ID: "next", Name: "double", Args: args(int64(1))})
		pass(5 * time.Second)
		if exc := r.wantException("hard", "TimeLimitExceeded"); exc.Args[0] != 1.5 || r.result("hard").Traceback != "" {
			t.Errorf("hard: %#v", exc)
		}
		r.wantQueue("q", 1, 0) // the slot is still taken: next waits
		close(stubborn)
		synctest.Wait()
		r.wantState("next", protocol.Success)
		r.wantState("hard", protocol.Failure) // the late result is discarded
	})
}

func TestAckMatrixForFailureAndTimeout(t *testing.T) {
	no := false
	for _, tt := range []struct {
		name    string
		options handlers.Options
		kind    outcomeKind
		acked   bool
		want    []step
	}{
		{"a failure is acked", handlers.Options{}, failed, false, []step{ackStep{}}},
		{"a failure is rejected when not acked on failure", handlers.Options{AckOnFailure: &no}, failed, false, []step{rejectStep{}}},
		{"a timeout is requeued when not acked on timeout", handlers.Options{AckOnTimeout: &no}, timedOut, false, []step{rejectStep{requeue: true}}},
		{"a timeout is acked although failures are not", handlers.Options{AckOnFailure: &no}, timedOut, false, []step{ackStep{}}},
		{"a reject is rejected", handlers.Options{}, rejected, false, []step{rejectStep{}}},
		{"what was acked early is not settled twice", handlers.Options{AckOnFailure: &no}, failed, true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := &job{
				task: &protocol.Task{ID: "a", Kwargs: &protocol.Object{}}, delivery: &transports.Delivery{Queue: "q"}, acked: tt.acked,
				handler: handlers.Func("x", func(context.Context, nothing) (int, error) { return 0, nil }).With(tt.options),
			}
			steps := plan(&Config{}, publisherID{}, j, outcome{kind: tt.kind, exception: protocol.NewException("ValueError")}, time.Now())
			if _, ok := steps[0].(storeStep); !ok {
				t.Fatalf("the first step is %T, want the FAILURE stored", steps[0])
			}
			if got := steps[1:]; !slices.Equal(got, tt.want) {
				t.Errorf("settled by %v, want %v", got, tt.want)
			}
		})
	}
}

func TestIgnoredResultsAreNotStored(t *testing.T) {
	yes, no := true, false
	bubble(t, func(t *testing.T) {
		fail := func(context.Context, nothing) (int, error) { return 0, errors.New("x") }
		r := startRig(t, nil,
			handlers.Func("double", double).With(handlers.Options{IgnoreResult: true}),
			handlers.Func("fail", fail), handlers.Func("told", fail).With(handlers.Options{StoreErrors: true}))
		r.send(protocol.Task{ID: "header", Name: "double", Args: args(int64(1)), IgnoreResult: &no})
		r.send(protocol.Task{ID: "option", Name: "double", Args: args(int64(1))})
		r.send(protocol.Task{ID: "failure", Name: "fail", IgnoreResult: &yes})
		r.send(protocol.Task{ID: "told", Name: "told", IgnoreResult: &yes})
		synctest.Wait()
		r.wantState("header", protocol.Success) // the message wins
		for _, id := range []string{"option", "failure"} {
			if got := r.results.Records(id); len(got) != 0 {
				t.Errorf("%s stored %v", id, got)
			}
		}
		r.wantState("told", protocol.Failure)
	})
}

func TestStartedProgressAndExtendedResults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var late error
		r := startRig(t, func(c *Config) { c.TrackStarted, c.Extended = true, true },
			handlers.Func("steps", func(ctx context.Context, in struct {
				X int `json:"x"`
			},
			) (int, error) {
				if err := handlers.Progress(ctx, map[string]int{"done": 1}); err != nil {
					return 0, err
				}
				time.AfterFunc(time.Minute, func() { late = handlers.Progress(ctx, nil) })
				return in.X, nil
			}))
		r.send(protocol.Task{ID: "a", Name: "steps", Kwargs: protocol.ObjectOf(protocol.Member{Key: "x", Value: int64(5)}), Group: "g", ParentID: "p"})
		synctest.Wait()
		if got, want := r.results.States("a"), []protocol.State{protocol.Started, protocol.Progress, protocol.Success}; !slices.Equal(got, want) {
			t.Fatalf("states = %v, want %v", got, want)
		}
		started := r.results.Records("a")[0].Result.Value.(*protocol.Object)
		if host, _ := started.Get("hostname"); host != "w1@test" {
			t.Errorf("STARTED = %v", started.Members())
		}
		res := r.result("a")
		if res.Extended == nil || res.Extended.Name != "steps" || res.Extended.Worker != "w1@test" || res.Extended.Queue != "q" || res.GroupID != "g" || res.ParentID != "p" {
			t.Errorf("extended = %#v", res)
		}
		pass(2 * time.Minute)
		if late == nil {
			t.Error("progress after the end was accepted")
		}
		r.wantState("a", protocol.Success)
	})
}

func TestEarlyAckWhenExecutionStarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("sleep", sleeper(time.Minute)).With(handlers.Options{EarlyAck: true}))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		r.wantQueue("q", 0, 0)
		pass(2 * time.Minute)
		r.wantState("a", protocol.Success)
	})
}

func TestMiddlewareWrapsOutermostFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var order []string
		mark := func(name string) handlers.Middleware {
			return func(next handlers.Invoke) handlers.Invoke {
				return func(ctx context.Context, task *protocol.Task) (any, error) {
					order = append(order, name)
					return next(ctx, task)
				}
			}
		}
		r := startRig(t, func(c *Config) { c.Middleware = []handlers.Middleware{mark("outer"), mark("inner")} }, handlers.Func("double", double))
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		synctest.Wait()
		if !slices.Equal(order, []string{"outer", "inner"}) {
			t.Errorf("order = %v", order)
		}
	})
}

func TestSoftLimitIsSeenByThePoliciesOfTheHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := 1
		isLimit := func(err error) bool { return errors.Is(err, handlers.ErrSoftLimit) }
		r := startRig(t, nil,
			handlers.Func("again", sleeper(time.Hour)).With(handlers.Options{SoftLimit: time.Second, Retry: handlers.RetryPolicy{Max: &one, Delay: time.Second, On: isLimit}}),
			handlers.Func("expected", sleeper(time.Hour)).With(handlers.Options{SoftLimit: time.Second, Expected: isLimit}))
		r.send(protocol.Task{ID: "a", Name: "again"})
		r.send(protocol.Task{ID: "b", Name: "expected"})
		pass(time.Minute)
		if got, want := r.results.States("a"), []protocol.State{protocol.Retry, protocol.Failure}; !slices.Equal(got, want) {
			t.Errorf("states = %v, want %v", got, want)
		}
		r.wantException("a", "SoftTimeLimitExceeded")
		r.wantLog("Task expected[b] raised expected: SoftTimeLimitExceeded()")
	})
}

func TestRejectIsRetriedWhenCoveredAndIgnoreIsNot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := 1
		all := handlers.Options{Retry: handlers.RetryPolicy{Max: &one, Delay: time.Second, On: func(error) bool { return true }}}
		r := startRig(t, nil,
			handlers.Func("reject", func(context.Context, nothing) (int, error) { return 0, handlers.Reject(errors.New("no")) }).With(all),
			handlers.Func("ignore", func(context.Context, nothing) (int, error) { return 0, handlers.ErrIgnore }).With(all))
		r.send(protocol.Task{ID: "a", Name: "reject"})
		r.send(protocol.Task{ID: "b", Name: "ignore"})
		pass(time.Minute)
		if got := r.results.States("a"); len(got) == 0 || got[0] != protocol.Retry {
			t.Errorf("states of the rejected task = %v, want a retry first", got)
		}
		if got := r.results.States("b"); len(got) != 0 {
			t.Errorf("states of the ignored task = %v", got)
		}
		r.wantQueue("q", 0, 0)
	})
}

// badError panics when it is asked for its text, as the Error method of a nil pointer does.
type badError struct{ text *string }

func (e *badError) Error() string { return *e.text }

type badResult struct{}

func (badResult) MarshalJSON() ([]byte, error) { panic("marshal") }

// TestNothingOfAHandlerEndsTheProcess: its errors, results, policies and middleware may panic where they are
// read.
func TestNothingOfAHandlerEndsTheProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		boom := func(error) bool { panic("policy") }
		r := startRig(t, func(c *Config) {
			c.Middleware = []handlers.Middleware{func(next handlers.Invoke) handlers.Invoke {
				return func(ctx context.Context, task *protocol.Task) (any, error) {
					if task.ID == "middleware" {
						panic("middleware")
					}
					return next(ctx, task)
				}
			}}
		},
			handlers.Func("typednil", func(context.Context, nothing) (int, error) { var e *badError; return 0, e }),
			handlers.Func("marshal", func(context.Context, nothing) (any, error) { return badResult{}, nil }),
			handlers.Func("expected", func(context.Context, nothing) (int, error) { return 0, errors.New("x") }).With(handlers.Options{Expected: boom}),
			handlers.Func("policy", func(context.Context, nothing) (int, error) { return 0, errors.New("x") }).With(handlers.Options{Retry: handlers.RetryPolicy{On: boom}}),
			handlers.Func("reject", func(context.Context, nothing) (int, error) { var e *badError; return 0, handlers.Reject(e) }),
			handlers.Func("retry", func(context.Context, nothing) (int, error) { var e *badError; return 0, handlers.Retry(e, 0) }),
			handlers.Func("double", double))
		for _, name := range []string{"typednil", "marshal", "expected", "policy", "reject", "retry"} {
			r.send(protocol.Task{ID: name, Name: name})
			synctest.Wait()
			r.wantException(name, "RuntimeError")
		}
		r.send(protocol.Task{ID: "middleware", Name: "double", Args: args(int64(1))})
		synctest.Wait()
		r.wantException("middleware", "RuntimeError")
		r.wantQueue("q", 0, 0)
	})
}

// What a handler writes to its log bears the task's name and id.
func TestHandlersLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("chatty", func(ctx context.Context, _ nothing) (int, error) {
			handlers.Logger(ctx).Warn("half done", "left", 5)
			return 0, nil
		}))
		r.send(protocol.Task{ID: "a", Name: "chatty"})
		synctest.Wait()
		r.wantLog(`level=WARN msg="half done" task=a name=chatty logger=celery.task left=5`)
	})
}
