package worker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// Events says what the worker tells monitors (celery events, Flower). The zero Events is Celery's default:
// online, heartbeats and offline, and task events once a monitor asks for them.
type Events struct {
	Tasks       bool           // -E, worker_send_task_events: task events from the start
	Sent        bool           // task_send_sent_event: task-sent for what the worker publishes
	NoHeartbeat bool           // --without-heartbeat: no worker events at all
	Interval    time.Duration  // --heartbeat-interval; 0: 2 s
	Exchange    string         // event_exchange; "": celeryev
	Serializer  string         // event_serializer; "": json
	Zone        *time.Location // for utcoffset, which must be that of the Python side; nil: the process's own
	Version     string         // sw_ver; "": 0
	NoMingle    bool           // --without-mingle: do not ask the other nodes for their revoked ids at the start
	NoGossip    bool           // --without-gossip: do not follow the other nodes' clocks
}

func (e Events) exchange() string { return cmp.Or(e.Exchange, "celeryev") }

// faults are the mistakes in an Events, for New.
func (e Events) faults(keys protocol.Seal) []string {
	var out []string
	if e.Interval < 0 {
		out = append(out, fmt.Sprintf("Events.Interval is %v, want 0 or more", e.Interval))
	}
	if _, _, _, err := (protocol.Encoding{Serializer: e.Serializer, Seal: keys}).Serialize(nil); err != nil {
		out = append(out, fmt.Sprintf("Events.Serializer: %v", err))
	}
	return out
}

// pulse tells monitors and counters what happens. Its methods never block and never fail: an event that cannot
// be sent is dropped and counted. They are safe for concurrent use.
//
// Task events pass through a queue; heartbeats do not, so that a worker under load is not taken for dead.
type pulse struct {
	cfg    *Config
	log    *slog.Logger
	link   *link
	clock  *clock
	meter  *meter
	stats  *stats
	node   protocol.Value // hostname of all but task-sent, made once: events are many
	client protocol.Value // that of task-sent, who publishes it: gen<pid>@<host>
	pid    protocol.Value

	tasks     atomic.Bool  // task events are on
	processed atomic.Int64 // runs begun
	queue     eventQueue
	asked     chan struct{} // capacity 1: send a heartbeat for the command of that name
	stop      once          // closed by stopping

	announced atomic.Pointer[<-chan struct{}] // Done of the connection that had our worker-online
	scolded   atomic.Bool                     // a broker that takes no events was complained about
}

func newPulse(cfg *Config, log *slog.Logger, l *link, c *clock, m *meter, s *stats, client string) *pulse {
	p := &pulse{
		cfg: cfg, log: log, link: l, clock: c, meter: m, stats: s,
		node: cleanText(cfg.Node), client: cleanText(client), pid: int64(os.Getpid()),
		queue: newEventQueue(), asked: make(chan struct{}, 1), stop: newOnce(),
	}
	p.tasks.Store(cfg.Events.Tasks)
	return p
}

// tells reports whether the job's events are sent.
func (p *pulse) tells(j *job) bool {
	return p.tasks.Load() && j.task != nil && !j.handler.Options().NoEvents
}

// task puts an event of the job's task into the queue.
func (p *pulse) task(j *job, kind string, fields ...protocol.Member) {
	p.queue.put(func() protocol.Event { return p.event(kind, p.node, j.task.ID, fields) })
}

// event is one with all that every event has, at the next moment of our clock. uuid is "" for an event of the worker.
func (p *pulse) event(kind string, hostname protocol.Value, uuid string, fields []protocol.Member) protocol.Event {
	now := time.Now()
	var room [20]protocol.Member // as many as any event has, copied by ObjectOf: it stays on the stack
	f := append(room[:0],
		protocol.Member{Key: "hostname", Value: hostname},
		protocol.Member{Key: "utcoffset", Value: utcOffset(now, p.cfg.Events.Zone)},
		protocol.Member{Key: "pid", Value: p.pid},
		protocol.Member{Key: "clock", Value: p.clock.forward()},
	)
	if uuid != "" {
		f = append(f, protocol.Member{Key: "uuid", Value: uuid})
	}
	f = append(f, fields...)
	f = append(f, protocol.Member{Key: "timestamp", Value: float64(now.UnixMicro()) / 1e6})
	return protocol.Event{Type: kind, Fields: protocol.ObjectOf(f...)}
}

