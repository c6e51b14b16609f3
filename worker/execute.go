package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/isolate"
	"github.com/stalkworker/stalk/protocol"
)

// executor runs one handler at a time per slot: middleware, limits, panics, progress.
type executor struct {
	cfg     *Config
	log     *slog.Logger
	roster  *roster
	ledger  *ledger
	meter   *meter
	settler *settler
	times   *timeLimits
	budget  *budget
	pid     int

	children *isolate.Pool // nil: no handler is isolated
}

// A returned is what a handler's goroutine brings back.
type returned struct {
	value any
	err   error
	panic *panicked
}

// A panicked is a caught panic with the frames below it.
type panicked struct {
	value  any
	frames []runtime.Frame
}

// run executes the job's handler under its limits. ended is nil when the handler has returned; else it
// is closed when a handler that was abandoned, at its hard limit or by terminate, returns.
func (e *executor) run(work, settle context.Context, j *job) (out outcome, ended <-chan struct{}) {
	began := time.Now()
	hold := e.hold()
	pid, out, ok := e.acquire(work, settle, j, hold)
	if !ok {
		if out.kind == terminated {
			ended = closed
		}
		return out, ended
	}
	if !e.ackEarly(settle, j) {
		hold.Release()
		return outcome{kind: interrupted, err: errNotOurs}, nil
	}
	e.ledger.accepted(j.entry, j.acked, j.delivery.Redelivered, pid)
	if j.acked {
		e.meter.gone(j)
	}
	e.storeStarted(settle, j, pid)

	ctx, cancel := context.WithCancelCause(work)
	defer cancel(nil) // each way out has given its cause before
	host := &host{cfg: e.cfg, settler: e.settler, job: j, turn: make(chan struct{}, 1), memory: e.budget.reservation()}
	soft, hard := j.limits(e.cfg, e.times)
	ctx = handlers.NewContext(hold.Context(ctx), e.info(j, soft, hard), host)

	if soft > 0 {
		t := time.AfterFunc(soft, func() {
			e.log.Warn(fmt.Sprintf("Soft time limit (%ss) exceeded for %s", seconds(soft), label(j.task)), taskAttrs(j.task)...)
			cancel(handlers.ErrSoftLimit)
		})
		defer t.Stop()
	}
	var hardLimit <-chan time.Time
	if hard > 0 {
		t := time.NewTimer(hard)
		defer t.Stop()
		hardLimit = t.C
	}

	back := make(chan returned, 1)
	done := make(chan struct{})
	select {
	case signum := <-j.killed(): // while the broker or the result store was waited for
		hold.Release()
		return outcome{kind: terminated, signum: signum, took: time.Since(began)}, closed
	default:
	}
	mark := newMark(hard > 0 && !j.handler.Options().Isolate)
	e.roster.handler(func() {
		var r returned
		defer func() { // also when the handler ends its goroutine (runtime.Goexit)
			hold.Release()
			host.memory.end() // also that of a handler which nobody waits for any more
			back <- r
			close(done)
		}()
		mark.set()
		e.call(ctx, j, &r)
	})
	var lost <-chan struct{}
	if e.cfg.Connection.CancelLost && !j.acked {
		lost = j.delivery.Receipt.Lost()
	}
	var r returned
	for over := false; !over; {
		over = true
		select {
		case r = <-back:
			// The context's cause is asked before cancel gives it another.
			cause := context.Cause(ctx)
			cancel(nil)
			host.close()
			out = e.outcome(j, r, cause)
		case <-hardLimit:
			e.log.Error(fmt.Sprintf("Hard time limit (%ss) exceeded for %s", seconds(hard), label(j.task)), taskAttrs(j.task)...)
			if hold.Kill() {
				mark = nil
			}
			if stack := mark.stack(); stack != "" {
				e.log.Error("the handler of "+label(j.task)+" goes on past its hard limit, and its slot stays taken; this is where it is", append(taskAttrs(j.task), "stack", stack)...)
			}
			cancel(handlers.ErrLost)
			host.close()
			out, ended = outcome{kind: timedOut, exception: protocol.TimeLimitExceeded(secondsValue(hard))}, done
		case <-lost:
			lost, over = nil, false // it may still end in its own way
			e.log.Warn(fmt.Sprintf("Task %s cannot be acknowledged after a connection loss since late acknowledgement is enabled for it.\nTerminating it instead.\n", label(j.task)), taskAttrs(j.task)...)
			cancel(errNotOurs)
		case signum := <-j.killed():
			hold.Terminate(signum)
			cancel(handlers.ErrTerminated)
			host.close()
			out, ended = outcome{kind: terminated, signum: signum}, done
		case <-settle.Done(): // the ladder is at its end and the handler does not stop
			hold.Kill()
			cancel(handlers.ErrShutdown)
			host.close()
			out, ended = outcome{kind: interrupted, err: handlers.ErrShutdown}, done
		}
	}
	out.took = time.Since(began)
	return out, ended
}

