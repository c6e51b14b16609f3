package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/isolate"
	"github.com/stalkworker/stalk/protocol"
)

// Isolation is about the child processes that isolated handlers run in. The zero Isolation is usable.
type Isolation struct {
	Note      string        // what isolate.ServeFunc's build is given in a child
	MaxTasks  int           // worker_max_tasks_per_child; 0: no end
	MaxMemory int64         // worker_max_memory_per_child, in bytes; 0: no end
	Alive     time.Duration // worker_proc_alive_timeout; 0: 4 s
	Restarts  bool          // worker_pool_restarts: control pool_restart replaces the children
}

func (i Isolation) faults() []string {
	var faults []string
	if i.MaxTasks < 0 {
		faults = append(faults, fmt.Sprintf("Isolation.MaxTasks is %d, want 0 or more", i.MaxTasks))
	}
	if i.MaxMemory < 0 {
		faults = append(faults, fmt.Sprintf("Isolation.MaxMemory is %d, want 0 or more", i.MaxMemory))
	}
	if i.Alive < 0 {
		faults = append(faults, fmt.Sprintf("Isolation.Alive is %v, want 0 or more", i.Alive))
	}
	return faults
}

// isolate returns the registry with every isolated handler calling into a child process, from wherever it is called. It makes
// the pool when there is one such handler.
func (w *Worker) isolate(own *handlers.Registry) (*handlers.Registry, error) {
	if isolate.Child() {
		return nil, errors.New("worker: this process is a child of a worker, started to run isolated handlers: main must return once isolate.Serve has returned true")
	}
	var all []handlers.Handler
	for h := range own.All() {
		if h.Options().Isolate {
			switch {
			case !isolate.Supported:
				return nil, fmt.Errorf("worker: Config.Handlers: task %q has Options.Isolate, which this system cannot do", h.Name())
			case !isolate.Ready():
				return nil, fmt.Errorf("worker: Config.Handlers: task %q has Options.Isolate: call isolate.Serve at the start of main, as command.Main does", h.Name())
			case w.children == nil:
				i, cfg := w.cfg.Isolation, &w.cfg
				w.children = isolate.New(isolate.Config{
					Note: i.Note, MaxTasks: i.MaxTasks, MaxMemory: i.MaxMemory, Alive: i.Alive, Patience: cfg.Settle / 2, Logger: w.log,
					Slots: func() int { n, _ := w.slots.size(); return n },
				})
			}
			h = w.children.Wrap(h)
		}
		all = append(all, h)
	}
	if w.children == nil {
		return own, nil
	}
	return handlers.NewRegistry(all...)
}

// hold is what the worker holds a run by whose handler, or one that it calls, is isolated; nil: nothing.
func (e *executor) hold() *isolate.Leash {
	if e.children == nil {
		return nil
	}
	return e.children.Leash()
}

// Between attempts to start a child process for a task.
const (
	childBase = 100 * time.Millisecond
	childMax  = 5 * time.Second
)

// acquire takes the child that an isolated handler is to run in, for as long as it takes: that none can be started is no fault
// of the task. out is how the run ended when ok is false.
func (e *executor) acquire(work, settle context.Context, j *job, l *isolate.Leash) (pid int, out outcome, ok bool) {
	if !j.handler.Options().Isolate {
		return e.pid, outcome{}, true
	}
	for attempt := 0; ; attempt++ {
		pid, err := l.Acquire(work)
		if err == nil {
			return pid, outcome{}, true
		}
		if work.Err() == nil {
			e.log.Error("no child process can be started for "+label(j.task)+"; trying again", append(taskAttrs(j.task), "attempt", attempt+1, "err", err)...)
		}
		pause := time.NewTimer(jitter(backoff(attempt, childBase, childMax)))
		select {
		case <-pause.C:
			continue
		case signum := <-j.killed():
			out = outcome{kind: terminated, signum: signum}
		case <-work.Done():
			out = outcome{kind: interrupted, err: context.Cause(work)}
		case <-settle.Done():
			out = outcome{kind: interrupted, err: handlers.ErrShutdown}
		}
		pause.Stop()
		return 0, out, false
	}
}

// lostOutcome is what becomes of a run whose child process has ended under it (celery/worker/request.py, on_failure): another
// run, the message back to its queue, or a failure. As there a failure has no traceback.
func lostOutcome(cfg *Config, j *job, lost *isolate.LostError) outcome {
	exc := protocol.FromError(lost)
	o := j.handler.Options()
	choose := func(own *bool, otherwise bool) bool {
		if own != nil {
			return *own
		}
		return otherwise
	}
	switch {
	case choose(o.RetryOnLost, cfg.RetryOnLost):
		if limit, unlimited := o.Retry.Limit(); unlimited || j.task.Retries < limit {
			out := retryOutcome(j, &handlers.RetryError{Cause: exc, In: -1}, o.Retry)
			out.traceback = traceback(j.task.Name, lastLine(exc))
			return out
		}
	case choose(o.RejectOnLost, cfg.RejectOnLost) && !j.acked:
		return outcome{kind: requeued, err: lost}
	}
	return outcome{kind: failed, exception: exc}
}

// judged is an error that comes from a child process. The predicates of the handler's options were asked there, where the
// error still was itself.
type judged interface {
	Retries() bool
	Expected() bool
}

var _ judged = (*isolate.Failure)(nil)

// retriesItself is what Options.Retry.On says of err.
func retriesItself(p handlers.RetryPolicy, err error) bool {
	var j judged
	switch {
	case p.On == nil:
		return false
	case errors.As(err, &j):
		return j.Retries()
	}
	return p.On(err)
}

// isExpected is what Options.Expected says of err.
func isExpected(o handlers.Options, err error) bool {
	var j judged
	switch {
	case o.Expected == nil:
		return false
	case errors.As(err, &j):
		return j.Expected()
	}
	return o.Expected(err)
}
