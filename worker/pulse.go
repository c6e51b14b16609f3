package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/stalkworker/stalk/protocol"
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
	NoMingle    bool           // --without-mingle: do not ask the other nodes for their revoked ids at the start
	NoGossip    bool           // --without-gossip: do not follow the other nodes' clocks
}

// pulse tells monitors and counters what happens. Its methods never block and never fail: an event that cannot
// be sent is dropped and counted. They are safe for concurrent use.
type pulse struct {
	cfg   *Config
	log   *slog.Logger
	link  *link
	clock *clock
	meter *meter
	stats *stats
}

func newPulse(cfg *Config, log *slog.Logger, l *link, c *clock, m *meter, s *stats) *pulse {
	return &pulse{cfg: cfg, log: log, link: l, clock: c, meter: m, stats: s}
}

// run sends events and heartbeats over the live connection until ctx is done; the offline event is the last.
func (p *pulse) run(ctx context.Context) {}

// stopping is called once, when the worker takes no more: monitors see it offline while its last tasks end.
func (p *pulse) stopping() {}

// received: a task that was read and is neither revoked nor expired. Once per delivery, before it waits for anything.
func (p *pulse) received(j *job) { p.meter.received(j) }

// started: the job's handler is about to run.
func (p *pulse) started(j *job) { p.meter.started(j) }

// ended: the outcome of a run, after all its effects and the acknowledgement.
func (p *pulse) ended(j *job, out outcome) { p.meter.ended(j, out) }

// revoked: a task that does not run, or whose run was ended (terminated). signum is 0 for none.
func (p *pulse) revoked(j *job, terminated bool, signum int, expired bool) { p.meter.revoked(j) }

// refused: a task that failed without a run (unknown name, impossible time, quarantine).
func (p *pulse) refused(j *job, exc *protocol.Exception) { p.meter.refused(j, exc) }
