package worker

import (
	"sync"
	"time"

	"github.com/stalkworker/stalk/handlers"
)

// limiter gives each task name its turns: Celery's token bucket of capacity 1, first come first served.
// A turn is reserved once; whoever got a later one is held until then.
type limiter struct {
	mu   sync.Mutex
	next map[string]time.Time     // the earliest free turn
	gap  map[string]time.Duration // between two turns; names without a rate are absent
}

func newLimiter(r *handlers.Registry) *limiter {
	l := &limiter{next: map[string]time.Time{}, gap: map[string]time.Duration{}}
	for h := range r.All() {
		// A rate that cannot be read was refused by NewRegistry.
		if perSecond, err := handlers.ParseRate(h.Options().Rate); err == nil && perSecond > 0 {
			l.gap[h.Name()] = time.Duration(float64(time.Second) / perSecond)
		}
	}
	return l
}

// turn reserves the next turn of the task: now, or the time until which it must wait.
func (l *limiter) turn(name string, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	gap, limited := l.gap[name]
	if !limited {
		return now
	}
	at := l.next[name]
	if at.Before(now) {
		at = now
	}
	l.next[name] = at.Add(gap)
	return at
}
