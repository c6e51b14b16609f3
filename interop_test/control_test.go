package interop_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// celeryCommand runs the celery command line against the setup's broker and returns its JSON.
func (s setup) celeryCommand(t *testing.T, args ...string) map[string]any {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python, append([]string{"-m", "celery", "-b", s.broker}, args...)...)
	cmd.Env = s.environment()
	cmd.Dir = scratch
	out, err := cmd.Output()
	var got map[string]any
	if err == nil {
		err = json.Unmarshal(out, &got)
	}
	if err != nil {
		t.Fatalf("celery %q: %v\n%s", args, err, out)
	}
	return got
}

func TestCeleryInspectSeesANode(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("inspect")
		w := s.stalk(t, queue)
		node := w.name + "@test"
		inspect := func(command ...string) any {
			t.Helper()
			got := s.celeryCommand(t, append([]string{"inspect", "-d", node, "-t", "60", "-j"}, command...)...)
			if len(got) != 1 || got[node] == nil {
				t.Fatalf("inspect %q = %v, want %s alone", command, got, node)
			}
			return got[node]
		}
		if pong, _ := inspect("ping").(map[string]any); pong["ok"] != "pong" {
			t.Errorf("ping = %v", pong)
		}
		if active := inspect("active").([]any); len(active) != 0 {
			t.Errorf("active = %v", active)
		}
		found := false
		for _, name := range inspect("registered").([]any) {
			found = found || name == "demo.add"
		}
		if !found {
			t.Error("registered does not name demo.add")
		}
		stats := inspect("stats").(map[string]any)
		pool := stats["pool"].(map[string]any)
		if pool["max-concurrency"] != 2.0 || len(pool["processes"].([]any)) != 2 || stats["pid"] != float64(w.cmd.Process.Pid) {
			t.Errorf("stats = %v", stats)
		}
		if conf := inspect("conf").(map[string]any); conf["broker_url"] == nil {
			t.Errorf("conf = %v", conf)
		}
	})
}

// TestInspectShowsTheSameRowsAsPython: what a busy node tells of its tasks has the keys, types and values that
// a Python node tells.
func TestInspectShowsTheSameRowsAsPython(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		code := `
			import celery
			i = app.control.inspect(destination=[NODE], timeout=60)
			assert i.ping() == {NODE: {"ok": "pong"}}
			# The one to hold comes first: Stalk decodes no message while all slots are taken.
			held = add.apply_async((1,), {"y": 2}, queue=Q, countdown=3600, priority=3)
			wait(lambda: i.scheduled()[NODE])
			began = time.time()
			running = [sleep.apply_async((600,), queue=Q) for _ in range(SLOTS)]
			wait(lambda: len(i.active()[NODE]) == SLOTS)
			rows = {}
			row = sorted(i.active()[NODE], key=lambda r: r["time_start"])[0]
			assert row["id"] in [r.id for r in running]
			assert began - 10 < row["time_start"] < time.time()
			assert isinstance(row["worker_pid"], int) and row["hostname"] == NODE
			for k in ("id", "time_start", "worker_pid", "hostname", "acknowledged"):
			    del row[k]
			rows["active"] = row
			later, = i.scheduled()[NODE]
			assert later["request"]["id"] == held.id and later["request"]["worker_pid"] is None and later["request"]["time_start"] is None
			assert datetime.datetime.fromisoformat(later.pop("eta")).timestamp() > began + 3500
			for k in ("id", "hostname"):
			    del later["request"][k]
			rows["scheduled"] = later
			asked = i.query_task([running[0].id, held.id, "none"])[NODE]
			rows["query"] = sorted(state for state, _ in asked.values())
			if celery.VERSION < (5, 7): # which did not find what waits for its time
			    rows["query"] = [state for state in rows["query"] if state != "scheduled"]
			rows["reserved"] = i.reserved()[NODE]
			rows["queues"] = i.active_queues()[NODE]
			rows["queues"][0]["queue_arguments"] = None
			rows["stats"] = sorted(i.stats()[NODE])
			rows["unknown"] = app.control.broadcast("nosuch", reply=True, destination=[NODE], timeout=60, limit=1)[0][NODE]
			rows["typo"] = app.control.broadcast("query_task", reply=True, destination=[NODE], timeout=60, limit=1)[0][NODE]
			value = rows
		`
		rows := func(w *worker, queue string, slots int) string {
			t.Helper()
			defer w.kill()
			found := s.python(t, queue).run(code, map[string]any{"NODE": w.name + "@test", "SLOTS": slots})
			return strings.ReplaceAll(string(found), queue, "QUEUE")
		}
		mine, other := unique("rows"), unique("rows") // what a killed node leaves is not the other's
		ours := rows(s.stalk(t, mine), mine, 2)
		theirs := rows(s.celery(t, other, "-P", "prefork", "-c", "2"), other, 2)
		if ours != theirs {
			t.Errorf("Stalk tells %s\nPython tells %s", ours, theirs)
		}
	})
}

// TestANodeNameThatIsTakenStopsNoTask: the second node of a name gets no mailbox on RabbitMQ, and works.
func TestANodeNameThatIsTakenStopsNoTask(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		queue, other := unique("twin"), unique("twin")
		w := s.stalk(t, queue)
		twin := s.startStalk(t, other, "-n", w.name+"@test")
		twin.waitLog(w.name + "@test ready.")
		s.python(t, other).run(`assert add.apply_async((1,), queue=Q).get(timeout=60) == 2`)
		w.stop()
		s.python(t, other).run(`
			i = app.control.inspect(destination=[NODE], timeout=5)
			wait(lambda: i.ping() == {NODE: {"ok": "pong"}}, 40)
		`, map[string]any{"NODE": w.name + "@test"})
	}, onRabbitMQ)
}

// TestAnswersDuringWarmShutdown: who asks while the last task runs is told.
func TestAnswersDuringWarmShutdown(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("leaving")
		w := s.stalk(t, queue)
		p := s.python(t, queue)
		p.run(`
			i = app.control.inspect(destination=[NODE], timeout=60)
			r = sleep.apply_async((NAP,), queue=Q)
			wait(lambda: i.active()[NODE])
		`, map[string]any{"NODE": w.name + "@test"}, napping())
		w.signal(syscall.SIGTERM)
		w.waitLog("Warm shutdown")
		p.run(`
			assert [row["id"] for row in i.active()[NODE]] == [r.id]
			if NAP > 10:
			    r.revoke(terminate=True)
			r.get(timeout=60, propagate=False)
		`, map[string]any{"NODE": w.name + "@test"})
		if code := w.wait(90 * time.Second); code != 0 {
			t.Errorf("ended with %d", code)
		}
	})
}
