package isolate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A child is the worker's hold on one process. One run has it at a time: who took it from the pool gives it back.
type child struct {
	pool       *Pool
	name       string
	pid        int
	generation int
	wire       *wire
	in         *os.File // the child's calls come out of it
	frames     chan frame
	exited     chan struct{} // closed once the process is reaped and has said its last words
	output     *output

	// Of who has it.
	run   int64 // number of the last run
	tasks int   // that it has run
	peak  int64 // most resident memory it ever had, as it said last

	// Valid once exited is closed.
	status string
	signum int

	unwanted once // nobody reads frames any more

	mu     sync.Mutex
	reaped bool         // guarded by mu, as all below
	ours   bool         // we ended it
	why    string       // why we did, for whom it is lost
	spoilt bool         // it is not to be used again
	log    *slog.Logger // of the task that runs, or ran last
}

// once is a channel that is closed at most once, by anybody.
type once struct {
	done  chan struct{}
	guard sync.Once
}

func (o *once) close() { o.guard.Do(func() { close(o.done) }) }

// start makes a child and waits until it is ready.
func (p *Pool) start(ctx context.Context) (*child, error) {
	c := &child{pool: p, frames: make(chan frame, 1), exited: make(chan struct{}), unwanted: once{done: make(chan struct{})}, log: p.log}
	if err := c.begin(); err != nil {
		return nil, err
	}
	t := time.NewTimer(p.cfg.Alive)
	defer t.Stop()
	var err error
	select {
	case f, ok := <-c.frames:
		switch failed := text(f.body, "err"); {
		case !ok:
			c.kill("")
			<-c.exited
			err = fmt.Errorf("isolate: the child process ended before it was ready: %s%s", c.status, c.output.lastWords())
		case f.kind != frameHello:
			err = errDamaged
		case failed != "":
			err = fmt.Errorf("isolate: the child process is not ready: %s", failed)
		}
	case <-t.C:
		err = fmt.Errorf("isolate: timed out after %v waiting for the child process %d to be up", p.cfg.Alive, c.pid)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		p.leaves(c)
		c.discard()
		c.kill("")
		return nil, err
	}
	return c, nil
}

// begin starts the process and what reads from it.
func (c *child) begin() (err error) {
	p := c.pool
	var open []*os.File
	pipe := func() (r, w *os.File) {
		if err != nil {
			return nil, nil
		}
		if r, w, err = os.Pipe(); err == nil {
			open = append(open, r, w)
		}
		return r, w
	}
	tasks, in := pipe()
	results, out := pipe()
	said, says := pipe()
	closeAll := func(files []*os.File) {
		for _, f := range files {
			_ = f.Close()
		}
	}
	if err != nil {
		closeAll(open)
		return fmt.Errorf("isolate: %w", err)
	}
	path, err := program()
	if err != nil {
		closeAll(open)
		return err
	}
	cmd := &exec.Cmd{
		Path: path, Args: os.Args, Env: p.environment(), Stdout: says, Stderr: says,
		ExtraFiles: []*os.File{tasks, out}, SysProcAttr: attributes(),
	}
	c.in, c.wire = in, &wire{w: in}
	err = p.launch(cmd, func() {
		c.pid = cmd.Process.Pid
		p.mu.Lock()
		p.made++
		c.name, c.generation = "child-"+strconv.Itoa(p.made), p.generation
		p.all[c] = true
		doomed := p.closed
		p.wg.Add(3)
		p.mu.Unlock()
		c.output = newOutput(p.log, c.pid)
		go func() { // ends with the process, or when nobody wants its frames
			defer p.wg.Done()
			c.read(results)
		}()
		heard := make(chan struct{})
		go func() { // ends soon after the process
			defer p.wg.Done()
			defer close(heard)
			c.output.copy(said)
		}()
		go func() { // ends with the process
			defer p.wg.Done()
			c.wait(cmd, said, heard)
		}()
		if doomed {
			c.kill("")
		}
	})
	closeAll([]*os.File{tasks, out, says})
	if err != nil {
		closeAll([]*os.File{in, results, said})
		return fmt.Errorf("isolate: the child process does not start: %w", err)
	}
	return nil
}

// environment is the worker's, without what is for one process, and with what makes a child.
func (p *Pool) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "NOTIFY_SOCKET" || strings.HasPrefix(name, "LISTEN_FD") || name == "LISTEN_PID" || strings.HasPrefix(name, "WATCHDOG_")
	})
	env = append(env, childVariable+"="+version, noteVariable+"="+p.cfg.Note)
	if os.Getenv("GOMAXPROCS") == "" {
		// A slot is a CPU: a child has its part of them, and a second one for the garbage collector.
		n := runtime.GOMAXPROCS(0)
		if p.cfg.Slots != nil {
			n = (n + max(p.cfg.Slots(), 1) - 1) / max(p.cfg.Slots(), 1)
		}
		env = append(env, "GOMAXPROCS="+strconv.Itoa(max(n, 2)))
	}
	return env
}

