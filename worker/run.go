package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/transports"
)

// A roster starts every goroutine of the worker and waits for them. No other file of this package starts one.
type roster struct {
	link  sync.WaitGroup // the link and the control that listens on it, which outlive the rest
	rooms sync.WaitGroup // intake and calendar: who makes tasks
	tasks crew           // one per job in flight
	calls crew           // handlers; one that ignores its context may outlive Run
	tells sync.WaitGroup // who talks with monitors and other nodes; ends before the link, to leave nothing behind
}

func newRoster() *roster {
	begin := func(f func()) { go f() } // the crew knows when f has ended
	return &roster{tasks: crew{begin: begin}, calls: crew{begin: begin}}
}

func (r *roster) linking(f func()) { r.link.Go(f) }
func (r *roster) room(f func())    { r.rooms.Go(f) }
func (r *roster) task(f func())    { r.tasks.run(f) }
func (r *roster) handler(f func()) { r.calls.run(f) }
func (r *roster) telling(f func()) { r.tells.Go(f) }

// within reports whether all of wg ended within d, and before quit.
func (r *roster) within(wg *sync.WaitGroup, d time.Duration, quit <-chan struct{}) bool {
	done := make(chan struct{})
	go func() { // ends with the group; the caller either sees it end or gives the process up
		wg.Wait()
		close(done)
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	case <-quit:
		return false
	}
}

// idle waits until no handler runs and reports false when the grace period or an order to stop came first. It
// waits for handlers only: a result store or a broker that is away must not keep a worker from ending. Nobody makes
// a task any more, so once every slot is free no handler is left.
func (w *Worker) idle() bool {
	var timeout <-chan time.Time
	if w.cfg.Grace >= 0 {
		t := time.NewTimer(w.cfg.Grace)
		defer t.Stop()
		timeout = t.C
	}
	ended := w.slots.empty()
	all := func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
	p := patience{w: w, cold: w.stages.cold.done}
	select { // looked at first: an order to wait counts even when nothing runs
	case <-p.cold:
		if !p.chill() {
			return all()
		}
	default:
	}
	over := ended
	for waiting := true; waiting; {
		select {
		case <-over:
			over, waiting = nil, p.whole
		case <-p.cold:
			waiting = p.chill()
		case <-p.soft:
			waiting = false
		case <-timeout:
			waiting = false
		case <-w.stages.now.done:
			waiting = false
		}
	}
	return all()
}

// run is the life of a worker and its ladder of shutdown.
//
// Three contexts: ctx (take no more), work (parent of the handlers), settle (effects; ends last).
func (w *Worker) run(ctx context.Context) error {
	defer w.stages.ended()
	defer w.roster.calls.dismiss()
	defer w.roster.tasks.dismiss()
	if err := w.checkStore(ctx); err != nil {
		return err
	}
	ctx, endTaking := context.WithCancel(ctx)
	defer endTaking()
	w.roster.linking(func() {
		select {
		case <-w.stages.warm.done:
			endTaking()
		case <-ctx.Done():
		}
	})
	work, endWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endWork(nil)
	settle, endSettle := context.WithCancel(context.WithoutCancel(ctx))
	defer endSettle()
	intake, endIntake := context.WithCancelCause(ctx)
	defer endIntake(nil)

	// The link lives until everything is settled: acks and results go through it.
	w.warnOfTimeouts()
	linked, endLink := context.WithCancel(context.WithoutCancel(ctx))
	defer endLink()
	conns := make(chan transports.Conn)
	unreachable := make(chan error, 2) // from the link, and from intake
	fail := func(err error) {
		if err != nil {
			unreachable <- err
			endIntake(err)
		}
	}
	w.roster.linking(func() { fail(w.link.run(linked, intake, conns)) })
	in := newIntake(w, intake, work, settle) // before remote control, which nudges it
	// Remote control answers until the last task has ended: who asks during the grace period is told.
	if !w.cfg.Control.Off {
		w.roster.linking(func() { w.control.run(linked) })
		w.roster.linking(func() { w.teller.run(linked) })
	}
	if w.autoscaler != nil {
		w.roster.linking(func() { w.autoscaler.run(ctx) })
	}
	// Events go out until the last task has ended, while there is a connection: the link ends after them.
	telling, endTelling := context.WithCancel(context.WithoutCancel(ctx))
	defer endTelling()
	w.roster.telling(func() { w.pulse.run(telling) })
	w.roster.telling(func() { w.pulse.heart(telling) })
	if !w.cfg.Control.Off && !w.cfg.Events.NoMingle {
		w.roster.telling(func() { w.mingle.run(telling) })
	}
	if !w.cfg.Events.NoGossip {
		w.roster.telling(func() { w.gossip.run(telling) })
	}
	if w.state != nil {
		w.roster.linking(func() { w.state.run(linked) })
	}
	if w.cfg.NativeDelay {
		w.roster.linking(func() { w.prepareDelay(linked) })
	}
	if w.children != nil {
		w.children.Warm()
		defer w.children.Close()
	}
	w.roster.room(func() { fail(in.run(intake, conns)) })
	w.roster.room(func() { w.calendar.run(intake, func(j *job) { in.due(intake, j) }) })

	<-intake.Done()
	w.stages.phase[Stopping].close()
	w.pulse.stopping()
	w.roster.rooms.Wait() // from here on nobody makes a task
	var failed error
	select {
	case failed = <-unreachable:
		endTaking()
	default:
	}
	held := w.calendar.drain()
	if len(held) > 0 {
		w.log.Info(fmt.Sprintf("Restoring %d unacknowledged message(s)", len(held)))
	}
	for _, j := range held {
		w.roster.task(func() { in.giveBack(j) })
	}

	var cut []string
	if !w.idle() {
		cut = w.ledger.executing()
	}
	w.stages.phase[Ending].close()
	endWork(handlers.ErrShutdown)
	if !w.roster.within(&w.roster.tasks.running, w.cfg.Settle, w.stages.quit.done) {
		endSettle() // what is left returns to its queue with the connection
		w.roster.within(&w.roster.tasks.running, time.Second, nil)
	}
	endTelling()
	w.roster.within(&w.roster.tells, eventTimeout+flushFor, w.stages.quit.done)
	endLink()
	w.roster.link.Wait()
	w.roster.tells.Wait() // without a connection nothing of theirs lasts
	if len(cut) > 0 {
		failed = errors.Join(failed, fmt.Errorf("%w: %s", ErrGrace, strings.Join(cut, ", ")))
	}
	return failed
}
