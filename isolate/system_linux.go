package isolate

import (
	"os"
	"syscall"
)

// attributes make the child the head of a group of its own, so that Ctrl-C at a terminal reaches the worker alone, and end
// it with the thread that starts it. That thread is the nursery's, which lives as long as the worker.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// program is the file to start. The link leads to the very program that runs, also when its file was replaced or removed.
func program() (string, error) {
	const link = "/proc/self/exe"
	if _, err := os.Stat(link); err == nil {
		return link, nil
	}
	return os.Executable()
}

// offerToKiller makes this process the one that the kernel ends first when memory is short, before the worker.
func offerToKiller() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0) // without /proc the kernel decides alone
}
