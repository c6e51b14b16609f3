package command

import (
	"os"
	"runtime"
	"syscall"
)

// cpus is how many tasks run at a time by default: GOMAXPROCS, which follows the cgroup's CPU quota.
func cpus() int { return runtime.GOMAXPROCS(0) }

// alive reports whether a process of that id exists.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}
