package isolate

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/stalkworker/stalk/handlers"
)

// Config is what a Pool does with its children. The zero Config is usable.
type Config struct {
	Note      string        // what ServeFunc's build is given in a child
	Slots     func() int    // how many children may be kept; nil: as many as were ever busy at a time
	MaxTasks  int           // a child is replaced after so many tasks (worker_max_tasks_per_child); 0: never
	MaxMemory int64         // and after a task once it has had so many resident bytes (worker_max_memory_per_child); 0: never
	Alive     time.Duration // how long a child may take to start (worker_proc_alive_timeout); 0: 4 s
	Patience  time.Duration // how long a run may go on once it was told to end, before its child is killed; 0: 5 s. Its soft limit tells no end
	Logger    *slog.Logger  // nil: discard
}

// A Pool keeps the children of one worker. It starts none before Warm or the first task, and keeps as many as were busy at
// a time and one more, up to Config.Slots. It is safe for concurrent use.
type Pool struct {
	cfg    Config
	log    *slog.Logger
	grace  time.Duration // between a signal that is to end a child and SIGKILL; tests have another
	births chan func()   // to the nursery
	over   chan struct{} // closed by Close
	wg     sync.WaitGroup

	mu         sync.Mutex
	all        map[*child]bool // guarded by mu, as all below; true for those that stay, false for those on their way out
	idle       []*child        // the last one is the warmest
	spareOn    chan struct{}   // closed when the spare that is on its way has come, or not; nil: none is
	awaited    bool            // somebody waits for it
	generation int
	made       int
	jobs       int64
	closed     bool
	nursing    bool
}

// New returns a Pool; Close ends its children.
func New(cfg Config) *Pool {
	cfg.Alive = cmp.Or(cfg.Alive, 4*time.Second)
	cfg.Patience = cmp.Or(cfg.Patience, 5*time.Second)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Pool{cfg: cfg, log: cfg.Logger, grace: terminateWait, all: map[*child]bool{}, births: make(chan func()), over: make(chan struct{})}
}

// ErrClosed is returned for a task that comes after Close.
var ErrClosed = errors.New("isolate: the pool is closed")

// Wrap returns the handler with an Invoke that runs it in a child.
func (p *Pool) Wrap(h handlers.Handler) handlers.Handler {
	memory := h.Options().MemoryCap
	return h.Wrap(func(handlers.Invoke) handlers.Invoke { return p.invoke(memory) })
}

// Warm starts a child ahead of the first task. It does not wait for it.
func (p *Pool) Warm() { p.spare() }

