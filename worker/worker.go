// Package worker is the machine between a broker and the handlers: it takes task messages, decides
// about each, runs the Go function, and settles what came of it, in an order in which nothing is lost.
//
// A message is given up only after everything it caused is safe: the result is stored and what follows
// is with the broker before the acknowledgement leaves. What decides (admit, outcome, plan) is pure; what
// acts is one small room per file. Every goroutine starts in run.go. The package imports no driver and
// installs no hidden state: two workers may live in one process.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/internal/dispatch"
	"github.com/stalkworker/stalk/isolate"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// Config says what a Worker serves and how. Each zero value means the default named beside it; New
// copies the Config, checks every field and returns all mistakes joined.
type Config struct {
	Transport transports.Transport  // required
	Handlers  *handlers.Registry    // required
	Results   resultbackend.Backend // nil: results are dropped
	Queues    []transports.Queue    // nil: one queue "celery", created when missing

	Declared []transports.Queue // definitions that add_consumer uses for a known name, besides Queues; nil: none

	Concurrency int // handlers running at a time; 0: GOMAXPROCS
	Autoscale   Autoscale
	Prefetch    int    // unsettled messages per slot (worker_prefetch_multiplier); 0: 4, and more, up to 64, while tasks take less than 2 ms and the messages have room in 16 MB; negative: without limit, which is at most 65535 in all
	ETALimit    int    // worker_eta_task_limit: unsettled messages that tasks held for an eta may raise them to; 0: no limit
	Settling    int    // finished tasks whose effects may be on their way while slots go on; 0: 4 per slot
	Node        string // "": celery@<host>

	Memory int64 // bytes that running tasks may reserve together (handlers.Reserve); 0: no limit

	Middleware []handlers.Middleware // outermost first; nil: none

	Accept   []string          // accept_content; nil: json
	Limits   protocol.Limits   // what reading a message may cost
	Encoding protocol.Encoding // how messages are published: task_serializer, task_compression, timezone

	SoftLimit    time.Duration // task_soft_time_limit; 0: none
	HardLimit    time.Duration // task_time_limit; 0: none
	AckOnFailure *bool         // task_acks_on_failure; nil: true
	AckOnTimeout *bool         // task_acks_on_timeout; nil: true
	TrackStarted bool          // task_track_started
	IgnoreResult bool          // task_ignore_result, when neither message nor handler says
	StoreErrors  bool          // task_store_errors_even_if_ignored
	Extended     bool          // result_extended
	Rate         string        // task_default_rate_limit, of tasks without a rate of their own; "": none
	NoRates      bool          // worker_disable_rate_limits

	Routes          *canvas.Routes                 // where follow-ups go; nil: their own queue option, else "celery"
	Tasks           map[string]canvas.TaskDefaults // publishing defaults of tasks that other workers serve; nil: none
	NativeDelay     bool                           // messages that are to wait go through the broker's delay exchanges, which Run sets up
	InheritPriority bool                           // task_inherit_parent_priority
	HeaderErrbacks  bool                           // task_allow_error_cb_on_chord_header

	Deliveries int           // a task that has been delivered, or has ended its worker, so often goes to quarantine the next time; 0: 10, well below the 20 after which RabbitMQ's quorum queues drop it
	Grace      time.Duration // how long running handlers may finish at shutdown; 0: 30 s, negative: without limit
	Settle     time.Duration // how long, after Grace, effects may still be settled; 0: 10 s

	Isolation    Isolation // handlers that run in child processes (handlers.Options.Isolate)
	RejectOnLost bool      // task_reject_on_worker_lost
	RetryOnLost  bool      // task_retry_on_worker_lost

	SoftShutdown       time.Duration // worker_soft_shutdown_timeout: how long a cold shutdown lets running tasks finish; 0: not at all
	SoftShutdownOnIdle bool          // worker_enable_soft_shutdown_on_idle: it waits so long even when nothing runs

	State          string        // worker_state_db: file that keeps the revoked ids and the clock over a restart; "": none
	RevokesMax     int           // revoked ids remembered (CELERY_WORKER_REVOKES_MAX); 0: 50000
	RevokeExpires  time.Duration // and for how long (CELERY_WORKER_REVOKE_EXPIRES); 0: 3 h, negative: for ever
	Deduplicate    bool          // worker_deduplicate_successful_tasks: a redelivered task that has succeeded does not run again
	SuccessMax     int           // successes remembered for that (CELERY_WORKER_SUCCESSFUL_MAX); 0: 1000
	SuccessExpires time.Duration // and for how long (CELERY_WORKER_SUCCESSFUL_EXPIRES); 0: 3 h, negative: for ever

	Control  Control          // remote control: what celery inspect and celery control reach
	Events   Events           // what monitors are told
	Settings *protocol.Object // what inspect conf and report show, by Celery's names; secrets are masked; nil: nothing

	Connection Connection // when the broker cannot be reached

	Logger *slog.Logger // nil: discard

	ahead int // unsettled messages per slot while tasks are short
}

