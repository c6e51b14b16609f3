package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stalkworker/stalk/transports"
)

// intake asks for a message while a slot is free, makes a job of it, and starts its task goroutine. Only
// a time (eta, rate limit) makes a job wait. The transport may fetch ahead, up to the window: as many
// messages per slot as the pace says.
type intake struct {
	w      *Worker
	taking context.Context // done when nothing is begun any more
	work   context.Context // parent of the handlers
	settle context.Context // parent of what settles

	suspects chan struct{} // capacity 1: held by the one job that runs although it ended its process often (starts.go)

	wake  chan struct{} // capacity 1: look again
	stall *time.Timer   // run's own: reused for each wait
	each  int           // run's own: messages per slot
	ready bool          // run's own: messages were granted before
	full  bool          // run's own: held tasks leave no room

	mu        sync.Mutex
	receiving context.Context    // of Receive, for one after the other until it is cancelled; guarded by mu
	stop      context.CancelFunc // of receiving; guarded by mu
	cancel    context.CancelFunc // the same while a Receive may be in progress, else nil; guarded by mu
}

func newIntake(w *Worker, taking, work, settle context.Context) *intake {
	in := &intake{
		w: w, taking: taking, work: work, settle: settle, each: w.cfg.Prefetch,
		wake: make(chan struct{}, 1), suspects: make(chan struct{}, 1), stall: time.NewTimer(time.Hour),
	}
	w.slots.edge, w.queues.changed = in.nudge, in.nudge
	return in
}

// nudge makes intake look again: a due job took the last slot, a slot is free again, a job is held, other queues
// are wanted.
func (in *intake) nudge() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.cancel != nil {
		in.cancel()
	}
}

