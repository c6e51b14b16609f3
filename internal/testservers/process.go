package testservers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A process is one child in a process group of its own, so that what it forks can be ended with it.
type process struct {
	name string
	log  string // file with its output
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and was waited for
}

// run starts a program in dir with its output in dir/<name>.log. A nil env means ours.
func run(dir string, prog program, env []string, args ...string) (*process, error) {
	p := &process{name: filepath.Base(prog.path), done: make(chan struct{})}
	p.log = filepath.Join(dir, p.name+".log")
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("testservers: %w", err)
	}
	defer out.Close()
	p.cmd = prog.command(context.Background(), dir, args)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, out, out
	p.cmd.SysProcAttr = childAttributes()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("testservers: %w", err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait() // its exit code is in the log when it matters; end waits for done
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// end signals the process to stop, and its whole group to die after grace.
func (p *process) end(grace time.Duration) error {
	if grace > 0 {
		p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended, which done will say
		select {
		case <-p.done:
		case <-time.After(grace):
		}
	}
	// The group, also after the leader has ended: RabbitMQ leaves helpers (inet_gethost, a disk monitor)
	// that notice late. ESRCH means that nobody is left.
	if err := syscall.Kill(-p.pid(), syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("testservers: ending %s (%d): %w", p.name, p.pid(), err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("testservers: %s (%d) does not end", p.name, p.pid())
	}
}

// logTail is the end of the log, for an error message.
func (p *process) logTail() string {
	const most = 4 << 10
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}
