package isolate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// A Leash is the worker's hold on one run of a task: whatever child its isolated handler runs in ends when the worker says
// so, also when the context's end is older and had another cause. A nil Leash holds nothing.
type Leash struct {
	pool *Pool
	told once // Terminate or Kill

	mu     sync.Mutex
	child  *child // guarded by mu, as all below; nil: none
	busy   bool   // a handler runs in it
	signum int    // of Terminate
	killed bool
}

// Leash returns one for a run that begins. Release ends it.
func (p *Pool) Leash() *Leash {
	return &Leash{pool: p, told: once{done: make(chan struct{})}}
}

type leashKey struct{}

// Context is ctx with the leash: a wrapped handler that is called with it runs on it.
func (l *Leash) Context(ctx context.Context) context.Context {
	if l == nil {
		return ctx
	}
	return context.WithValue(ctx, leashKey{}, l)
}

// Acquire takes a child ahead of the run, and returns its process id. It tries once; an error is no fault of the task.
func (l *Leash) Acquire(ctx context.Context) (pid int, err error) {
	c, err := l.pool.acquire(ctx)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.child = c
	return c.pid, nil
}

// Kill ends the child at once, with all it has started: nobody waits for what it does. It reports whether there was one.
func (l *Leash) Kill() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	l.killed = true
	c := l.child
	l.mu.Unlock()
	if c != nil {
		c.kill("")
	}
	l.told.close()
	return c != nil
}

// Terminate ends the child by the signal. One that does not end it within a second is followed by SIGKILL, unless the
// handler returns.
func (l *Leash) Terminate(signum int) {
	if l == nil {
		return
	}
	if signum == int(syscall.SIGKILL) {
		l.Kill()
		return
	}
	l.mu.Lock()
	l.signum = signum
	l.mu.Unlock()
	l.told.close()
}

// Release gives the child back, if there is one. The handler has returned.
func (l *Leash) Release() {
	if l == nil {
		return
	}
	l.mu.Lock()
	c := l.child
	l.child = nil
	l.mu.Unlock()
	if c != nil {
		l.pool.release(c)
	}
}

// enter begins a run on the leash; false: another one is on it.
func (l *Leash) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy {
		return false
	}
	l.busy = true
	return true
}

func (l *Leash) leave() {
	l.mu.Lock()
	l.busy = false
	l.mu.Unlock()
}

// take is the child to run in.
func (l *Leash) take(ctx context.Context) (*child, error) {
	l.mu.Lock()
	c, killed := l.child, l.killed
	l.mu.Unlock()
	if killed {
		return nil, handlers.ErrTerminated
	}
	if c != nil && c.alive() && !c.doomed() {
		return c, nil
	}
	l.Release()
	if _, err := l.Acquire(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.killed {
		l.child.kill("")
	}
	return l.child, nil
}

func (l *Leash) signal() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signum
}

// A LostError is a child that ended while it ran a task. In it is billiard's WorkerLostError, in billiard's words.
type LostError struct {
	PID    int
	Status string // "signal 9 (SIGKILL)", "exitcode 2"
	Job    int64  // number of the run
	Why    string // why it was killed, when the worker did it: "" otherwise
}

func (e *LostError) Error() string {
	text := fmt.Sprintf("Worker exited prematurely: %s Job: %d.", e.Status, e.Job)
	if e.Why != "" {
		text += " " + e.Why
	}
	return text
}

func (e *LostError) Unwrap() error { return protocol.WorkerLost(e.Error()) }

// A Panic is what an isolated handler panicked with; its Invoke panics with it.
type Panic struct {
	Text   string
	Frames []runtime.Frame // innermost first
}

func (p *Panic) String() string { return p.Text }

// invoke is the Invoke of an isolated handler.
func (p *Pool) invoke(memory int64) handlers.Invoke {
	return func(ctx context.Context, t *protocol.Task) (any, error) {
		l, _ := ctx.Value(leashKey{}).(*Leash)
		if l == nil || l.pool != p || !l.enter() {
			l = p.Leash() // called by hand, or beside another run
			defer l.Release()
			l.enter()
		}
		defer l.leave()
		var panicked *Panic
		value, err := l.run(ctx, t, memory, &panicked)
		if panicked != nil {
			panic(panicked)
		}
		return value, err
	}
}

// run runs the task in a child. When a child that was idle turns out to be dead before it has the task, another one is taken.
func (l *Leash) run(ctx context.Context, t *protocol.Task, memory int64, panicked **Panic) (any, error) {
	for range 3 {
		c, err := l.take(ctx)
		if err != nil {
			return nil, err
		}
		c.run++
		c.tasks++
		r := errand{leash: l, child: c, ctx: ctx, job: l.pool.job(), memory: memory}
		r.host, _ = handlers.HostFrom(ctx)
		send := callOf(ctx, t, l.pool.log)
		send.run, send.memory, send.peak = c.run, memory*9/10, l.pool.cfg.MaxMemory > 0
		log := l.pool.log
		if send.host {
			log = handlers.Logger(ctx)
		}
		c.begins(log, []any{"task", t.ID, "name", t.Name})
		err = c.wire.send(frameCall, send.pack())
		if errors.As(err, new(*osError)) { // it has the task only in part, so it has not begun
			c.spoil()
			if c.reason() != "" || l.isKilled() {
				return nil, r.lost()
			}
			continue
		}
		if err != nil {
			return nil, protocol.EncodeErr(err)
		}
		value, err := r.follow(panicked)
		if errors.Is(err, errNotBegun) {
			continue
		}
		if c.alive() {
			c.output.survived()
		}
		return value, err
	}
	return nil, errNoChild
}

func (l *Leash) isKilled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.killed
}