// PIDs are the process ids of the children, in order.
func (p *Pool) PIDs() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var pids []int
	for c, stays := range p.all {
		if stays {
			pids = append(pids, c.pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Restart replaces every child: an idle one now, a busy one after its task.
func (p *Pool) Restart() {
	p.mu.Lock()
	p.generation++
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		c.retire()
	}
	p.spare()
}

// Trim ends idle children beyond Config.Slots.
func (p *Pool) Trim() {
	var over []*child
	p.mu.Lock()
	for len(p.idle) > 0 && p.excess() {
		over = append(over, p.idle[0])
		p.all[p.idle[0]] = false
		p.idle = p.idle[1:]
	}
	p.mu.Unlock()
	for _, c := range over {
		c.retire()
	}
}

// Close kills every child, with what it runs, and returns when all are gone.
func (p *Pool) Close() {
	p.mu.Lock()
	already := p.closed
	p.closed = true
	all := make([]*child, 0, len(p.all))
	for c := range p.all {
		all = append(all, c)
	}
	p.idle = nil
	p.mu.Unlock()
	for _, c := range all {
		c.discard()
		c.kill("")
	}
	if !already {
		close(p.over)
	}
	p.wg.Wait()
}

// slots is how many children may be kept. The caller holds mu, which Config.Slots does not take.
func (p *Pool) slots() int {
	if p.cfg.Slots == nil {
		return math.MaxInt
	}
	return max(p.cfg.Slots(), 1)
}

// staying is how many children count. The caller holds mu.
func (p *Pool) staying() int {
	n := 0
	for _, stays := range p.all {
		if stays {
			n++
		}
	}
	return n
}

func (p *Pool) excess() bool { return p.staying() > p.slots() }

// leaves: the child is on its way out and counts no more.
func (p *Pool) leaves(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all[c] {
		p.all[c] = false
	}
}

// spare starts a child when none is idle and one more may be kept. It does not wait for it.
func (p *Pool) spare() {
	p.mu.Lock()
	if p.closed || len(p.idle) > 0 || p.spareOn != nil || p.staying() >= p.slots() {
		p.mu.Unlock()
		return
	}
	come := make(chan struct{})
	p.spareOn = come
	p.wg.Add(1)
	p.mu.Unlock()
	go func() { // ends with the start; Close waits for it
		defer p.wg.Done()
		c, err := p.start(context.Background())
		if err == nil {
			p.keep(c)
		}
		p.mu.Lock()
		p.spareOn, p.awaited = nil, false
		p.mu.Unlock()
		close(come)
		if err == nil {
			return
		}
		if !errors.Is(err, ErrClosed) {
			p.log.Error("no child process could be started ahead", "err", err)
		}
	}()
}

// acquire is an idle child, or a new one: then it waits for its start. It does not try twice.
func (p *Pool) acquire(ctx context.Context) (*child, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, ErrClosed
		}
		n := len(p.idle)
		if n == 0 && p.spareOn != nil && !p.awaited {
			p.awaited = true
			come := p.spareOn
			p.mu.Unlock()
			select {
			case <-come:
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if n == 0 {
			p.mu.Unlock()
			return p.start(ctx)
		}
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if c.alive() {
			p.spare()
			return c, nil
		}
		c.discard()
	}
}

// release takes a child back after a task: to keep it, or to let it go.
func (p *Pool) release(c *child) {
	switch {
	case !c.alive() || c.doomed():
		p.leaves(c)
		c.discard()
		c.kill("")
		p.spare()
	case p.cfg.MaxTasks > 0 && c.tasks >= p.cfg.MaxTasks:
		c.retire()
		p.spare()
	case p.cfg.MaxMemory > 0 && c.peak > p.cfg.MaxMemory:
		p.log.Warn("child process exiting after exceeding memory limit ("+kib(c.peak)+"KiB / "+kib(p.cfg.MaxMemory)+"KiB)", "pid", c.pid)
		c.retire()
		p.spare()
	default:
		p.keep(c)
	}
}

// keep makes a child idle, or retires it when it is one too many or of an earlier generation.
func (p *Pool) keep(c *child) {
	p.mu.Lock()
	surplus := p.closed || c.generation != p.generation || p.excess()
	if !surplus && c.alive() {
		p.idle = append(p.idle, c)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	if surplus {
		c.retire()
		p.spare()
		return
	}
	c.discard()
}

// gone: the child's process has ended.
func (p *Pool) gone(c *child) {
	p.mu.Lock()
	delete(p.all, c)
	i := slices.Index(p.idle, c)
	if i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 { // else who has it lets it go
		c.discard()
		p.spare()
	}
}

// job is the number of the next run.
func (p *Pool) job() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs++
	return p.jobs - 1
}

// launch runs cmd.Start on the nursery's thread: on Linux a child dies with the thread that made it, and this one stays.
func (p *Pool) launch(cmd *exec.Cmd, begun func()) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	if !p.nursing {
		p.nursing = true
		p.wg.Add(1)
		go p.nurse() // ends with Close
	}
	p.wg.Add(1) // so that Close, which ends the nursery, waits for what is asked of it
	p.mu.Unlock()
	defer p.wg.Done()
	failed := make(chan error, 1)
	birth := func() {
		err := cmd.Start()
		if err == nil {
			begun()
		}
		failed <- err
	}
	select {
	case p.births <- birth:
		return <-failed
	case <-p.over:
		return ErrClosed
	}
}

func (p *Pool) nurse() {
	defer p.wg.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // all children are dead or dying: the thread may be used for other things
	for {
		select {
		case birth := <-p.births:
			birth()
		case <-p.over:
			return
		}
	}
}
