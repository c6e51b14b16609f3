package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// stubborn is a task that tells the cause of its context's end and returns only when it is let.
func stubborn(cause chan<- error, let <-chan struct{}) handlers.Handler {
	return handlers.Func("stubborn", func(ctx context.Context, _ nothing) (string, error) {
		<-ctx.Done()
		cause <- context.Cause(ctx)
		<-let
		return "late", nil
	})
}

func wantTerminated(t *testing.T, r *rig, id, reason string) {
	t.Helper()
	res := r.wantState(id, protocol.Revoked)
	if res.Exception == nil || res.Exception.Repr() != "TaskRevokedError('"+reason+"')" {
		t.Errorf("%s: %v, want TaskRevokedError('%s')", id, res.Exception, reason)
	}
}

func TestTerminateEndsARunningTask(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cause, let := make(chan error, 1), make(chan struct{})
		r := startRig(t, nil, stubborn(cause, let), handlers.Func("double", double))
		c := r.client()
		r.send(protocol.Task{ID: "a", Name: "stubborn"})
		r.send(protocol.Task{ID: "next", Name: "double", Args: args(int64(1))})
		synctest.Wait()
		c.want("revoke", `{"ok": "terminate: a"}`, arg("task_id", "a"), arg("terminate", true))
		synctest.Wait()
		if err := <-cause; !errors.Is(err, handlers.ErrTerminated) {
			t.Errorf("the handler's context ended with %v", err)
		}
		wantTerminated(t, r, "a", "terminated") // at once, while the handler still runs
		r.wantLog("Terminating a (15)")
		r.wantQueue("q", 1, 0) // acked; its slot is still taken
		c.want("active", "[]")
		c.want("revoke", `{"ok": "terminate: tasks unknown"}`, arg("task_id", "a"), arg("terminate", true))
		close(let)
		pass(time.Second)
		wantTerminated(t, r, "a", "terminated") // the late result is dropped
		r.wantState("next", protocol.Success)
		if s := r.w.Stats(); s.Revoked != 1 || s.Succeeded != 1 || s.Active != 0 || s.InUse != 0 {
			t.Errorf("stats = %+v", s)
		}
	})
}

func TestTerminateBySignal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Concurrency = 9 }, waiting())
		c := r.client()
		for _, id := range []string{"kill", "usr1", "nine", "cmd", "list1", "list2"} {
			r.send(protocol.Task{ID: id, Name: "wait"})
		}
		synctest.Wait()
		terminate := arg("terminate", true)
		for _, bad := range []struct {
			signal protocol.Value
			want   string
		}{
			{"BOGUS", `{"error": "AttributeError(\"module 'signal' has no attribute 'SIGBOGUS'\")"}`},
			{"sigterm", `{"error": "TypeError('signal name must be uppercase string.')"}`},
			{"9", `{"error": "TypeError('signal name must be uppercase string.')"}`},
			{2.5, `{"error": "TypeError('signal name must be uppercase string.')"}`},
			{int64(999), `{"error": "OSError(22, 'Invalid argument')"}`},
		} {
			c.want("revoke", bad.want, arg("task_id", "kill"), terminate, arg("signal", bad.signal))
		}
		c.want("revoke", `{"ok": "terminate: tasks unknown"}`, arg("task_id", "none"), terminate, arg("signal", int64(999)))
		c.want("revoke", `{"ok": "tasks {'none'} flagged as revoked"}`, arg("task_id", "none"), arg("signal", "BOGUS"))
		r.wantActive(6)
		c.want("revoke", `{"ok": "terminate: kill"}`, arg("task_id", "kill"), terminate, arg("signal", "SIGKILL"))
		c.want("revoke", `{"ok": "terminate: usr1"}`, arg("task_id", "usr1"), terminate, arg("signal", "USR1"))
		c.want("revoke", `{"ok": "terminate: nine"}`, arg("task_id", "nine"), terminate, arg("signal", int64(9)))
		c.want("terminate", `{"ok": "terminate: cmd"}`, arg("task_id", "cmd"), arg("signal", nil))
		c.want("terminate", `{"ok": "terminate: list1, list2"}`, arg("task_id", []protocol.Value{"list2", "none", "list1"}), arg("signal", "TERM"))
		c.want("terminate", `{"error": "TypeError(\"terminate() missing 2 required positional arguments: 'signal' and 'task_id'\")"}`)
		r.wantActive(0)
		for _, id := range []string{"kill", "usr1", "nine", "cmd", "list1", "list2"} {
			wantTerminated(t, r, id, "terminated")
		}
		r.wantLog("Terminating kill (9)")
		r.wantLog("Terminating usr1 (10)")
		r.wantQueue("q", 0, 0)
	})
}

func TestTerminateBeforeTheRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ran := 0
		r := startRig(t, nil, handlers.Func("count", func(context.Context, nothing) (int, error) { ran++; return ran, nil }))
		c := r.client()
		r.send(protocol.Task{ID: "eta", Name: "count", ETA: time.Now().Add(5 * time.Hour)}) // longer than ids stay revoked
		r.send(protocol.Task{ID: "soon", Name: "count", ETA: time.Now().Add(time.Minute)})
		synctest.Wait()
		c.want("revoke", `{"ok": "terminate: eta, soon"}`, arg("task_id", []protocol.Value{"eta", "soon"}), arg("terminate", true))
		wantTerminated(t, r, "eta", "revoked")
		if got := c.ask("scheduled"); !strings.Contains(got, `"id": "eta"`) || !strings.Contains(got, `"id": "soon"`) {
			t.Errorf("a revoked task does not wait for its time: %s", got)
		}
		pass(6 * time.Hour)
		if ran != 0 {
			t.Errorf("%d terminated tasks ran", ran)
		}
		wantTerminated(t, r, "soon", "revoked")
		wantTerminated(t, r, "eta", "terminated")
		r.wantQueue("q", 0, 0)
	})
}

func TestTerminateByStamps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, func(c *Config) { c.Concurrency = 5 }, waiting())
		c := r.client()
		for id, value := range map[string]protocol.Value{"a": []protocol.Value{"1", "2"}, "b": "3", "c": "4", "d": protocol.ObjectOf()} {
			r.send(protocol.Task{ID: id, Name: "wait", StampNames: []string{"mm"}, Stamps: protocol.ObjectOf(arg("mm", value))})
		}
		r.send(protocol.Task{ID: "plain", Name: "wait"})
		r.wantActive(5)
		c.want("revoke_by_stamped_headers", `{"ok": "headers {'mm': '9', 'zz': [1]} were not terminated"}`,
			arg("headers", protocol.ObjectOf(arg("mm", "9"), arg("zz", []protocol.Value{int64(1)}))), arg("terminate", true))
		c.want("revoke_by_stamped_headers", `{"ok": "headers defaultdict(<class 'set'>, {'mm': {'1', '2', '3'}}) revoked"}`,
			arg("headers", protocol.ObjectOf(arg("mm", []protocol.Value{"2", "1", "3", "q", protocol.ObjectOf()}))), arg("terminate", true), arg("signal", "KILL"))
		r.wantActive(3)
		wantTerminated(t, r, "a", "terminated")
		wantTerminated(t, r, "b", "terminated")
		c.want("revoke_by_stamped_headers", `{"ok": "headers defaultdict(<class 'set'>, {'mm': {'4'}}) revoked"}`, arg("headers", []protocol.Value{"mm=4=x", "no=1"}), arg("terminate", true))
		r.wantActive(2)
		for _, bad := range []struct {
			headers protocol.Value
			want    string
		}{
			{[]protocol.Value{"a"}, `{"error": "IndexError('list index out of range')"}`},
			{[]protocol.Value{int64(5)}, `{"error": "AttributeError(\"'int' object has no attribute 'split'\")"}`},
			{int64(5), `{"error": "AttributeError(\"'int' object has no attribute 'items'\")"}`},
			{"abc", `{"error": "AttributeError(\"'str' object has no attribute 'items'\")"}`},
			{protocol.ObjectOf(), `{"ok": "headers {} flagged as revoked, but not terminated"}`},
		} {
			c.want("revoke_by_stamped_headers", bad.want, arg("headers", bad.headers))
		}
		c.want("revoke_by_stamped_headers", `{"error": "AttributeError(\"module 'signal' has no attribute 'SIGBOGUS'\")"}`,
			arg("headers", protocol.ObjectOf(arg("mm", "4"))), arg("signal", "BOGUS"))
	})
}

// TestTerminateTakesTheCustomStateAndDropsProgress: a state of the handler's own making does not stay, and nothing is
// stored after the end.
func TestTerminateDropsLateProgress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		let := make(chan struct{})
		var late error
		r := startRig(t, nil, handlers.Func("upload", func(ctx context.Context, _ nothing) (int, error) {
			if err := handlers.Report(ctx, "UPLOADING", 1); err != nil {
				return 0, err
			}
			<-ctx.Done()
			<-let
			late = handlers.Report(ctx, "UPLOADING", 2)
			return 1, nil
		}).With(handlers.Options{EarlyAck: true}))
		c := r.client()
		r.send(protocol.Task{ID: "a", Name: "upload"})
		synctest.Wait()
		r.wantState("a", "UPLOADING")
		c.want("revoke", `{"ok": "terminate: a"}`, arg("task_id", "a"), arg("terminate", true))
		synctest.Wait()
		wantTerminated(t, r, "a", "terminated")
		close(let)
		synctest.Wait()
		if late == nil {
			t.Error("a terminated task reports")
		}
		wantTerminated(t, r, "a", "terminated")
		r.wantQueue("q", 0, 0)
	})
}

