package worker

import (
	"sync"
	"time"
)

// A line holds who is here in order of arrival, so that the age of the oldest is known without looking at all.
// A place is one stand in it, kept inside the one who stands there: nothing is allocated.
type line struct {
	mu          sync.Mutex
	first, last *place
	count       int
}

type place struct {
	since      time.Time
	prev, next *place
	in         bool
}

// enter puts p at the end of the line; since is nearly in order, and whoever is a moment late does no harm.
func (l *line) enter(p *place, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.in {
		return
	}
	*p = place{since: since, prev: l.last, in: true}
	if l.last != nil {
		l.last.next = p
	} else {
		l.first = p
	}
	l.last = p
	l.count++
}

// leave takes p out, wherever it stands; one that is not in the line is left alone.
func (l *line) leave(p *place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !p.in {
		return
	}
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		l.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		l.last = p.prev
	}
	*p = place{}
	l.count--
}

// look is how many stand in the line and how long the first has been there.
func (l *line) look(now time.Time) (count int, oldest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first != nil {
		oldest = now.Sub(l.first.since)
	}
	return l.count, oldest
}
