package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestTaskRunsAndItsResultIsStoredBeforeTheAck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		r.results.Away(true)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(21))})
		pass(30 * time.Second)
		r.wantQueue("q", 0, 1) // the store is away: the message is still ours
		r.results.Away(false)
		pass(2 * time.Second)
		r.wantQueue("q", 0, 0)
		if res := r.wantState("a", protocol.Success); res.Value != int64(42) || res.DateDone.IsZero() {
			t.Errorf("result = %#v", res)
		}
		r.wantLog("Task double[a] received")
		r.wantLog("Task double[a] succeeded in")
		if err := r.stop(); err != nil {
			t.Errorf("Run = %v, want nil after a clean drain", err)
		}
	})
}

func TestUnknownNameIsToldToItsCallerEvenIfIgnoredAndRejected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Extended = true }, handlers.Func("double", double))
		yes := true
		r.send(protocol.Task{ID: "a", Name: "no.such", IgnoreResult: &yes, Group: "g"})
		synctest.Wait()
		exc := r.wantException("a", "NotRegistered")
		if exc.Module != "celery.exceptions" || len(exc.Args) != 1 || exc.Args[0] != "no.such" {
			t.Errorf("exception = %#v", exc)
		}
		if res := r.result("a"); res.Traceback != "" || res.GroupID != "" {
			t.Errorf("traceback %q and group %q, want none", res.Traceback, res.GroupID)
		}
		r.wantQueue("q", 0, 0)
		r.wantLog("Received unregistered task of type 'no.such'")
	})
}

func TestGarbageGoesToQuarantineAndTheNextTaskRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		good := message(t, protocol.Task{ID: "bad", Name: "double", Args: args(int64(1))})
		bad := good
		bad.Body = []byte("{not json")
		r.broker.Send("q", bad)
		r.broker.Send("q", protocol.Message{Body: []byte(`"x"`), Properties: protocol.Properties{ContentType: "application/json"}, RoutingKey: "q"})
		pickled := good
		pickled.Properties.ContentType = "application/x-python-serialize"
		r.broker.Send("q", pickled)
		r.send(protocol.Task{ID: "good", Name: "double", Args: args(int64(1))})
		synctest.Wait()
		r.wantState("good", protocol.Success)
		r.wantQueue("q", 0, 0)
		r.wantQueue("q.quarantine", 3, 0)
		if got := r.broker.Messages("q.quarantine")[0]; string(got.Body) != "{not json" {
			t.Errorf("the quarantined body is %q, not untouched", got.Body)
		}
		// Its id could be read, so its caller is told.
		r.wantState("bad", protocol.Failure)
	})
}

func TestETAIsHeldUnackedWithoutASlot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		for i := range 40 { // more than the window of one slot
			r.send(protocol.Task{ID: fmt.Sprint("eta", i), Name: "double", Args: args(int64(i)), ETA: time.Now().Add(time.Hour)})
		}
		r.send(protocol.Task{ID: "now", Name: "double", Args: args(int64(1))})
		pass(time.Minute)
		r.wantState("now", protocol.Success)
		r.wantQueue("q", 0, 40)
		pass(time.Hour)
		r.wantQueue("q", 0, 0)
		r.wantState("eta0", protocol.Success)
		r.wantState("eta39", protocol.Success)
	})
}

func TestHeldTasksGoBackAtShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Hour)})
		r.wantQueue("q", 0, 1)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.wantQueue("q", 1, 0)
	})
}

