package interop_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRevokedTasksSurviveAKill: what was revoked is known to the worker that comes after one that was killed.
func TestRevokedTasksSurviveAKill(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		s = s.with("control_exchange", unique("state"))
		queue, dir := unique("state"), t.TempDir()
		w := s.stalk(t, queue, "-S", filepath.Join(dir, "%n.state"))
		path := filepath.Join(dir, w.name+".state")
		p := s.python(t, queue)
		p.run(`
			ids = [str(uuid.uuid4()) for _ in range(3)]
			app.control.revoke(ids, destination=[NODE], reply=True, timeout=60)
			value = ids
		`, map[string]any{"NODE": w.name + "@test"})
		ids := p.strings(`value = ids`)
		until(t, "the ids to be in the file", func() bool {
			text, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(text), ids[0]) && strings.Contains(string(text), ids[2])
		})
		w.kill()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		s.stalk(t, queue, "-S", path)
		p.run(`
			revoked = [add.apply_async((1,), queue=Q, task_id=i) for i in ids]
			assert add.apply_async((1,), queue=Q).get(timeout=60) == 2
			wait(lambda: [r.state for r in revoked] == ["REVOKED"] * 3)
		`)
	})
}

// TestStateOfAPythonWorkerIsRefused: the file that --statedb makes in Python is left alone.
func TestStateOfAPythonWorkerIsRefused(t *testing.T) {
	need(t)
	t.Parallel()
	dir := t.TempDir()
	made, err := exec.Command(python, "-c", "import shelve, sys; d = shelve.open(sys.argv[1]); d['clock'] = 1; d.close()", filepath.Join(dir, "state")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, made)
	}
	files := func() string { // one or several, as Python is built
		found, err := filepath.Glob(filepath.Join(dir, "state*"))
		if err != nil || len(found) == 0 {
			t.Fatalf("%q, %v", found, err)
		}
		all := ""
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all += path + "\n" + string(text)
		}
		return all
	}
	before := files()
	cmd := exec.Command(stalkBin, "-b", redisURL, "worker", "--demo", "-S", filepath.Join(dir, "state"))
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), "is the state db of a Python worker") {
		t.Errorf("code %d\n%s", code, out)
	}
	if after := files(); after != before {
		t.Errorf("files before:\n%s\nand after:\n%s", before, after)
	}
}

// TestRedeliveredSuccessIsNotRepeated: a task whose worker died after its success was stored does not run again where
// worker_deduplicate_successful_tasks is set, and what follows it runs.
func TestRedeliveredSuccessIsNotRepeated(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		s = s.rescuing().with("worker_deduplicate_successful_tasks", true)
		queue := unique("again")
		p := s.python(t, queue)
		w := s.stalk(t, queue, "-c", "1")
		p.run(`
			first = sleep.s(600).set(queue=Q, task_id=str(uuid.uuid4()))
			last = (first | add.s(5).set(queue=Q)).apply_async()
			value = [first.id]
		`)
		id := p.strings(`value = [first.id]`)[0]
		w.waitLog("Task demo.sleep[" + id + "] received")
		p.run(`app.backend.store_result(first.id, 10, "SUCCESS")`)
		w.kill()
		began := time.Now()
		again := s.stalk(t, queue, "-c", "1")
		again.waitLog("Task demo.sleep[" + id + "] Task already completed successfully.")
		p.run(`assert last.get(timeout=60) == 15`)
		if took := time.Since(began); took > 4*time.Minute {
			t.Errorf("it took %v", took)
		}
		again.stop() // nothing is left that it would wait for
	})
}
