package worker

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// meter counts what happens, by task name and queue, for TaskStats. It is safe for concurrent use, allocates
// nothing per task, and is bounded: its names are those of the registry and "unknown", and for each of them it
// keeps so many queues and exceptions apart.
type meter struct {
	cfg     *Config
	names   map[string]*byQueue // not written after newMeter
	unknown *byQueue

	mu   sync.Mutex
	sent map[[2]string]int64 // tasks published, by name and queue

	unsettled line // deliveries that are ours, oldest first
	running   line // handlers that run
}

const (
	unknownName   = "unknown" // a task that is not in the registry, or a message that names none
	otherLabel    = "other"   // what exceeds the bounds below
	sentMax       = 1000      // names and queues of published tasks counted apart: others serve them, so they are not ours to know
	queuesMax     = 32        // queues counted apart, per name
	exceptionsMax = 20        // exceptions counted apart, per name and queue
	exceptionLen  = 100       // bytes of an exception's name
	waitCredible  = 30 * 24 * time.Hour
)

func newMeter(cfg *Config) *meter {
	m := &meter{cfg: cfg, sent: map[[2]string]int64{}, names: map[string]*byQueue{}, unknown: &byQueue{name: unknownName}}
	for h := range cfg.Handlers.All() {
		m.names[h.Name()] = &byQueue{name: h.Name()}
	}
	return m
}

// byQueue are the series of one name.
type byQueue struct {
	name   string
	series atomic.Pointer[[]*series] // replaced under mu, never changed in place
	mu     sync.Mutex
}