func TestExpiredIsRevokedWithoutRunning(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1)), Expires: time.Now().Add(-time.Second)})
		// Expires while held for its eta.
		r.send(protocol.Task{ID: "b", Name: "double", Args: args(int64(1)), ETA: time.Now().Add(time.Hour), Expires: time.Now().Add(time.Minute)})
		synctest.Wait()
		res := r.wantState("a", protocol.Revoked)
		if res.Exception == nil || res.Exception.Type != "TaskRevokedError" || res.Exception.Args[0] != "expired" {
			t.Errorf("exception = %v", res.Exception)
		}
		r.wantLog("Discarding revoked task: double[a]")
		pass(2 * time.Hour)
		r.wantState("b", protocol.Revoked)
		r.wantQueue("q", 0, 0)
		if !r.w.revoked.has("b", time.Now()) {
			t.Error("an expired id did not join the revoked set")
		}
	})
}

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
			handlers.Func("chan", func(context.Context, nothing) (any, error) { return make(chan int), nil }),
			handlers.Func("double", double),
		)
		for _, name := range []string{"error", "python", "panic", "chan", "double"} {
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
		tb := r.result("panic").Traceback
		if !strings.HasPrefix(tb, "Traceback (most recent call last):\n  File ") || !strings.Contains(tb, "worker_test.go") || !strings.HasSuffix(tb, "RuntimeError: panic: oh no\n") {
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

func TestRateLimitSpreadsTheRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began, ran := time.Now(), []time.Duration{}
		r := startRig(t, nil, handlers.Func("slow", func(context.Context, nothing) (int, error) {
			ran = append(ran, time.Since(began).Round(time.Second))
			return 0, nil
		}).With(handlers.Options{Rate: "6/m"}), handlers.Func("double", double))
		for i := range 4 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "slow"})
		}
		r.send(protocol.Task{ID: "free", Name: "double", Args: args(int64(1))})
		pass(time.Second)
		r.wantState("free", protocol.Success) // nobody waits behind a limited task
		pass(time.Minute)
		synctest.Wait()
		if want := []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second}; !slices.Equal(ran, want) {
			t.Errorf("ran at %v, want %v", ran, want)
		}
		r.wantQueue("q", 0, 0)
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

func TestWarmShutdownLetsTasksFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("sleep", sleeper(20*time.Second)))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		r.send(protocol.Task{ID: "b", Name: "sleep"})
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 1, 0) // b was never started
	})
}

func TestEndOfGraceReturnsRunningTasks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("sleep", sleeper(time.Hour)))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		synctest.Wait()
		err := r.stop()
		if !errors.Is(err, ErrGrace) || !strings.Contains(err.Error(), "sleep[a]") {
			t.Fatalf("Run = %v, want ErrGrace naming the task", err)
		}
		r.wantQueue("q", 1, 0)
		if got := r.results.Records("a"); len(got) != 0 {
			t.Errorf("an interrupted task stored %v", got)
		}
	})
}

func TestStopNowEndsTheGracePeriod(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Grace = -1 }, handlers.Func("sleep", sleeper(time.Hour)))
		r.send(protocol.Task{ID: "a", Name: "sleep"})
		synctest.Wait()
		r.cancel()
		pass(10 * time.Minute) // without a limit the worker waits
		began := time.Now()
		r.w.StopNow()
		r.w.StopNow()
		if err := r.stop(); !errors.Is(err, ErrGrace) {
			t.Fatalf("Run = %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("stopping took %v", took)
		}
		r.wantQueue("q", 1, 0)
	})
}

func TestAHandlerThatNeverStopsDoesNotStopTheShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		never := make(chan struct{})
		defer close(never)
		r := startRig(t, nil, handlers.Func("never", func(context.Context, nothing) (int, error) { <-never; return 0, nil }))
		r.send(protocol.Task{ID: "a", Name: "never"})
		synctest.Wait()
		if err := r.stop(); !errors.Is(err, ErrGrace) {
			t.Fatalf("Run = %v", err)
		}
		r.wantQueue("q", 1, 0)
	})
}

