package worker

import (
	"cmp"
	"math"
	"sync"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// limiter gives each task name its turns: Celery's token bucket of capacity 1, first come first served.
// A turn is reserved once; whoever got a later one is held until then. Rates may be changed (set): then the turns
// given before are void, which their generation tells.
type limiter struct {
	mu      sync.Mutex
	buckets map[string]*bucket        // by task name; names that never had a rate are absent
	texts   map[string]protocol.Value // rates as they were ordered
}

// A bucket is the turns of one task name.
type bucket struct {
	next       time.Time     // the earliest free turn
	gap        time.Duration // between two turns; 0: no limit
	generation int           // counts the rates
}

// newLimiter gives each task its own rate, or else that of the worker.
func newLimiter(r *handlers.Registry, otherwise string) *limiter {
	l := &limiter{buckets: map[string]*bucket{}, texts: map[string]protocol.Value{}}
	for h := range r.All() {
		// A rate that cannot be read was refused by NewRegistry, or by New.
		if perSecond, err := handlers.ParseRate(cmp.Or(h.Options().Rate, otherwise)); err == nil && perSecond > 0 {
			l.buckets[h.Name()] = &bucket{gap: gapOf(perSecond)}
		}
	}
	return l
}

// gapOf is the time between two turns; one turn in a hundred years is the slowest.
func gapOf(perSecond float64) time.Duration {
	if perSecond <= 0 || math.IsInf(perSecond, 1) {
		return 0
	}
	return time.Duration(min(float64(time.Second)/perSecond, float64(farthest)))
}

// turn reserves the next turn of the task: now, or the time until which it must wait.
func (l *limiter) turn(name string, now time.Time) (at time.Time, generation int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.buckets[name]
	if n == nil {
		return now, 0
	}
	return n.take(now), n.generation
}

func (n *bucket) take(now time.Time) time.Time {
	if n.gap == 0 {
		return now
	}
	at := n.next
	if at.Before(now) {
		at = now
	}
	n.next = at.Add(n.gap)
	return at
}

// set changes the rate: 0 is no limit. The first turn is free at once, as in a new bucket. text is the rate as it
// was ordered.
func (l *limiter) set(name string, perSecond float64, text protocol.Value) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.buckets[name]
	if n == nil {
		n = &bucket{}
		l.buckets[name] = n
	}
	n.next, n.gap = time.Time{}, gapOf(perSecond)
	n.generation++
	l.texts[name] = text
}

// recall voids the turns that have not come yet, since one of them was given to a message that went back: the next turn is
// the first that is still to come.
func (l *limiter) recall(name string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.buckets[name]; n != nil && n.gap > 0 && n.next.After(now) {
		n.next = n.next.Add(-(n.next.Sub(now) - 1) / n.gap * n.gap)
		n.generation++
	}
}

// generation tells which turns of the task are valid.
func (l *limiter) generation(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.buckets[name]; n != nil {
		return n.generation
	}
	return 0
}

// ordered is the rate of the task as it was ordered, and whether it was.
func (l *limiter) ordered(name string) (protocol.Value, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok := l.texts[name]
	return v, ok
}

// retime gives the tasks of the name that wait for their turn new ones, by the rate that holds now. Whoever holds
// a task for a turn does the same when the generation has moved meanwhile, so that none keeps a void one. Looking and
// giving are one step of the calendar's: two at the same time would give turns away that nobody takes.
func retime(l *limiter, c *calendar, name string, now time.Time) {
	c.retime(name, func() int { return l.generation(name) }, func() (time.Time, int) { return l.turn(name, now) })
}
