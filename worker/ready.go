package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stalkworker/stalk/transports"
)

// stats are the worker's counters; each is written by many and read by Stats.
type stats struct {
	received, succeeded, failed, retried, rejected, ignored, revoked, refused, quarantined, requeued, lost, redelivered, active atomic.Int64
	consuming                                                                                                                   atomic.Bool
}

func (s *stats) count(k outcomeKind) {
	switch k {
	case succeeded:
		s.succeeded.Add(1)
	case failed, timedOut:
		s.failed.Add(1)
	case retried:
		s.retried.Add(1)
	case ignored, replaced:
		s.ignored.Add(1)
	case rejected:
		s.rejected.Add(1)
	case terminated:
		s.revoked.Add(1)
	case requeued, interrupted:
		s.requeued.Add(1)
	}
}

// Stats is a snapshot of what a worker has done since New, and of what it does.
type Stats struct {
	Received    int64 // messages taken
	Succeeded   int64
	Failed      int64 // hard limits included
	Retried     int64
	Rejected    int64
	Ignored     int64
	Revoked     int64 // expired ones included
	Refused     int64 // unknown names and impossible times
	Quarantined int64
	Requeued    int64 // by the handler or by shutdown
	Lost        int64 // deliveries that stopped being ours before they were settled
	Redelivered int64 // messages the broker had given out before
	Dropped     int64 // events that no monitor will see
	Connects    int64 // connections to the broker made: 1 and the reconnects
	Active      int   // handlers running
	Held        int   // waiting for a time
	Settling    int   // finished, effects on their way
	Unsettled   int   // messages taken that are neither settled nor acknowledged early
	Slots       int   // handlers that may run at a time
	InUse       int   // slots taken
	Window      int   // messages that may be unsettled: what the broker is asked for
	Effects     int   // how many may be settling at a time
	Memory      int64 // bytes that running tasks may reserve together; 0: no limit
	Reserved    int64 // bytes that they have reserved

	Oldest  time.Duration // how long the oldest of Unsettled has been here
	Longest time.Duration // how long the handler that began first has been running

	Connected bool // there is a connection to the broker
	Stopping  bool // no more tasks are taken
}

// Stats may be called at any time.
func (w *Worker) Stats() Stats {
	s, now := &w.stats, time.Now()
	unsettled, oldest := w.meter.unsettled.look(now)
	_, longest := w.meter.running.look(now)
	slots, inUse := w.slots.size()
	conn, _ := w.link.current()
	memory, reserved := w.budget.size()
	return Stats{
		Received: s.received.Load(), Succeeded: s.succeeded.Load(), Failed: s.failed.Load(), Retried: s.retried.Load(),
		Rejected: s.rejected.Load(), Ignored: s.ignored.Load(), Revoked: s.revoked.Load(), Refused: s.refused.Load(),
		Quarantined: s.quarantined.Load(), Requeued: s.requeued.Load(), Lost: s.lost.Load(),
		Redelivered: s.redelivered.Load(), Dropped: w.pulse.queue.lost(), Connects: w.link.connects.Load(),
		Active: int(s.active.Load()), Held: w.calendar.len(), Settling: w.settling.inUse(),
		Unsettled: unsettled, Oldest: oldest, Longest: longest,
		Slots: slots, InUse: inUse, Window: w.window(), Effects: w.settling.ceiling(), Memory: memory, Reserved: reserved,
		Connected: conn != nil, Stopping: w.isStopping(),
	}
}

// Why a worker is not ready; see Ready.
var (
	ErrNotRunning   = errors.New("worker: not running")
	ErrStopping     = errors.New("worker: stopping")
	ErrNotConnected = errors.New("worker: no connection to the broker")
	ErrNotConsuming = errors.New("worker: not consuming yet")
	ErrNoQueues     = errors.New("worker: no queue is left to consume: remote control cancelled them all")
	ErrNoSlots      = errors.New("worker: no slot is left to run tasks: remote control took them all")
)

// Ready is nil while the worker is really consuming, else one of the errors above. It may be called at any time.
func (w *Worker) Ready() error {
	conn, _ := w.link.current()
	switch {
	case w.isStopping():
		return ErrStopping
	case !w.ran.Load():
		return ErrNotRunning
	case conn == nil:
		return ErrNotConnected
	case !w.stats.consuming.Load():
		return ErrNotConsuming
	case len(w.queues.list()) == 0:
		return ErrNoQueues
	case w.slots.ceiling() == 0:
		return ErrNoSlots
	}
	return nil
}

func (w *Worker) isStopping() bool {
	select {
	case <-w.stages.warm.done:
		return true
	case <-w.stages.phase[Stopping].done:
		return true
	default:
		return false
	}
}

// QueueSize asks the broker, over the worker's own connection, what waits in a queue. The error wraps
// transports.ErrNoQueue when there is none of that name, transports.ErrDisconnected when there is no
// connection, and errors.ErrUnsupported when the transport cannot tell.
func (w *Worker) QueueSize(ctx context.Context, name string) (transports.QueueSize, error) {
	conn, _ := w.link.current()
	if conn == nil {
		return transports.QueueSize{}, fmt.Errorf("worker: size of queue %q: %w", name, transports.ErrDisconnected)
	}
	admin, ok := conn.(transports.QueueAdmin)
	if !ok {
		return transports.QueueSize{}, fmt.Errorf("worker: size of queue %q: %w", name, errors.ErrUnsupported)
	}
	return admin.QueueSize(ctx, name)
}

// Queues are the names of the queues consumed, those that remote control added among them.
func (w *Worker) Queues() []string {
	var out []string
	for _, q := range w.queues.list() {
		out = append(out, q.Name)
	}
	return out
}

// Probe takes each lock of the worker once. It returns at once, or hangs where the worker does: a liveness check
// gives it a goroutine and a second. The broker and the result store have no part in it.
func (w *Worker) Probe() {
	w.Stats()
	w.ledger.totals()
	w.revoked.has("", time.Now())
}

// Node is the name the worker goes by: "celery@host".
func (w *Worker) Node() string { return w.cfg.Node }
