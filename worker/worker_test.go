package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
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
		if !slices.ContainsFunc(r.broker.Messages("q.quarantine"), func(m protocol.Message) bool { return string(m.Body) == "{not json" }) {
			t.Error("no quarantined body is untouched")
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

// The worker's rate (task_default_rate_limit) is for tasks without one of their own, each for itself.
func TestDefaultRateLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		began, ran := time.Now(), map[string][]time.Duration{}
		task := func(name string) handlers.Handler {
			return handlers.Func(name, func(context.Context, nothing) (int, error) {
				ran[name] = append(ran[name], time.Since(began).Round(time.Second))
				return 0, nil
			})
		}
		r := startRig(t, func(c *Config) { c.Rate, c.Prefetch = "6/m", 20 }, task("a"), task("b"), task("own").With(handlers.Options{Rate: "20/m"}))
		for i := range 3 {
			for _, name := range []string{"a", "b", "own"} {
				r.send(protocol.Task{ID: fmt.Sprint(name, i), Name: name})
			}
		}
		pass(time.Minute)
		for name, gap := range map[string]time.Duration{"a": 10, "b": 10, "own": 3} {
			if want := []time.Duration{0, gap * time.Second, 2 * gap * time.Second}; !slices.Equal(ran[name], want) {
				t.Errorf("%s ran at %v, want %v", name, ran[name], want)
			}
		}
	})
}

func TestNewNamesEveryMistake(t *testing.T) {
	_, err := New(Config{Concurrency: -1, Rate: "5/y", RevokesMax: -1, Settle: -1, Queues: []transports.Queue{{Name: "a"}, {Name: "a"}, {}}})
	for _, part := range []string{"Transport is required", "Handlers is required", "Concurrency is -1", "RevokesMax is -1", `Rate: handlers: rate "5/y"`, "Settle is", `"a" twice`, "without a name"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("New = %v, want it to say %q", err, part)
		}
	}
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
