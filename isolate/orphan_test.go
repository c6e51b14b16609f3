package isolate

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestNobodyOutlivesTheWorker: however the worker ends, its children do, busy and idle, whatever they do.
func TestNobodyOutlivesTheWorker(t *testing.T) {
	t.Parallel()
	for _, task := range []string{"deaf", "spin", "stopped"} {
		t.Run(task, func(t *testing.T) {
			t.Parallel()
			if task == "stopped" && runtime.GOOS != "linux" {
				t.Skip("only Linux ends a process that is stopped with its parent")
			}
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), "ISOLATE_TEST_WORKER="+task)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() }) // reaped long ago, unless the test has failed
			stop := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
			defer stop.Stop()
			var pids []int
			if err := json.NewDecoder(out).Decode(&pids); err != nil || len(pids) != 2 {
				t.Fatalf("the worker says %v, %v", pids, err)
			}
			for _, pid := range pids {
				if !alive(pid) {
					t.Errorf("child %d is not there", pid)
				}
			}
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // killed
			for _, pid := range pids {
				eventually(t, "the children are gone", func() bool { return !alive(pid) })
			}
		})
	}
}
