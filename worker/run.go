package worker

import (
	"context"
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
	tasks sync.WaitGroup // one per job in flight
	calls sync.WaitGroup // handlers; one that ignores its context may outlive Run
}

func (r *roster) linking(f func()) { r.link.Go(f) }
func (r *roster) room(f func())    { r.rooms.Go(f) }
func (r *roster) task(f func())    { r.tasks.Go(f) }
func (r *roster) handler(f func()) { r.calls.Go(f) }

// within reports whether all of wg ended before the deadline, or before stop was closed.
func (r *roster) within(wg *sync.WaitGroup, d time.Duration, stop <-chan struct{}) bool {
	done := make(chan struct{})
	go func() { // ends with the group; the caller either sees it end or gives the process up
		wg.Wait()
		close(done)
	}()
	var timeout <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-done:
		return true
	case <-timeout:
	case <-stop:
	}
	return false
}

// run is the life of a worker and its ladder of shutdown.
//
// Three contexts: ctx (take no more), work (parent of the handlers), settle (effects; ends last).
func (w *Worker) run(ctx context.Context) error {
	work, endWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endWork(nil)
	settle, endSettle := context.WithCancel(context.WithoutCancel(ctx))
	defer endSettle()
	intake, endIntake := context.WithCancelCause(ctx)
	defer endIntake(nil)

	// The link lives until everything is settled: acks and results go through it.
	linked, endLink := context.WithCancel(context.WithoutCancel(ctx))
	defer endLink()
	conns := make(chan transports.Conn)
	var dialErr error
	w.roster.linking(func() {
		dialErr = w.link.run(linked, intake, conns)
		endIntake(dialErr)
	})
	// Remote control answers until the last task has ended: who asks during the grace period is told.
	if !w.cfg.Control.Off {
		w.roster.linking(func() { w.control.run(linked) })
	}
	in := newIntake(w, work, settle)
	w.roster.room(func() { in.run(intake, conns) })
	w.roster.room(func() { w.calendar.run(intake, func(j *job) { in.due(intake, j) }) })

	<-intake.Done()
	w.roster.rooms.Wait() // from here on nobody makes a task
	if ctx.Err() == nil { // the first dial was refused
		endLink()
		w.roster.link.Wait()
		return dialErr
	}
	for _, j := range w.calendar.drain() {
		w.roster.task(func() { in.giveBack(j) })
	}

	var cut []string
	if !w.roster.within(&w.roster.tasks, w.cfg.Grace, w.stop) {
		cut = w.ledger.running()
		endWork(handlers.ErrShutdown)
		if !w.roster.within(&w.roster.tasks, w.cfg.Settle, nil) {
			endSettle() // what is left returns to its queue with the connection
			w.roster.within(&w.roster.tasks, time.Second, nil)
		}
	}
	endWork(handlers.ErrShutdown)
	endLink()
	w.roster.link.Wait()
	if len(cut) > 0 {
		return fmt.Errorf("%w: %s", ErrGrace, strings.Join(cut, ", "))
	}
	return nil
}