func TestBrokenConnectionLosesNothingAndDoublesNothing(t *testing.T) {
	for slots, line := range map[int]string{
		1: "a copy of a", // no slot is free to take the copy before the end: it finds the run settled, or settling
		2: "a copy of a running task came back",
	} {
		t.Run(fmt.Sprint(slots, " slots"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var runs atomic.Int32
				r := startRig(t, func(c *Config) { c.Concurrency = slots }, handlers.Func("sleep", func(ctx context.Context, in nothing) (string, error) {
					runs.Add(1)
					return sleeper(time.Minute)(ctx, in)
				}))
				r.send(protocol.Task{ID: "a", Name: "sleep"})
				synctest.Wait()
				r.broker.Cut() // the broker brings a copy while its run is still going on here
				pass(2 * time.Minute)
				r.wantLog(line)
				r.wantState("a", protocol.Success)
				r.wantQueue("q", 0, 0)
				if n := runs.Load(); n != 1 {
					t.Errorf("the task ran %d times", n)
				}
			})
		})
	}
}

func TestLostAckIsNotASecondRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, nil, handlers.Func("count", func(context.Context, nothing) (int32, error) { return runs.Add(1), nil }))
		r.broker.Fail(membroker.Settle, 1, fmt.Errorf("test: %w", transports.ErrLost))
		r.send(protocol.Task{ID: "a", Name: "count"})
		synctest.Wait()
		r.broker.Cut()
		pass(time.Minute)
		r.wantQueue("q", 0, 0)
		if n := runs.Load(); n != 1 {
			t.Errorf("the task ran %d times", n)
		}
	})
}

func TestHeldTasksSurviveABrokenConnectionOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, nil, handlers.Func("count", func(context.Context, nothing) (int32, error) { return runs.Add(1), nil }))
		r.send(protocol.Task{ID: "a", Name: "count", ETA: time.Now().Add(time.Hour)})
		synctest.Wait()
		for range 5 {
			r.broker.Cut()
			pass(time.Minute)
			r.wantQueue("q", 0, 1)
		}
		pass(2 * time.Hour)
		r.wantState("a", protocol.Success)
		if n := runs.Load(); n != 1 {
			t.Errorf("the task ran %d times", n)
		}
	})
}

func TestRefusedRetryPublishReturnsTheMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, nil, handlers.Func("again", func(ctx context.Context, _ nothing) (int, error) {
			runs.Add(1)
			if info, _ := handlers.InfoFrom(ctx); info.Retries == 0 {
				return 0, handlers.Retry(nil, 0)
			}
			return 1, nil
		}))
		r.broker.Fail(membroker.Publish, 30, fmt.Errorf("test: %w", transports.ErrRefused))
		r.send(protocol.Task{ID: "a", Name: "again"})
		pass(10 * time.Minute)
		r.wantState("a", protocol.Success)
		r.wantQueue("q", 0, 0)
		if n := runs.Load(); n < 3 {
			t.Errorf("ran %d times, want the first run repeated after the refusals", n)
		}
	})
}

func TestSlotsGoOnWhileResultsAreOnTheirWayUntilTheWindowIsFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Settling, c.Prefetch = 2, 100 }, handlers.Func("double", double))
		r.results.Away(true)
		for i := range 10 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "double", Args: args(int64(i))})
		}
		pass(time.Minute)
		if s := r.w.Stats(); s.Succeeded != 3 || s.Settling != 2 {
			t.Errorf("%+v, want two settling and the slot holding a third", s)
		}
		r.results.Away(false)
		pass(time.Minute)
		r.wantQueue("q", 0, 0)
		r.wantState("9", protocol.Success)
	})
}

func TestDialIsRepeatedForEverButRefusedCredentialsEndTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reg, _ := handlers.NewRegistry(handlers.Func("double", double))
		b := membroker.New()
		b.Fail(membroker.Connect, 20, fmt.Errorf("test: %w", transports.ErrDisconnected))
		w, err := New(Config{Transport: b, Handlers: reg, Queues: []transports.Queue{{Name: "q", Create: true}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error)
		go func() { end <- w.Run(ctx) }()
		pass(time.Second)
		if w.Ready() == nil {
			t.Error("ready without a connection")
		}
		pass(20 * time.Minute)
		if err := w.Ready(); err != nil {
			t.Errorf("Ready = %v after the broker came back", err)
		}
		cancel()
		if err := <-end; err != nil {
			t.Errorf("Run = %v", err)
		}

		b.Fail(membroker.Connect, 1, fmt.Errorf("test: %w", transports.ErrCredentials))
		w, _ = New(Config{Transport: b, Handlers: reg})
		if err := w.Run(t.Context()); !errors.Is(err, transports.ErrCredentials) {
			t.Errorf("Run = %v, want ErrCredentials", err)
		}
		if err := w.Run(t.Context()); !errors.Is(err, ErrRan) {
			t.Errorf("second Run = %v, want ErrRan", err)
		}
	})
}

