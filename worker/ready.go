package worker

import (
	"errors"
	"sync/atomic"
)

// stats are the worker's counters; each is written by many and read by Stats.
type stats struct {
	received, succeeded, failed, retried, rejected, ignored, revoked, refused, quarantined, requeued, lost, active atomic.Int64
	consuming                                                                                                      atomic.Bool
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
	Active      int   // handlers running
	Held        int   // waiting for a time
	Settling    int   // finished, effects on their way
}

// Stats may be called at any time.
func (w *Worker) Stats() Stats {
	s := &w.stats
	return Stats{
		Received: s.received.Load(), Succeeded: s.succeeded.Load(), Failed: s.failed.Load(), Retried: s.retried.Load(),
		Rejected: s.rejected.Load(), Ignored: s.ignored.Load(), Revoked: s.revoked.Load(), Refused: s.refused.Load(),
		Quarantined: s.quarantined.Load(), Requeued: s.requeued.Load(), Lost: s.lost.Load(),
		Active: int(s.active.Load()), Held: w.calendar.len(), Settling: w.settling.inUse(),
	}
}

var errNotConsuming = errors.New("worker: not consuming")

// Ready is nil while the worker is really consuming.
func (w *Worker) Ready() error {
	if !w.stats.consuming.Load() {
		return errNotConsuming
	}
	return nil
}