// An errand is one run in a child, seen from the worker.
type errand struct {
	leash   *Leash
	child   *child
	ctx     context.Context // the run's own
	patient context.Context // that, while the child has the run
	host    handlers.Host   // nil: none
	job     int64
	memory  int64
	begun   bool // the child has called the handler, or is about to
}

const (
	memoryEvery   = 20 * time.Millisecond // how often the memory of a run that has a cap is looked at
	terminateWait = time.Second           // how long a signal may take to end a child, Pool.grace
)

// follow answers the child until its result, or its end.
func (r *errand) follow(panicked **Panic) (any, error) {
	var requests sync.WaitGroup
	defer requests.Wait()
	patient, end := context.WithCancel(r.ctx)
	defer end() // before the wait: a request for memory may wait for long
	r.patient = patient
	room := make(chan struct{}, requestsMax)
	done, told := r.ctx.Done(), r.leash.told.done
	var tick, patience <-chan time.Time
	if r.memory > 0 {
		t := time.NewTicker(memoryEvery)
		defer t.Stop()
		tick = t.C
	}
	wait := func(d time.Duration) { patience = time.After(d) } // the shortest comes last
	for {
		select {
		case f, ok := <-r.child.frames:
			switch {
			case !ok:
				return nil, r.lost()
			case number(f.body, "run") != r.child.run: // of what an earlier run left behind
			case f.kind == frameBegun:
				r.begun = true
			case f.kind == frameRequest:
				room <- struct{}{} // the child has no more than these on their way
				requests.Go(func() {
					r.request(f.body)
					<-room
				})
			case f.kind == frameResult:
				r.child.peak = number(f.body, "peak")
				return r.result(f.body, panicked)
			}
		case <-done:
			done = nil
			cause := context.Cause(r.ctx)
			r.cancel(cause, 0)
			switch {
			case errors.Is(cause, handlers.ErrSoftLimit):
			case errors.Is(cause, handlers.ErrLost):
				r.child.kill("")
			default:
				wait(r.leash.pool.cfg.Patience)
			}
		case <-told:
			told = nil
			signum := r.leash.signal()
			r.child.expect()
			r.cancel(handlers.ErrTerminated, signum)
			wait(r.leash.pool.grace)
		case <-patience:
			r.child.kill("")
		case <-tick:
			if n, ok := residentMemory(strconv.Itoa(r.child.pid)); ok && n > r.memory {
				r.child.kill(fmt.Sprintf("It used %d MiB of memory, more than its cap of %d MiB.", n>>20, r.memory>>20))
			}
		}
	}
}

// cancel tells the child that the context has ended. One that does not listen is killed later, or is dead.
func (r *errand) cancel(cause error, signum int) {
	_ = r.child.wire.send(frameCancel, protocol.ObjectOf(
		protocol.Member{Key: "run", Value: r.child.run}, protocol.Member{Key: "cause", Value: packError(cause, handlers.Options{})},
		protocol.Member{Key: "signal", Value: int64(signum)},
	))
}

// errNotBegun: the child died while it was idle, and the task has not begun.
var errNotBegun = errors.New("isolate: the child died before it had the task")

// lost is the end of a run whose child is gone. During a shutdown it is the shutdown's: the task runs again.
func (r *errand) lost() error {
	c := r.child
	c.finish()
	<-c.exited
	if cause := context.Cause(r.ctx); errors.Is(cause, handlers.ErrShutdown) {
		return fmt.Errorf("isolate: the child process has ended: %w", cause)
	}
	if !r.begun && !c.wasOurs() {
		return errNotBegun
	}
	return &LostError{PID: c.pid, Status: c.status, Job: r.job, Why: c.reason()}
}

func (r *errand) result(o *protocol.Object, panicked **Panic) (any, error) {
	if failed, ok := o.Get("err"); ok {
		return nil, unpackError(failed)
	}
	if said, ok := o.Get("panic"); ok {
		p := &Panic{}
		p.Text, _ = said.(string)
		for _, f := range list(o, "frames") {
			if f, ok := f.([]protocol.Value); ok && len(f) == 3 {
				var frame runtime.Frame
				frame.Function, _ = f[0].(string)
				frame.File, _ = f[1].(string)
				line, _ := f[2].(int64)
				frame.Line = int(line)
				p.Frames = append(p.Frames, frame)
			}
		}
		*panicked = p
		return nil, nil
	}
	value, _ := o.Get("value")
	return value, nil
}

// request does what the handler asks of its host.
func (r *errand) request(o *protocol.Object) {
	reply := protocol.ObjectOf(protocol.Member{Key: "run", Value: number(o, "run")}, protocol.Member{Key: "id", Value: number(o, "id")})
	if err := r.serve(o, reply); err != nil {
		reply.Set("err", packError(err, handlers.Options{}))
	}
	_ = r.child.wire.send(frameReply, reply) // else the child is gone
}

func (r *errand) serve(o, reply *protocol.Object) error {
	if r.host == nil {
		return handlers.ErrNoTask
	}
	var sent handlers.Sent
	var err error
	switch s := sub(o, "signature"); text(o, "what") {
	case "report":
		meta, _ := o.Get("meta")
		return r.host.Report(r.ctx, protocol.State(text(o, "state")), meta)
	case "reserve":
		return handlers.Reserve(r.patient, number(o, "bytes"))
	case "spawn":
		sent, err = r.host.Spawn(r.ctx, unpackSignature(s))
	case "chord":
		sent, err = r.host.AddToChord(r.ctx, unpackSignature(s))
	default:
		return errDamaged
	}
	if err != nil {
		return err
	}
	reply.Set("sent", sent.ID)
	reply.Set("tuple", sent.Tuple)
	return nil
}