func TestNewNamesEveryMistake(t *testing.T) {
	_, err := New(Config{Concurrency: -1, Settle: -1, Queues: []transports.Queue{{Name: "a"}, {Name: "a"}, {}}})
	for _, part := range []string{"Transport is required", "Handlers is required", "Concurrency is -1", "Settle is", `"a" twice`, "without a name"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("New = %v, want it to say %q", err, part)
		}
	}
}

func TestTooManyDeliveriesGoToQuarantine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Deliveries = 3 }, handlers.Func("loop", func(context.Context, nothing) (int, error) { return 0, handlers.Requeue(nil) }))
		r.broker.Counting(true)
		r.send(protocol.Task{ID: "a", Name: "loop"})
		synctest.Wait()
		r.wantException("a", "WorkerLostError")
		r.wantQueue("q", 0, 0)
		r.wantQueue("q.quarantine", 1, 0)
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

// picky stores nothing that it is told to find in a document.
type picky struct {
	*memresult.Backend
	refuses func(protocol.Result) bool
}

func (p picky) Store(ctx context.Context, r resultbackend.Record) error {
	if p.refuses(r.Result) {
		return &protocol.EncodeError{Err: errors.New("int too big to convert")}
	}
	return p.Backend.Store(ctx, r)
}

func TestWhatCannotBeStoredIsToldAllTheSame(t *testing.T) {
	for _, tt := range []struct {
		name    string
		refuses func(protocol.Result) bool
		want    string
	}{
		{"a result", func(r protocol.Result) bool { return r.Status == protocol.Success }, "EncodeError"},
		{"arguments", func(r protocol.Result) bool { return r.Extended != nil }, "BackendStoreError"},
		{"a traceback", func(r protocol.Result) bool {
			return r.Traceback != "" || r.Status == protocol.Success && r.TaskID == "ok"
		}, "EncodeError"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store := memresult.New()
				r := startRig(t, func(c *Config) { c.Results, c.Extended = picky{store, tt.refuses}, true },
					handlers.Func("double", double), handlers.Func("fail", func(context.Context, nothing) (int, error) { return 0, errors.New("x") }))
				r.results = store
				r.send(protocol.Task{ID: "ok", Name: "double", Args: args(int64(1))})
				r.send(protocol.Task{ID: "bad", Name: "fail"})
				synctest.Wait()
				r.wantException("ok", tt.want)
				r.wantState("bad", protocol.Failure)
				r.wantQueue("q", 0, 0)
			})
		})
	}
}

func TestAStoreThatHangsDoesNotHoldTheHardLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("slow", func(ctx context.Context, _ nothing) (int, error) {
			handlers.Progress(ctx, 1) //nolint:errcheck // the store is what the test is about
			<-ctx.Done()
			return 0, ctx.Err()
		}))
		r.results.Delay(time.Hour)
		r.send(protocol.Task{ID: "a", Name: "slow", HardLimit: time.Second})
		pass(time.Minute)
		r.results.Delay(0)
		pass(time.Minute)
		r.wantException("a", "TimeLimitExceeded")
	})
}

func TestRateLimitedTasksStayWithinTheWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("slow", func(context.Context, nothing) (int, error) { return 0, nil }).With(handlers.Options{Rate: "1/m"}))
		for i := range 300 {
			r.send(protocol.Task{ID: fmt.Sprint(i), Name: "slow"})
		}
		pass(10 * time.Second)
		if n := r.broker.Unsettled("q"); n > 4 {
			t.Errorf("one worker holds %d messages that it may not run", n)
		}
	})
}

func TestSetAsideIsCountedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Deliveries = 1 }, handlers.Func("loop", func(context.Context, nothing) (int, error) { return 0, handlers.Requeue(nil) }))
		r.broker.Counting(true)
		r.send(protocol.Task{ID: "a", Name: "loop"})
		synctest.Wait()
		if s := r.w.Stats(); s.Quarantined != 1 {
			t.Errorf("Quarantined = %d", s.Quarantined)
		}
	})
}

// TestShutdownEndsWhileTheStoreIsAway: the grace period, even one without limit, is for handlers.
func TestShutdownEndsWhileTheStoreIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Grace = -1 }, handlers.Func("double", double), handlers.Func("sleep", sleeper(time.Minute)))
		r.results.Away(true)
		r.send(protocol.Task{ID: "a", Name: "double", Args: args(int64(1))})
		r.send(protocol.Task{ID: "b", Name: "sleep"})
		synctest.Wait()
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Errorf("Run = %v: no handler was cut short", err)
		}
		if took := time.Since(began); took < time.Minute || took > 2*time.Minute {
			t.Errorf("stopping took %v, want the handler's minute and the time to settle", took)
		}
		r.wantQueue("q", 2, 0)
	})
}

func TestAnAbandonedHandlerDoesNotHoldAnUnlimitedGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		never := make(chan struct{})
		defer close(never)
		r := startRig(t, func(c *Config) { c.Grace = -1 }, handlers.Func("never", func(context.Context, nothing) (int, error) { <-never; return 0, nil }))
		r.send(protocol.Task{ID: "a", Name: "never", HardLimit: time.Second})
		pass(time.Minute)
		r.wantException("a", "TimeLimitExceeded")
		if err := r.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		r.wantQueue("q", 0, 0)
	})
}

// rawLog writes messages as they are, as a handler that quotes nothing does.
type rawLog struct {
	slog.Handler
	out *logBuffer
}

func (l rawLog) Handle(_ context.Context, r slog.Record) error {
	_, err := fmt.Fprintf(l.out, "> %s\n", r.Message)
	return err
}

func TestMessagesCannotForgeLinesOfTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		out := &logBuffer{}
		r := startRig(t, func(c *Config) { c.Logger = slog.New(rawLog{slog.NewTextHandler(out, nil), out}) }, handlers.Func("double", double))
		id := "a\n[2026-11-21 00:00:00,000: ERROR/MainProcess] forged \x1b[31m"
		r.send(protocol.Task{ID: id, Name: "double", Shadow: "s\nh", Args: args(int64(1))})
		r.send(protocol.Task{ID: "b", Name: "no\nsuch"})
		synctest.Wait()
		r.wantState(id, protocol.Success)
		text := out.String()
		if !strings.Contains(text, "succeeded") || strings.Contains(text, "\n[2026") || strings.Contains(text, "\x1b") || strings.Contains(text, "\nh[") || strings.Contains(text, "no\nsuch") {
			t.Errorf("forged:\n%s", text)
		}
	})
}

func TestALostAckIsForgottenWhenItsCopyHasCome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var runs atomic.Int32
		r := startRig(t, nil, handlers.Func("count", func(context.Context, nothing) (int32, error) { return runs.Add(1), nil }))
		r.broker.Fail(membroker.Settle, 1, fmt.Errorf("test: %w", transports.ErrLost))
		r.send(protocol.Task{ID: "a", Name: "count"})
		synctest.Wait()
		r.broker.Cut()
		pass(time.Minute)
		if r.w.ledger.wasSettled(&protocol.Task{ID: "a"}) {
			t.Error("the run is still remembered: a new message of that id would be acked unrun when it is redelivered")
		}
	})
}