func (b *byQueue) of(queue string) *series {
	if s := b.find(queue); s != nil {
		return s
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.find(queue); s != nil {
		return s
	}
	var known []*series
	if p := b.series.Load(); p != nil {
		known = *p
	}
	if len(known) >= queuesMax {
		queue = otherLabel
		for _, s := range known {
			if s.queue == queue {
				return s
			}
		}
	}
	s := &series{name: b.name, queue: queue}
	known = append(slices.Clip(known), s)
	b.series.Store(&known)
	return s
}

func (b *byQueue) find(queue string) *series {
	if p := b.series.Load(); p != nil {
		for _, s := range *p {
			if s.queue == queue {
				return s
			}
		}
	}
	return nil
}

// series are the counters of one name in one queue.
type series struct {
	name, queue string

	received, started, failures, rejections, revoked, refused atomic.Int64
	discarded                                                 atomic.Int64               // revoked before they ran
	outcomes                                                  [outcomeKinds]atomic.Int64 // by outcomeKind

	ran       histogram // runs that succeeded
	ranOther  histogram // all other runs
	wait      histogram // in the worker, before the start
	queueWait histogram // since it was published, where the message says when
	settling  histogram // from the end of the handler until all is safe

	mu         sync.Mutex
	exceptions map[string]int64 // of failures
}

// failure counts one failure by the name of its exception.
func (s *series) failure(exc *protocol.Exception) {
	name := exceptionLabel(exc)
	s.failures.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.exceptions[name]; !known && len(s.exceptions) >= exceptionsMax {
		name = otherLabel
	}
	if s.exceptions == nil {
		s.exceptions = map[string]int64{}
	}
	s.exceptions[name]++
}

// exceptionLabel is the exception's class as celery-exporter would read it from an event: a word, or
// UnknownException.
func exceptionLabel(exc *protocol.Exception) string {
	if exc == nil || exc.Type == "" || len(exc.Type) > exceptionLen {
		return "UnknownException"
	}
	for i := 0; i < len(exc.Type); i++ {
		switch c := exc.Type[i]; {
		case c == '_', '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		default:
			return "UnknownException"
		}
	}
	return exc.Type
}

// marks are what the meter writes on a job. They belong to the job's holder, the two places to the meter's lines.
type marks struct {
	series *series
	began  time.Time // start of the handler
	over   time.Time // its end
	here   place     // in meter.unsettled
	run    place     // in meter.running
}

func (m *meter) seriesOf(j *job) *series {
	if j.marks.series == nil {
		b := m.unknown
		if j.task != nil {
			if known := m.names[j.task.Name]; known != nil {
				b = known
			}
		}
		j.marks.series = b.of(j.delivery.Queue)
	}
	return j.marks.series
}

// took: a delivery is ours.
func (m *meter) took(j *job) { m.unsettled.enter(&j.marks.here, j.received) }

// gone: the delivery is settled, or not ours any more. It may be called more than once.
func (m *meter) gone(j *job) { m.unsettled.leave(&j.marks.here) }

// begins: the handler starts now.
func (m *meter) begins(j *job, now time.Time) {
	j.marks.began = now
	m.running.enter(&j.marks.run, now)
}

// returned: the handler has returned, or was given up.
func (m *meter) returned(j *job, now time.Time) {
	j.marks.over = now
	m.running.leave(&j.marks.run)
}

func (m *meter) received(j *job) { m.seriesOf(j).received.Add(1) }

func (m *meter) started(j *job) {
	s, now := m.seriesOf(j), j.marks.began
	s.started.Add(1)
	// What the sender wanted to wait for is no wait: eta, countdown, the pause before a retry.
	from := j.received
	if j.task.ETA.After(from) {
		from = j.task.ETA
	}
	s.wait.observe(now.Sub(from))
	if sent := publishedAt(j.delivery.Message); !sent.IsZero() {
		if j.task.ETA.After(sent) {
			sent = j.task.ETA
		}
		if d := now.Sub(sent); d < waitCredible {
			s.queueWait.observe(d)
		}
	}
}

// ended counts as the events tell it, so that both show the same.
func (m *meter) ended(j *job, out outcome) {
	s := m.seriesOf(j)
	if j.unsafe { // nothing of it counts: the message goes back
		out.kind = requeued
	}
	s.outcomes[out.kind].Add(1)
	if out.kind == succeeded {
		s.ran.observe(out.took)
	} else {
		s.ranOther.observe(out.took)
	}
	s.settling.observe(time.Since(j.marks.over))
	switch out.kind {
	case failed, timedOut, rejected: // rejected is a FAILURE for the caller
		s.failure(out.exception)
		if _, reject := settleFailure(m.cfg, j, out.kind).(rejectStep); reject && !j.acked && j.instead == nil {
			s.rejections.Add(1)
		}
	case requeued:
		s.rejections.Add(1)
	}
}

// revoked: a task was discarded, or its run was terminated.
func (m *meter) revoked(j *job) {
	s := m.seriesOf(j)
	s.revoked.Add(1)
	if j.marks.began.IsZero() {
		s.discarded.Add(1)
		return
	}
	s.outcomes[terminated].Add(1)
	s.ranOther.observe(j.marks.over.Sub(j.marks.began))
	s.settling.observe(time.Since(j.marks.over))
}

// refused counts a task that failed without a run, as the events tell it: a failure, or for an eta beyond time a
// rejection.
func (m *meter) refused(j *job, exc *protocol.Exception) {
	s := m.seriesOf(j)
	s.refused.Add(1)
	if exc.Type == "OverflowError" {
		s.rejections.Add(1)
		return
	}
	s.failure(exc)
}

// published: the broker took a task that the worker sent.
func (m *meter) published(name, queue string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]string{name, queue}
	if _, known := m.sent[key]; !known && (len(m.sent) >= sentMax || len(name)+len(queue) > 512) {
		key = [2]string{otherLabel, otherLabel}
	}
	m.sent[key]++
}

// publishedAt is when the message was published, as far as it says so: Celery's own do not; RabbitMQ's
// message interceptor and some publishers put the time there. Zero: not known.
func publishedAt(m protocol.Message) time.Time {
	if v, ok := m.Headers.Get("timestamp_in_ms"); ok { // of the interceptor; the property has whole seconds only
		if ms, ok := v.(int64); ok && ms > 0 {
			return time.UnixMilli(ms)
		}
	}
	return m.Properties.Timestamp
}