// run takes from each connection in turn until ctx is done. Its error is why nothing can be taken.
func (in *intake) run(ctx context.Context, conns <-chan transports.Conn) error {
	for {
		select {
		case conn := <-conns:
			in.forgetLost()
			err := in.take(ctx, conn)
			in.w.stats.consuming.Store(false)
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// consume asks the broker for messages until it grants them. nil and no error: the connection is of no use any more.
// Its error is a refusal at the very start, where that is to end Run.
func (in *intake) consume(ctx context.Context, conn transports.Conn, queues []transports.Queue, window int) (transports.Consumer, error) {
	for attempt := 0; ; attempt++ {
		c, err := conn.Consume(ctx, queues, window)
		switch {
		case err == nil:
			return c, nil
		case ctx.Err() != nil || errors.Is(err, transports.ErrDisconnected):
			return nil, nil
		case in.w.cfg.Connection.FailRefused && !in.ready:
			in.w.log.Log(ctx, critical, "Unrecoverable error: "+err.Error())
			return nil, fmt.Errorf("worker: cannot consume: %w", err)
		}
		in.w.log.Error("cannot consume", "err", err)
		if !sleep(ctx, jitter(backoff(attempt, 100*time.Millisecond, dialMax))) {
			return nil, nil
		}
	}
}

// take receives from one connection until it breaks or ctx is done.
func (in *intake) take(ctx context.Context, conn transports.Conn) error {
	log := in.w.log
	in.w.pulse.online(ctx, conn)
	window := in.window()
	have := in.w.queues.trusted()
	version := -1 // of the set that the consumer follows
	consumer, err := in.consume(ctx, conn, have, window)
	if consumer == nil {
		return err
	}
	defer func() {
		if err := consumer.Close(); err != nil && !errors.Is(err, transports.ErrDisconnected) {
			log.Warn("closing the consumer", "err", err)
		}
	}()
	defer in.hangUp()
	in.w.stats.consuming.Store(true)
	in.w.stages.phase[Consuming].close()
	if !in.ready { // once, as Celery
		in.ready = true
		in.w.mingle.await(ctx) // the queues were made meanwhile; what has been fetched is looked up in what the neighbors say
		in.w.control.awaitMailbox(ctx)
		in.w.awaitDelays(ctx)
		log.Info(in.w.cfg.Node + " ready.")
	}

	for ctx.Err() == nil {
		in.keepPace()
		if want := in.window(); want != window {
			if err := consumer.SetWindow(ctx, want); err != nil {
				if errors.Is(err, transports.ErrDisconnected) {
					return nil
				}
				log.Warn("cannot change the prefetch window", "want", want, "err", err)
			}
			window = want
		}
		if wanted := in.w.queues.revision(); wanted != version {
			var err error
			have, err = in.follow(ctx, consumer, have)
			switch {
			case err == nil:
				version = wanted
			case errors.Is(err, transports.ErrDisconnected):
				return nil
			case ctx.Err() == nil:
				log.Error("cannot consume from the queues as ordered; trying again", "err", err)
				sleep(ctx, jitter(time.Second))
			}
			continue
		}
		d, err := in.receive(ctx, consumer)
		switch {
		case err == nil && d != nil:
			in.begin(ctx, d)
		case err == nil, ctx.Err() != nil:
		case errors.Is(err, transports.ErrDisconnected):
			return nil
		case errors.Is(err, context.Canceled):
		default:
			log.Error("cannot receive", "err", err)
			sleep(ctx, jitter(time.Second))
		}
	}
	return nil
}

// follow makes the consumer take from the wanted queues: first it drops what is wanted no longer, then it adds what is
// new, one after the other, so that a queue the broker refuses is known by its name and given up. It returns
// what is consumed now, and an error when that is not what is wanted.
func (in *intake) follow(ctx context.Context, c transports.Consumer, have []transports.Queue) ([]transports.Queue, error) {
	all := in.w.queues.list()
	among := func(list []transports.Queue, name string) bool {
		return slices.ContainsFunc(list, func(q transports.Queue) bool { return q.Name == name })
	}
	kept := slices.DeleteFunc(slices.Clone(have), func(q transports.Queue) bool { return !among(all, q.Name) })
	if len(kept) < len(have) {
		if err := c.SetQueues(ctx, kept); err != nil {
			return have, err
		}
	}
	for _, q := range all {
		if among(kept, q.Name) {
			continue
		}
		err := c.SetQueues(ctx, append(slices.Clone(kept), q))
		switch {
		case err == nil:
			kept = append(kept, q)
			in.w.queues.trust(q.Name)
			in.w.log.Info("Started consuming from " + printable(q.Name))
		case ctx.Err() != nil:
			return kept, err
		case errors.Is(err, transports.ErrRefused):
			in.w.log.Error("cannot consume from a queue that remote control added; it is given up", "queue", q.Name, "err", err)
			in.w.queues.cancel(q.Name)
		default: // the connection broke, or nobody knows: the queue may be why, or may not
			if in.w.queues.strike(q.Name) {
				in.w.log.Error("a queue that remote control added cannot be consumed, or breaks connections; it is given up", "queue", q.Name, "err", err)
			}
			return kept, err
		}
	}
	return kept, nil
}

// receive waits for a free slot and then for a message. nil and no error: look again.
func (in *intake) receive(ctx context.Context, c transports.Consumer) (*transports.Delivery, error) {
	rctx, done := in.listen(ctx)
	defer done()
	// From here on a nudge cancels rctx: a slot taken after this look is not missed.
	if !in.w.slots.free() {
		var stall <-chan time.Time
		if in.w.pace.ahead() {
			in.stall.Reset(stallAfter)
			defer in.stall.Stop()
			stall = in.stall.C
		}
		select {
		case <-in.wake:
		case <-stall:
			in.w.pace.stalled()
		case <-ctx.Done():
		}
		return nil, nil
	}
	return c.Receive(rctx)
}

// listen is the context of a Receive, which a nudge cancels until done is called. What was not cancelled serves the next one, too.
func (in *intake) listen(ctx context.Context) (rctx context.Context, done func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.receiving == nil || in.receiving.Err() != nil {
		in.receiving, in.stop = context.WithCancel(ctx)
	}
	in.cancel = in.stop
	return in.receiving, in.deaf
}

// hangUp ends what listen has left: the next connection has a context of its own.
func (in *intake) hangUp() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.stop != nil {
		in.stop()
	}
	in.receiving, in.stop, in.cancel = nil, nil, nil
}

func (in *intake) deaf() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.cancel = nil
}

// keepPace follows the pace, also with the window of those that settle: they share calls as those do that are taken.
func (in *intake) keepPace() {
	w := in.w
	each := w.each()
	if each == in.each {
		return
	}
	in.each = each
	w.settling.lend(max(0, each-w.cfg.Prefetch) * w.slots.ceiling())
}

// window is how many messages may be unsettled: what runs and settles, and what is held for its eta.
func (in *intake) window() int {
	w := in.w
	held, limit := w.calendar.waitingForETA(), w.cfg.ETALimit
	n := windowFor(w.slots.ceiling(), in.each, held, limit)
	if full := limit > 0 && held >= n; full != in.full {
		in.full = full
		if full {
			w.log.Warn("worker_eta_task_limit is reached: nothing is taken until a held task is due", "held", held, "limit", limit)
		}
	}
	return n
}

// begin gives the delivery a slot and a goroutine.
func (in *intake) begin(ctx context.Context, d *transports.Delivery) {
	in.w.stats.received.Add(1)
	in.w.autoscaler.arrived()
	j := &job{delivery: d, received: time.Now()}
	in.w.meter.took(j)
	if d.Redelivered {
		in.w.stats.redelivered.Add(1)
	}
	if !in.acquire(ctx, j, 1) { // a due job was faster, and now we are stopping, or its tasks run for long
		in.w.roster.task(func() { in.giveBack(j) })
		return
	}
	in.w.roster.task(func() { in.admit(j) })
}

// due gives a held job a slot and a goroutine; called by the calendar.
func (in *intake) due(ctx context.Context, j *job) {
	if j.lost() {
		in.forget(j)
		return
	}
	if p := j.parker(); p != nil && j.task.ETA.After(time.Now()) {
		in.w.roster.task(func() { in.park(j, p) })
		return
	}
	if j.early(time.Now()) {
		in.noTurn(j)
		return
	}
	if !in.acquire(ctx, j, 1) {
		if ctx.Err() == nil { // all slots run something long: it goes back before the broker takes it, and all that runs with it
			in.w.roster.task(func() { in.giveBack(j) })
			return
		}
		in.w.calendar.hold(j, time.Now(), true, 0) // drained with the rest
		return
	}
	in.w.roster.task(func() { in.admit(j) })
	in.nudge() // the window may shrink
}

// forgetLost drops held jobs whose delivery died with the old connection; the broker brings them again.
func (in *intake) forgetLost() {
	names := map[string]bool{}
	for _, j := range in.w.calendar.dropLost() {
		if j.token {
			names[j.task.Name] = true
		}
		in.forget(j)
	}
	// Turns that nobody takes would move those of the copies ever further away.
	for name := range names {
		in.w.limiter.recall(name, time.Now())
		retime(in.w.limiter, in.w.calendar, name, time.Now())
	}
}

func (in *intake) forget(j *job) {
	in.w.log.Info("a held task went back to the broker with its connection", "task", j.task.ID, "name", j.task.Name)
	if j.counted {
		in.w.roster.task(func() { in.unbegun(j) }) // it did not start: a connection that breaks often must not use up its starts
	}
	in.leave(j)
}

// giveBack returns a job that has not started to its queue.
func (in *intake) giveBack(j *job) {
	in.w.settler.requeue(in.settle, j, func(ctx context.Context) error { return transports.Return(ctx, j.delivery.Receipt) })
	in.unbegun(j)
	in.leave(j)
}

// leave lets a job go that has not run: its message is somebody else's.
func (in *intake) leave(j *job) {
	in.w.meter.gone(j)
	in.w.ledger.leave(j.entry, false, "")
}
