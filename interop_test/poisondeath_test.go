package interop_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestATaskThatEndsItsWorkerEndsInQuarantine: a handler that takes the process with it does so as often as
// --max-deliveries says. Then its caller is told, its message is in quarantine, whole, and the tasks behind it have run. Replayed
// once its cause is mended it ends well.
func TestATaskThatEndsItsWorkerEndsInQuarantine(t *testing.T) {
	quorum := func() setup {
		s := onRabbitMQ().with("task_create_missing_queue_type", "quorum")
		s.name = "quorum queue"
		return s
	}
	norpc := func() setup { // a store that counts nothing, on Redis
		s := onRedis()
		s.name, s.backend = "redis+rpc", "rpc://"
		return s
	}
	on(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery runs such a task for ever")
		}
		if s.name == "quorum queue" {
			since(t, 7, "task_create_missing_queue_type")
		}
		tasks := []string{"poison.exit"}
		switch s.name {
		case "rabbitmq+rpc":
			tasks = append(tasks, "poison.panic")
		case "redis", "rabbitmq":
			tasks = append(tasks, "poison.memory")
		}
		for _, task := range tasks {
			if task == "poison.memory" && runtime.GOOS != "linux" {
				continue
			}
			t.Run(task, func(t *testing.T) {
				t.Parallel()
				die(t, s.rescuing(), task)
			})
		}
	}, onRedis, onRabbitMQ, onRPC, quorum, norpc)
}

func die(t *testing.T, s setup, task string) {
	const limit = 3
	queue, path := unique("poison"), filepath.Join(t.TempDir(), "starts")
	p := s.python(t, queue)
	p.run(`
		poison = app.send_task(TASK, (PATH,), queue=Q)
		good = [app.send_task("diff.add", (i, 1), queue=Q) for i in range(5)]
	`, map[string]any{"TASK": task, "PATH": path})
	told := p.start(`
		exc = raises("WorkerLostError", None, poison.get, timeout=300)
		assert "quarantine" in str(exc), exc
		assert poison.state == "FAILURE"
	`)
	starts := func() int {
		b, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return len(b)
	}
	deaths, program := 0, plain(t)
	for deadline := time.Now().Add(5 * time.Minute); ; {
		if time.Now().After(deadline) {
			t.Fatalf("after %d deaths the task still runs", deaths)
		}
		w := s.startProgram(t, program, queue, "--max-deliveries", "3")
		select {
		case <-w.done:
			// such as "fatal error: runtime: out of memory"
			if task == "poison.memory" && !strings.Contains(string(w.output()), "fatal error: ") {
				t.Fatalf("the worker did not end for want of memory:\n%s", tail(w.log))
			}
			if deaths++; deaths > limit {
				t.Fatalf("the worker died %d times, the task was started %d times, want %d", deaths, starts(), limit)
			}
			continue
		case a := <-told:
			if a.Error != "" {
				t.Fatal(a.Error)
			}
		}
		break
	}
	if n := starts(); n != limit || deaths != limit {
		t.Errorf("the task was started %d times and the worker died %d times, want %d", n, deaths, limit)
	}
	p.run(`
		assert [r.get(timeout=60) for r in good] == [1, 2, 3, 4, 5]
		assert app.send_task("diff.add", (2, 3), queue=Q).get(timeout=60) == 5
		wait(lambda: left(Q + ".quarantine") == 1)
	`)
	if err := os.WriteFile(path+".cured", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var id string
	p.value(`value = poison.id`, &id)
	stalk := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(stalkBin, append([]string{"-b", s.broker, "quarantine"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("stalk quarantine %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if shown := stalk("show", "-Q", queue); !strings.Contains(shown, id) || !strings.Contains(shown, task) || !strings.Contains(shown, path) {
		t.Errorf("quarantine show does not name the task, its id and its argument:\n%s", shown)
	}
	stalk("replay", "-Q", queue, id)
	p.run(`
		wait(lambda: left(Q + ".quarantine") == 0)
		wait(lambda: left(Q) == 0)
	`)
	deadline := time.Now().Add(40 * time.Second)
	for starts() != limit+1 {
		if time.Now().After(deadline) {
			t.Fatalf("replayed, the task was started %d times in all, want %d", starts(), limit+1)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if s.backend != "rpc://" { // there a second answer is nobody's
		p.run(`
			poison = AsyncResult(poison.id) # the first one keeps what it was told
			wait(lambda: AsyncResult(poison.id).state == "SUCCESS")
			assert AsyncResult(poison.id).get(timeout=60) == "cured"
		`)
	}
}