// A Worker runs tasks. Make one with New; Run it once.
type Worker struct {
	cfg Config
	log *slog.Logger
	who publisherID

	link       *link
	slots      *slots
	settling   *slots
	pace       *pace
	autoscaler *autoscaler // nil: none
	queues     *queueSet
	times      *timeLimits
	teller     *teller
	calendar   *calendar
	ledger     *ledger
	revoked    *revoked
	done       *idSet     // recent successes; nil: not remembered
	state      *stateFile // nil: there is none
	limiter    *limiter
	executor   *executor
	budget     *budget       // nil: none
	children   *isolate.Pool // nil: no handler is isolated
	settler    *settler
	control    *control
	pulse      *pulse
	mingle     *mingle
	gossip     *gossip
	meter      *meter
	roster     *roster

	stats  stats
	ran    atomic.Bool
	delays once    // the delay exchanges were set up, or could not be
	stages *stages // towards the end of Run
}

// New checks cfg and builds a Worker. It reads the file of Config.State, where there is one, and does not dial.
func New(cfg Config) (*Worker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Worker{cfg: cfg, log: cfg.Logger, stages: newStages(), delays: newOnce()}
	w.slots = newSlots(cfg.Concurrency)
	own, err := w.isolate(cfg.Handlers)
	if err != nil {
		return nil, err
	}
	if w.cfg.Handlers, err = withBuiltins(own, w); err != nil {
		return nil, err
	}
	w.roster = newRoster()
	w.settling = newSlots(cfg.Settling)
	w.pace = newPace(cfg.Prefetch, cfg.ahead)
	w.autoscaler = newAutoscaler(cfg.Autoscale, w.log, w.slots, w.settling)
	w.queues = newQueueSet(cfg.Queues, cfg.Declared)
	w.times = newTimeLimits()
	w.teller = newTeller(&w.cfg)
	w.link = newLink(cfg.Transport, w.log, cfg.Connection)
	w.calendar = newCalendar()
	w.revoked = newRevoked(cfg.RevokesMax, cfg.RevokeExpires)
	if cfg.Deduplicate {
		w.done = newIDSet(cfg.SuccessMax, cfg.SuccessExpires)
	}
	// A stamp may be revoked long before the task that bears it comes: it then counts as revoked by its id.
	w.ledger = newLedger(func(t *protocol.Task) { w.revoked.note(t, time.Now()) })
	w.limiter = newLimiter(w.cfg.Handlers, cfg.Rate)
	w.who = newPublisherID(cfg.Node)
	clock := newClock()
	w.meter = newMeter(&w.cfg)
	w.pulse = newPulse(&w.cfg, w.log, w.link, clock, w.meter, &w.stats, w.who.origin)
	w.mingle = newMingle(&w.cfg, w.log, w.link, clock, w.revoked)
	w.gossip = &gossip{cfg: &w.cfg, log: w.log, link: w.link, clock: clock}
	w.settler = &settler{
		cfg: &w.cfg, log: w.log, link: w.link, ledger: w.ledger, broker: cfg.Transport, stats: &w.stats, who: w.who, told: w.pulse,
		dispatch: &dispatch.Dispatcher{Publisher: tellingPublisher{w.link, w.pulse}, Results: cfg.Results, Encoding: cfg.Encoding, Extended: cfg.Extended},
	}
	w.budget = newBudget(cfg.Memory)
	w.executor = &executor{children: w.children, budget: w.budget, meter: w.meter, cfg: &w.cfg, log: w.log, roster: w.roster, ledger: w.ledger, settler: w.settler, times: w.times, pid: os.Getpid()}
	if cfg.State != "" {
		if w.state, err = openState(cfg.State, cfg.Node, w.revoked.idSet, clock, w.log); err != nil {
			return nil, err
		}
	}
	w.control = newControl(&w.cfg, w.log, w.link, clock, &Node{
		cfg: &w.cfg, ledger: w.ledger, calendar: w.calendar, revoked: w.revoked, clock: clock, slots: w.slots, settling: w.settling,
		autoscaler: w.autoscaler, queues: w.queues, limiter: w.limiter, times: w.times, teller: w.teller, pulse: w.pulse, memory: &memory{},
		children: w.children, window: w.window, stats: w.Stats, stop: w.Stop, began: time.Now(), pid: os.Getpid(),
	}, w.mingle.asked.done, w.roster.handler)
	return w, nil
}

// window is how many messages may be unsettled now.
func (w *Worker) window() int {
	return prefetchCount(w.slots.ceiling(), w.each(), w.calendar.waitingForETA(), w.cfg.ETALimit)
}

// crowded reports whether more tasks are under way than there are slots: some of them settle.
func (w *Worker) crowded() bool {
	under, _ := w.meter.unsettled.look(time.Time{})
	return under > w.slots.ceiling()
}