// read passes the child's frames on, until there are none or nobody wants them.
func (c *child) read(results *os.File) {
	defer results.Close() //nolint:errcheck // only read
	defer close(c.frames)
	r := bufio.NewReader(results)
	for {
		f, err := receive(r)
		if err != nil {
			return // whoever has the child finds frames closed
		}
		if f.kind == frameRecord {
			c.record(f.body)
			continue
		}
		select {
		case c.frames <- f:
		case <-c.unwanted.done:
			return
		}
	}
}

// begins: what the child says from now on is of this run.
func (c *child) begins(log *slog.Logger, task []any) {
	c.mu.Lock()
	c.log = log
	c.mu.Unlock()
	c.output.begins(task)
}

// record writes a line of a handler's Logger. One that an earlier task left behind counts as the last one's.
func (c *child) record(o *protocol.Object) {
	c.mu.Lock()
	log := c.log
	c.mu.Unlock()
	replay(context.Background(), log, o)
}

// outputWait is how long the output of a dead child is waited for: what it has started may hold it open.
const outputWait = 200 * time.Millisecond

// wait reaps the process.
func (c *child) wait(cmd *exec.Cmd, said *os.File, heard <-chan struct{}) {
	err := cmd.Wait()
	c.mu.Lock()
	c.reaped = true
	ours := c.ours
	c.mu.Unlock()
	_ = said.SetReadDeadline(time.Now().Add(outputWait))
	<-heard
	_ = said.Close()
	_ = c.in.Close()
	if cmd.ProcessState != nil {
		c.status, c.signum = exitStatus(cmd.ProcessState)
	} else {
		c.status = fmt.Sprint(err)
	}
	c.output.end(func(crash string) {
		attrs := []any{"pid", c.pid}
		if crash != "" {
			attrs = append(attrs, "output", crash)
		}
		switch {
		case !ours && (c.signum != 0 || c.status != "exitcode 0"):
			c.pool.log.Error(fmt.Sprintf("Process '%s' pid:%d exited with '%s'", c.name, c.pid, c.status), attrs...)
		case crash != "":
			c.pool.log.Warn(fmt.Sprintf("Process '%s' pid:%d said", c.name, c.pid), attrs...)
		}
	})
	close(c.exited)
	c.pool.gone(c)
}

// alive reports whether the process has not been seen to end.
func (c *child) alive() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

func (c *child) doomed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spoilt
}

// spoil keeps the child from being used again: what it does now is not known.
func (c *child) spoil() {
	c.mu.Lock()
	c.spoilt = true
	c.mu.Unlock()
}

// kill ends the process at once, and what it has started. why is told to whom it is lost for.
func (c *child) kill(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ours, c.spoilt = true, true
	if c.why == "" {
		c.why = why
	}
	// Reaped under the same lock, so that the id is no other process's. The moment between the end and the mark is
	// too short for the ids to come round.
	if !c.reaped && c.pid > 0 {
		killGroup(c.pid)
	}
}

// finish ends what is left of the process once its pipe has ended. It changes nothing about how a dead one has ended.
func (c *child) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoilt = true
	if !c.reaped {
		killGroup(c.pid)
	}
}

func (c *child) wasOurs() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ours
}

// expect notes that the end of the process, whenever it comes, is our doing.
func (c *child) expect() {
	c.mu.Lock()
	c.ours, c.spoilt = true, true
	c.mu.Unlock()
}

func (c *child) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// discard lets go of the child's frames. It is not in the pool's idle list any more.
func (c *child) discard() { c.unwanted.close() }

// retireWait is how long a child may take to end by itself.
const retireWait = 2 * time.Second

// retire lets an idle child end by itself, and sees to it. It does not wait.
func (c *child) retire() {
	p := c.pool
	p.leaves(c)
	c.expect()
	c.discard()
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.wg.Add(1)
	}
	p.mu.Unlock()
	_ = c.in.Close()
	if closed {
		c.kill("")
		return
	}
	go func() { // ends with the process; Close kills that
		defer p.wg.Done()
		t := time.NewTimer(retireWait)
		defer t.Stop()
		select {
		case <-c.exited:
		case <-t.C:
			c.kill("")
			<-c.exited
		}
	}()
}

func kib(n int64) string { return strconv.FormatInt(n>>10, 10) }

var errNoChild = errors.New("isolate: no child takes the task")
