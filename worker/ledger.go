package worker

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// ledger knows which runs are here: held, running or settling; and which were settled although their
// ack was lost, so that the copy the broker brings is acked and not run again.
type ledger struct {
	mu      sync.Mutex
	entries map[string]*entry      // by runKey
	unacked map[string]string      // settled, ack lost; by runKey, to the broker's instance since when that is so
	order   []string               // of unacked, oldest first
	started map[string]int64       // runs begun, by display name
	arrived func(t *protocol.Task) // called with each task before it is decided about
}

// An entry is one run. Its fields are written under the ledger's mu, settled before done is closed.
type entry struct {
	key     string
	name    string
	id      string
	task    *protocol.Task // not changed once it is here
	over    bool           // the handler has returned
	running bool           // from the start of the handler until the effects are safe
	began   time.Time      // of running
	acked   bool           // early
	pid     int            // of the process it runs in; known once it runs
	again   bool           // redelivered; known once it runs
	doomed  bool           // terminate came before the run began
	signum  int            // of terminate
	kill    chan int       // capacity 1: the signum of terminate, for a run that has begun
	settled bool           // valid once done is closed: the effects are safe
	since   string         // with settled: the broker's instance before the first effect
	done    chan struct{}  // closed when the run has left
}

// unackedMax bounds what is remembered of lost acks; the oldest is forgotten, which at worst runs it again.
const unackedMax = 10000

func newLedger(arrived func(*protocol.Task)) *ledger {
	return &ledger{entries: map[string]*entry{}, unacked: map[string]string{}, started: map[string]int64{}, arrived: arrived}
}

// enter writes the run down. The other entry is not nil when the same run is here already; then nothing is written.
func (l *ledger) enter(t *protocol.Task) (mine, other *entry) {
	key := runKey(t)
	l.arrived(t) // outside the lock: it takes another
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[key]; e != nil {
		return nil, e
	}
	e := &entry{key: key, name: t.Name, id: t.ID, task: t, kill: make(chan int, 1), done: make(chan struct{})}
	l.entries[key] = e
	return e, nil
}

// start marks the run as executing, unless it was terminated before it began: then it must not run, and signum says
// by which signal.
func (l *ledger) start(e *entry) (signum int, doomed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e == nil {
		return 0, false
	}
	if e.doomed {
		return e.signum, true
	}
	e.running, e.began = true, time.Now()
	name := e.task.Display()
	if _, known := l.started[name]; !known && len(l.started) >= startedMax {
		name = e.name // shadows are the callers' choice; names are of our registry
	}
	l.started[name]++
	return 0, false
}

// here are those of the tasks that can be terminated, in order of their ids.
func (l *ledger) here(ids map[string]bool) []string {
	return l.each(ids, func(*entry) {})
}

// terminate ends the runs of the tasks that are here: one that has begun is told, one that has not will not begin. It
// returns the ids of those that it found, in order; a run whose handler has returned is none.
func (l *ledger) terminate(ids map[string]bool, signum int) []string {
	return l.each(ids, func(e *entry) {
		switch {
		case e.running:
			select {
			case e.kill <- signum:
			default: // told already
			}
		default:
			e.doomed, e.signum = true, signum
		}
	})
}

// each calls do, under mu, with the runs of the tasks whose handlers have not returned.
func (l *ledger) each(ids map[string]bool, do func(*entry)) []string {
	l.mu.Lock()
	var found []string
	for _, e := range l.entries {
		if ids[e.id] && !e.over {
			do(e)
			found = append(found, e.id)
		}
	}
	l.mu.Unlock()
	slices.Sort(found)
	return slices.Compact(found)
}

// startedMax bounds the names that are counted apart.
const startedMax = 10000

// accepted notes how the message of a run stands: acknowledged early, brought before; and in which process it runs.
func (l *ledger) accepted(e *entry, acked, redelivered bool, pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e != nil {
		e.acked, e.again, e.pid = acked, redelivered, pid
	}
}

// totals are the runs begun since the worker was made, by display name.
func (l *ledger) totals() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.started)
}

// A sighting is one run as somebody else may see it.
type sighting struct {
	task        *protocol.Task
	started     time.Time // zero: not running
	acked       bool
	redelivered bool
	pid         int // 0: not known yet
}

func isActive(e *entry) bool   { return e.running }
func isReserved(e *entry) bool { return !e.running }

// sightings are the runs that are here, in order of their start and then of their id.
func (l *ledger) sightings(wanted func(*entry) bool) []sighting {
	var out []sighting
	l.mu.Lock()
	for _, e := range l.entries {
		if wanted(e) {
			out = append(out, sighting{e.task, e.began, e.acked, e.again, e.pid})
		}
	}
	l.mu.Unlock()
	slices.SortFunc(out, func(a, b sighting) int {
		return cmp.Or(a.started.Compare(b.started), cmp.Compare(a.task.ID, b.task.ID))
	})
	return out
}

// leave ends the run; settled says whether its effects are safe, all of them made since the broker's instance of that
// name. A nil entry is none.
func (l *ledger) leave(e *entry, settled bool, since string) {
	if e == nil {
		return
	}
	l.mu.Lock()
	e.settled, e.since = settled, since
	if l.entries[e.key] == e {
		delete(l.entries, e.key)
	}
	l.mu.Unlock()
	close(e.done)
}

// knows reports whether the run is here, or was settled here although its ack was lost.
func (l *ledger) knows(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, unacked := l.unacked[key]
	return l.entries[key] != nil || unacked
}

// ackLost remembers that the run is settled, since the broker's instance of that name, and only its ack did not arrive.
func (l *ledger) ackLost(t *protocol.Task, since string) {
	key := runKey(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.unacked[key]; known {
		l.unacked[key] = since
		return
	}
	l.unacked[key] = since
	l.order = append(l.order, key)
	if len(l.order) > unackedMax {
		delete(l.unacked, l.order[0])
		l.order = l.order[1:]
	}
}

// forget drops what ackLost remembered: the copy has come.
func (l *ledger) forget(t *protocol.Task) {
	key := runKey(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.unacked[key]; known {
		delete(l.unacked, key)
		l.order = slices.DeleteFunc(l.order, func(k string) bool { return k == key })
	}
}

// wasSettled reports whether the run was settled here although its ack was lost. What was settled with another
// instance of the broker may be undone and does not count.
func (l *ledger) wasSettled(t *protocol.Task, instance string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unacked) == 0 {
		return false
	}
	since, known := l.unacked[runKey(t)]
	return known && since == instance
}

// returned notes that the run's handler has returned, or was given up; its effects are still on their way.
func (l *ledger) returned(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e != nil {
		e.over = true
	}
}

// executing names the runs whose handlers are executing: "name[id]".
func (l *ledger) executing() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, e := range l.entries {
		if e.running && !e.over {
			names = append(names, e.name+"["+e.id+"]")
		}
	}
	sort.Strings(names)
	return names
}