// closed is the end of a handler that never began.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// call is the handler's goroutine: the middleware around the handler, and nothing that can end the process.
func (e *executor) call(ctx context.Context, j *job, r *returned) {
	ok := false
	defer func() {
		if ok {
			return
		}
		// recover also gives nil for runtime.Goexit: then the handler ended without a result.
		v := recover()
		if v == nil {
			v = errors.New("handler called runtime.Goexit")
		}
		if p, isolated := v.(*isolate.Panic); isolated {
			*r = returned{panic: &panicked{value: p.Text, frames: p.Frames}}
			return
		}
		*r = returned{panic: caught(v)}
	}()
	invoke := j.handler.Invoke()
	for i := len(e.cfg.Middleware) - 1; i >= 0; i-- {
		invoke = e.cfg.Middleware[i](invoke)
	}
	r.value, r.err = invoke(ctx, j.task)
	ok = true
}

// outcome is outcomeOf, under guard: it runs code of the handler's author as well, such as the Error method of
// a nil pointer, the MarshalJSON of a result, or a retry policy. A panic there fails the task.
func (e *executor) outcome(j *job, r returned, cause error) (out outcome) {
	env := func() *canvas.Env { return envFor(e.cfg, e.settler.who, j, time.Now()) }
	defer func() {
		if v := recover(); v != nil {
			out = outcomeOf(j, returned{panic: caught(v)}, nil, env)
		}
	}()
	var lost *isolate.LostError
	if errors.As(r.err, &lost) {
		return lostOutcome(e.cfg, j, lost)
	}
	return outcomeOf(j, r, cause, env)
}

// caught is a recovered panic with the frames that led to it. Call it from the deferred function.
func caught(v any) *panicked {
	pcs := make([]uintptr, 64)
	pcs = pcs[:runtime.Callers(4, pcs)]
	p := &panicked{value: v}
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		p.frames = append(p.frames, f)
		if !more {
			return p
		}
	}
}

func (e *executor) info(j *job, soft, hard time.Duration) handlers.Info {
	t, d := j.task, j.delivery
	return handlers.Info{
		ID: t.ID, Name: t.Name, RootID: t.RootID, ParentID: t.ParentID, Group: t.Group,
		Queue: d.Queue, Exchange: t.Exchange, RoutingKey: t.RoutingKey, Node: e.cfg.Node,
		Retries: t.Retries, Redelivered: d.Redelivered, ETA: t.ETA, Expires: t.Expires,
		Priority: t.Priority, ReplyTo: t.ReplyTo, CorrelationID: t.CorrelationID,
		Headers: t.Custom, Args: t.Args, Kwargs: t.Kwargs,
		SoftLimit: soft, HardLimit: hard, Nesting: t.Nesting, Properties: d.Message.Properties,
	}
}

// seconds is a limit as Celery prints it: 30, 1.5.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// secondsValue is a limit as TimeLimitExceeded carries it: an int where it is whole.
func secondsValue(d time.Duration) protocol.Value {
	if d%time.Second == 0 {
		return int64(d / time.Second)
	}
	return d.Seconds()
}
