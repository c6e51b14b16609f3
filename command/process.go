package command

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// A process is what a command may touch of the world.
type process struct {
	name           string    // the program's, for completion
	stdin          io.Reader // nil: nobody answers questions
	stdout, stderr io.Writer
	environ        []string
	args           []string         // the command line, for a restart
	signals        <-chan os.Signal // instead of the real ones; nil: none come, unless the process is our own
	own            bool             // it is ours: its signals, and what it becomes after a restart
}

// env is a variable of the environment, "" when it is not set.
func (p process) env(name string) string {
	for i := len(p.environ) - 1; i >= 0; i-- {
		if key, value, _ := strings.Cut(p.environ[i], "="); key == name {
			return value
		}
	}
	return ""
}

// watch begins to listen to signals; before that, and after the end it returns, they do what they do to any
// process. HUP is left alone on a terminal, whose end it tells, and where it is ignored (nohup).
func (p process) watch() (signals <-chan os.Signal, end func()) {
	if p.signals != nil || !p.own {
		return p.signals, func() {}
	}
	c := make(chan os.Signal, 16) // more at a time than anybody sends
	wanted := []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}
	if !terminal(os.Stdout) && !signal.Ignored(syscall.SIGHUP) {
		wanted = append(wanted, syscall.SIGHUP)
	}
	if sigDump != nowhere {
		wanted = append(wanted, sigDump)
	}
	signal.Notify(c, wanted...)
	signal.Ignore(syscall.SIGPIPE) // whoever reads our log may end before us
	return c, func() { signal.Stop(c) }
}

// interruptible is ctx, which TERM, INT and QUIT end where they would end the process: for what is done before watch.
func (p process) interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	if !p.own {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
}

// nowhere is a signal that does not come.
const nowhere = syscall.Signal(-1)

// terminal reports whether f is one: a character device that is not the null device.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// cpus is how many tasks run at a time by default: GOMAXPROCS, which follows the cgroup's CPU quota.
func cpus() int { return runtime.GOMAXPROCS(0) }

// alive reports whether a process of that id exists and is one of ours, as far as we may look.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}