// utcOffset is the zone's distance to UTC in hours, to the west, as Celery 5.7 has it: exact.
func utcOffset(now time.Time, zone *time.Location) float64 {
	_, east := now.In(cmp.Or(zone, time.Local)).Zone()
	return float64(-east) / 3600 // negated as an int: there is no -0.0
}

// received: a task that was read and is neither revoked nor expired. Once per delivery, before it waits for anything.
func (p *pulse) received(j *job) {
	p.meter.received(j)
	if !p.tells(j) {
		return
	}
	t := j.task
	moment := func(at time.Time) protocol.Value {
		if at.IsZero() {
			return nil
		}
		return protocol.FormatTimestamp(at, time.UTC)
	}
	p.task(j, "task-received",
		protocol.Member{Key: "name", Value: t.Display()},
		protocol.Member{Key: "args", Value: t.ArgsRepr},
		protocol.Member{Key: "kwargs", Value: t.KwargsRepr},
		protocol.Member{Key: "root_id", Value: textOrNil(t.RootID)},
		protocol.Member{Key: "parent_id", Value: textOrNil(t.ParentID)},
		protocol.Member{Key: "retries", Value: int64(t.Retries)},
		protocol.Member{Key: "eta", Value: moment(t.ETA)},
		protocol.Member{Key: "expires", Value: moment(t.Expires)},
		protocol.Member{Key: "queue", Value: j.delivery.Queue}, // ours alone: Celery's monitors miss it
	)
}

// started: the job's handler is about to run.
func (p *pulse) started(j *job) {
	p.meter.started(j)
	p.processed.Add(1)
	if p.tells(j) {
		p.task(j, "task-started")
	}
}

// ended: the outcome of a run, after all its effects and the acknowledgement.
func (p *pulse) ended(j *job, out outcome) {
	if j.instead != nil { // what the caller was told, the monitors are told
		took := out.took
		out = *j.instead
		out.took = took
	}
	p.meter.ended(j, out)
	if !p.tells(j) {
		return
	}
	if j.unsafe { // nothing of it counts: the message goes back
		p.rejected(j, !j.acked)
		return
	}
	switch out.kind {
	case succeeded:
		p.task(j, "task-succeeded",
			protocol.Member{Key: "result", Value: protocol.Repr(out.value)},
			protocol.Member{Key: "runtime", Value: out.took.Seconds()})
	case failed:
		// A failure that is not acknowledged is rejected first, in Celery's order.
		if _, reject := settleFailure(p.cfg, j, failed).(rejectStep); reject && !j.acked && j.instead == nil {
			p.rejected(j, false)
		}
		p.failed(j, out.exception, out.traceback)
	case timedOut:
		p.failed(j, out.exception, out.traceback)
		if r, reject := settleFailure(p.cfg, j, timedOut).(rejectStep); reject && !j.acked {
			p.rejected(j, r.requeue)
		}
	case rejected:
		p.failed(j, out.exception, out.traceback)
		if !j.acked {
			p.rejected(j, false)
		}
	case requeued:
		p.rejected(j, true)
	case interrupted:
		p.task(j, "task-cancelled")
	case retried: // told already
	case ignored, replaced: // Celery says nothing either
	}
}

// retried: the task is about to be sent again. Told only after that, the next run could have ended before, and
// monitors would show the task in retry for good.
func (p *pulse) retried(j *job, out outcome) {
	if j.retried || !p.tells(j) {
		return
	}
	j.retried = true
	cause := "None"
	if out.exception != nil {
		cause = out.exception.Repr()
	}
	p.task(j, "task-retried", protocol.Member{Key: "exception", Value: clipped(cause)}, protocol.Member{Key: "traceback", Value: clipped(out.traceback)})
}

func (p *pulse) rejected(j *job, requeue bool) {
	p.task(j, "task-rejected", protocol.Member{Key: "requeue", Value: requeue})
}