// TestTerminateDuringShutdown: a handler that heeds nothing does not hold the end of a worker that has been told.
func TestTerminateDuringShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cause, let := make(chan error, 1), make(chan struct{})
		defer close(let)
		r := startRig(t, func(c *Config) { c.Grace = -1 }, stubborn(cause, let))
		c := r.client()
		r.send(protocol.Task{ID: "a", Name: "stubborn"})
		synctest.Wait()
		r.cancel()
		pass(time.Minute)
		c.want("revoke", `{"ok": "terminate: a"}`, arg("task_id", "a"), arg("terminate", true))
		if err := r.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		wantTerminated(t, r, "a", "terminated")
		r.wantQueue("q", 0, 0)
	})
}

// TestRevokeWhileTheStoreIsAway: no other answer waits for the store, and the state is stored once it is back.
func TestRevokeWhileTheStoreIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := startRig(t, nil, handlers.Func("double", double))
		c := r.client()
		r.results.Away(true)
		var ids []protocol.Value
		for i := range 200 {
			ids = append(ids, "x"+strings.Repeat("i", i))
		}
		began := time.Now()
		for range 20 {
			if got := c.ask("revoke", arg("task_id", ids)); !strings.HasPrefix(got, `{"ok": `) {
				t.Fatalf("revoke = %s", got)
			}
		}
		c.want("ping", `{"ok": "pong"}`)
		if took := time.Since(began); took > time.Second {
			t.Errorf("twenty revokes and a ping took %v", took)
		}
		pass(time.Minute)
		r.results.Away(false)
		pass(time.Minute)
		for _, id := range ids {
			wantTerminated(t, r, id.(string), "revoked")
		}
		if got := r.log.String(); strings.Count(got, "state REVOKED is not stored") > 5 {
			t.Errorf("the log says it too often:\n%s", got)
		}
		r.results.Away(true) // and the end does not wait for the store either
		c.want("revoke", `{"ok": "tasks {'y'} flagged as revoked"}`, arg("task_id", "y"))
		if err := r.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// TestTerminateTellsTheChord: a terminated member fails its chord, as a revoked one does.
func TestTerminateTellsTheChord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := canvasRig(t, nil, waiting())
		c := r.client()
		member := canvas.New("wait")
		p := r.apply(canvas.Chord([]canvas.Signature{canvas.New("add", 1, 2), member}, canvas.New("sum")))
		r.wantActive(1)
		id := r.w.ledger.sightings(isActive)[0].task.ID
		c.want("revoke", `{"ok": "terminate: `+id+`"}`, arg("task_id", id), arg("terminate", true))
		pass(time.Second)
		wantTerminated(t, r, id, "terminated")
		if exc := r.wantException(p.ID(), "ChordError"); !strings.Contains(exc.Repr(), "TaskRevokedError('terminated')") {
			t.Errorf("the body is told %s", exc.Repr())
		}
	})
}

// Terminate comes while STARTED is on its way to a slow store: the handler does not begin any more.
func TestTerminateBeforeTheHandlerBegins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ran := 0
		r := startRig(t, func(c *Config) { c.TrackStarted = true }, handlers.Func("count", func(context.Context, nothing) (int, error) { ran++; return ran, nil }))
		c := r.client()
		r.results.Delay(time.Second)
		r.send(protocol.Task{ID: "a", Name: "count"})
		pass(500 * time.Millisecond)
		c.want("revoke", `{"ok": "terminate: a"}`, arg("task_id", "a"), arg("terminate", true))
		pass(10 * time.Second)
		if ran != 0 {
			t.Error("a terminated task ran")
		}
		wantTerminated(t, r, "a", "terminated")
		r.wantQueue("q", 0, 0)
		if s := r.w.Stats(); s.InUse != 0 || s.Active != 0 {
			t.Errorf("stats = %+v", s)
		}
		if s := r.w.TaskStats(); len(s) != 1 || s[0].Outcomes["terminated"] != 1 || s[0].Outcomes["revoked"] != 0 || s[0].Revoked != 1 || s[0].OtherRuns.Count() != 1 {
			t.Errorf("counted as %+v", s)
		}
	})
}