// TaskStats is a snapshot of what has happened to tasks of one name in one queue since New.
type TaskStats struct {
	Name  string // as registered; "unknown" for all that is not
	Queue string // where they were taken from; "other" beyond the 32nd of a name

	Received   int64 // read, and neither revoked nor expired; once per delivery
	Started    int64 // runs
	Succeeded  int64
	Failed     int64 // all failures told to a caller, without a run too
	Retried    int64
	Rejected   int64            // messages rejected or requeued in place of an acknowledgement
	Revoked    int64            // expired ones included
	Refused    int64            // unknown name, impossible time, delivered too often
	Exceptions map[string]int64 // Failed, by the class of the exception

	// Outcomes is how runs ended, and with refused and revoked the tasks that did not run: each counts once. cut
	// are runs that a shutdown ended.
	Outcomes map[string]int64

	Runtime   Histogram // of runs that succeeded
	OtherRuns Histogram // of all other runs
	Wait      Histogram // from taken to started, without what the sender wanted to wait (eta, countdown, retry)
	QueueWait Histogram // from published to started, likewise; only of messages that say when they were published
	Settle    Histogram // from the handler's end until result, follow-ups and acknowledgement were safe
}

// A SentStats is how many task messages of one name the worker has published to one queue: retries, and what
// follows a task or was sent by its handler. What exceeds 1,000 names and queues is counted as "other".
type SentStats struct {
	Name, Queue string
	Count       int64
}

// SentStats may be called at any time. It is in order of name and queue.
func (w *Worker) SentStats() []SentStats {
	w.meter.mu.Lock()
	out := make([]SentStats, 0, len(w.meter.sent))
	for key, n := range w.meter.sent {
		out = append(out, SentStats{key[0], key[1], n})
	}
	w.meter.mu.Unlock()
	slices.SortFunc(out, func(a, b SentStats) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Queue, b.Queue)) })
	return out
}

// TaskStats may be called at any time. It is in order of name and queue, and holds what was seen at least once.
func (w *Worker) TaskStats() []TaskStats {
	var out []TaskStats
	collect := func(b *byQueue) {
		if p := b.series.Load(); p != nil {
			for _, s := range *p {
				out = append(out, s.snapshot())
			}
		}
	}
	for _, b := range w.meter.names {
		collect(b)
	}
	collect(w.meter.unknown)
	slices.SortFunc(out, func(a, b TaskStats) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Queue, b.Queue)) })
	return out
}

// outcomeNames are the words for an outcomeKind in TaskStats.Outcomes.
var outcomeNames = [outcomeKinds]string{
	succeeded: "succeeded", failed: "failed", timedOut: "timed_out", retried: "retried", ignored: "ignored",
	rejected: "rejected", requeued: "requeued", interrupted: "cut", replaced: "replaced", terminated: "terminated",
}

func (s *series) snapshot() TaskStats {
	out := TaskStats{
		Name: s.name, Queue: s.queue,
		Received: s.received.Load(), Started: s.started.Load(), Succeeded: s.outcomes[succeeded].Load(), Failed: s.failures.Load(),
		Retried: s.outcomes[retried].Load(), Rejected: s.rejections.Load(), Revoked: s.revoked.Load(), Refused: s.refused.Load(),
		Exceptions: map[string]int64{}, Outcomes: make(map[string]int64, len(outcomeNames)+2),
		Runtime: s.ran.snapshot(), OtherRuns: s.ranOther.snapshot(), Wait: s.wait.snapshot(),
		QueueWait: s.queueWait.snapshot(), Settle: s.settling.snapshot(),
	}
	for kind, name := range outcomeNames {
		out.Outcomes[name] = s.outcomes[kind].Load()
	}
	out.Outcomes["revoked"], out.Outcomes["refused"] = s.discarded.Load(), out.Refused
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, n := range s.exceptions {
		out.Exceptions[name] = n
	}
	return out
}