func (p *pulse) failed(j *job, exc *protocol.Exception, tb string) {
	if tb == "" {
		tb = traceback(j.task.Name, lastLine(exc))
	}
	p.task(j, "task-failed", protocol.Member{Key: "exception", Value: clipped(exc.Repr())}, protocol.Member{Key: "traceback", Value: clipped(tb)})
}

// revoked: a task that does not run, or whose run was ended (terminated). signum is 0 for none.
func (p *pulse) revoked(j *job, terminated bool, signum int, expired bool) {
	p.meter.revoked(j)
	if !p.tells(j) {
		return
	}
	var number protocol.Value
	if signum != 0 {
		number = int64(signum)
	}
	p.task(j, "task-revoked", protocol.Member{Key: "terminated", Value: terminated},
		protocol.Member{Key: "signum", Value: number}, protocol.Member{Key: "expired", Value: expired})
}

// refused: a task that failed without a run (unknown name, impossible time, quarantine).
func (p *pulse) refused(j *job, exc *protocol.Exception) {
	p.meter.refused(j, exc)
	if !p.tells(j) {
		return
	}
	if exc.Type == "OverflowError" { // an eta beyond time: FAILURE is stored, but the event is the rejection's (Celery 5.7)
		p.rejected(j, false)
		return
	}
	p.task(j, "task-failed", protocol.Member{Key: "exception", Value: clipped(exc.Repr())})
}

// sent: the worker has published a task message (task-sent, which is a publisher's event and has a switch of its own).
func (p *pulse) sent(pub transports.Publishing) {
	h := pub.Message.Headers
	text := func(key string) string {
		v, _ := h.Get(key)
		s, _ := v.(string)
		return s
	}
	id, name := text("id"), text("task")
	if id == "" || name == "" {
		return // no task
	}
	queue := pub.RoutingKey
	if pub.Declare != nil {
		queue = pub.Declare.Name
	}
	p.meter.published(name, queue)
	if !p.cfg.Events.Sent {
		return
	}
	retries, _ := h.Get("retries")
	if _, ok := retries.(int64); !ok {
		retries = int64(0)
	}
	p.queue.put(func() protocol.Event {
		return p.event("task-sent", p.client, id, []protocol.Member{
			{Key: "root_id", Value: textOrNil(text("root_id"))},
			{Key: "parent_id", Value: textOrNil(text("parent_id"))},
			{Key: "name", Value: name},
			{Key: "args", Value: text("argsrepr")},
			{Key: "kwargs", Value: text("kwargsrepr")},
			{Key: "retries", Value: retries},
			{Key: "eta", Value: textOrNil(text("eta"))},
			{Key: "expires", Value: textOrNil(text("expires"))},
			{Key: "queue", Value: queue},
			{Key: "exchange", Value: pub.Exchange},
			{Key: "routing_key", Value: pub.RoutingKey},
		})
	})
}

// A tellingPublisher says of each task message that the broker took that it was sent.
type tellingPublisher struct {
	link  *link
	pulse *pulse
}

func (t tellingPublisher) Publish(ctx context.Context, p transports.Publishing) error {
	err := t.link.Publish(ctx, p)
	if err == nil {
		t.pulse.sent(p)
	}
	return err
}

// enable turns task events on and reports whether that changed anything. With -E they are always on: as in
// Celery, disable then changes nothing either.
func (p *pulse) enable() bool  { return !p.cfg.Events.Tasks && p.tasks.CompareAndSwap(false, true) }
func (p *pulse) disable() bool { return !p.cfg.Events.Tasks && p.tasks.CompareAndSwap(true, false) }

// beat has one heartbeat sent, as the command of that name asks for.
func (p *pulse) beat() {
	select {
	case p.asked <- struct{}{}:
	default: // one is on its way
	}
}

// stopping is called once, when the worker takes no more: monitors see it offline while its last tasks end.
func (p *pulse) stopping() { p.stop.close() }

func textOrNil(s string) protocol.Value {
	if s == "" {
		return nil
	}
	return s
}

// clippedAt bounds a traceback or the text of an exception in an event; the result store has all of it.
const clippedAt = 64 << 10

// clipped is s as an event may carry it.
func clipped(s string) string {
	if len(s) > clippedAt {
		s = s[:clippedAt] + "..."
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