// each is how many of them there are for each slot.
func (w *Worker) each() int {
	each := w.pace.perSlot()
	if limit := w.cfg.ETALimit; limit > 0 { // all that the pace adds may turn out to wait for an eta
		each = max(w.cfg.Prefetch, min(each, limit/max(1, w.slots.ceiling())))
	}
	return each
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("worker: Config."+format, args...)) }
	if c.Transport == nil {
		bad("Transport is required")
	}
	if c.Handlers == nil {
		bad("Handlers is required")
	}
	for name, n := range map[string]int{"Concurrency": c.Concurrency, "ETALimit": c.ETALimit, "Settling": c.Settling, "Deliveries": c.Deliveries, "RevokesMax": c.RevokesMax, "SuccessMax": c.SuccessMax} {
		if n < 0 {
			bad("%s is %d, want 0 or more", name, n)
		}
	}
	for name, d := range map[string]time.Duration{"SoftLimit": c.SoftLimit, "HardLimit": c.HardLimit, "Settle": c.Settle, "SoftShutdown": c.SoftShutdown, "Connection.Timeout": c.Connection.Timeout} {
		if d < 0 {
			bad("%s is %v, want 0 or more", name, d)
		}
	}
	for _, f := range c.Isolation.faults() {
		bad("%s", f)
	}
	if c.Memory < 0 {
		bad("Memory is %d, want 0 or more bytes", c.Memory)
	}
	if _, err := handlers.ParseRate(c.Rate); err != nil {
		bad("Rate: %v", err)
	}
	for _, f := range c.Control.faults() {
		bad("%s", f)
	}
	if a := c.Autoscale; a.Min < 0 || a.Max < 0 || a.Max > slotsMax || a.Max > 0 && a.Min > a.Max || a.Max == 0 && a.Min > 0 || a.KeepAlive < 0 {
		bad("Autoscale is %+v, want Max from Min to %d, both and KeepAlive 0 or more", a, slotsMax)
	}
	for _, f := range c.Events.faults(c.Encoding.Seal) {
		bad("%s", f)
	}
	seen := map[string]bool{}
	for _, q := range c.Queues {
		switch {
		case q.Name == "":
			bad("Queues has a queue without a name")
		case seen[q.Name]:
			bad("Queues names %q twice", q.Name)
		}
		seen[q.Name] = true
	}
	if err := errors.Join(errs...); err != nil {
		return c, err
	}
	if c.Queues == nil {
		c.Queues = []transports.Queue{{Name: "celery", Create: true}}
	}
	c.Queues = slices.Clone(c.Queues)
	c.Declared = slices.Clone(c.Declared)
	if c.Limits.Seal == nil {
		c.Limits.Seal = c.Encoding.Seal
	}
	c.Concurrency = cmp.Or(c.Concurrency, runtime.GOMAXPROCS(0))
	c.Settling = cmp.Or(c.Settling, 4*max(c.Concurrency, c.Autoscale.Max))
	if c.Autoscale.Max > 0 {
		c.Concurrency = c.Autoscale.Min
		c.Autoscale.KeepAlive = cmp.Or(c.Autoscale.KeepAlive, 30*time.Second)
	}
	if c.Prefetch == 0 {
		c.Prefetch, c.ahead = 4, aheadMost
	}
	c.Deliveries = cmp.Or(c.Deliveries, 10)
	c.Connection.Retries = cmp.Or(c.Connection.Retries, 100)
	c.Grace = cmp.Or(c.Grace, 30*time.Second)
	c.RevokesMax, c.RevokeExpires = cmp.Or(c.RevokesMax, revokedMax), cmp.Or(c.RevokeExpires, revokedFor)
	c.SuccessMax, c.SuccessExpires = cmp.Or(c.SuccessMax, successesMax), cmp.Or(c.SuccessExpires, successesFor)
	c.Settle = cmp.Or(c.Settle, 10*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "localhost"
		}
		c.Node = "celery@" + host
	}
	return c, nil
}

// ErrRan is returned by a second Run of the same Worker.
var ErrRan = errors.New("worker: Run was called before")

// Run takes and runs tasks until ctx is done or Stop is called, then stops in order: it takes no more, returns what has not
// started, lets running tasks finish for Config.Grace, ends them, and waits until all effects are settled.
// It returns nil after a clean drain, an error wrapping ErrGrace when tasks were cut short, and an error
// wrapping transports.ErrCredentials when the broker refuses us at the first dial, resultbackend.ErrUnfit when the result
// store is seen to be of a kind that cannot be used, or ErrUnreachable when the broker was not
// reached as often as Config.Connection says: then running tasks may finish, too. Any other trouble with the broker
// or the result store is waited out.
func (w *Worker) Run(ctx context.Context) error {
	if !w.ran.CompareAndSwap(false, true) {
		return ErrRan
	}
	return w.run(ctx)
}
