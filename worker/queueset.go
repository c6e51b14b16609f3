package worker

import (
	"slices"
	"sync"

	"github.com/stalkworker/stalk/transports"
)

// queueSet is the queues the worker wants to consume: those it was configured with, and what remote control
// added and cancelled. It outlives connections; intake makes each one follow it.
type queueSet struct {
	known   map[string]transports.Queue // definitions by name; not changed
	changed func()                      // called outside mu when the set is another; set before use

	mu      sync.Mutex
	wanted  []wantedQueue // in order of their coming
	version int           // counts changes
}

// A wantedQueue is trusted once a connection has survived it. What was added by remote control is tried by
// itself until then, so that a queue whose declaration breaks connections takes no other with it.
type wantedQueue struct {
	transports.Queue
	trusted bool
	strikes int // connections that broke while it was tried
}

// strikesMax is how many connections may break over a queue before it is given up.
const strikesMax = 3

// newQueueSet wants the queues of want; known are further definitions that add takes by their name.
func newQueueSet(want, known []transports.Queue) *queueSet {
	s := &queueSet{known: map[string]transports.Queue{}, changed: func() {}}
	for _, q := range known {
		s.known[q.Name] = q
	}
	for _, q := range want {
		s.known[q.Name] = q
		s.wanted = append(s.wanted, wantedQueue{Queue: q, trusted: true})
	}
	return s
}

// list is the wanted queues, in order of their coming.
func (s *queueSet) list() []transports.Queue {
	return s.those(func(wantedQueue) bool { return true })
}

// trusted are those of the wanted queues that a connection has survived.
func (s *queueSet) trusted() []transports.Queue {
	return s.those(func(q wantedQueue) bool { return q.trusted })
}

func (s *queueSet) those(which func(wantedQueue) bool) []transports.Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []transports.Queue
	for _, q := range s.wanted {
		if which(q) {
			out = append(out, q.Queue)
		}
	}
	return out
}

// revision counts the changes of the set.
func (s *queueSet) revision() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// queuesMost bounds the set: each queue costs a channel or a place in every pop.
const queuesMost = 1000

// add wants one more queue; a known name has its own definition. It reports false when there are too many. One that
// is wanted already stays as it is.
func (s *queueSet) add(q transports.Queue) bool {
	if known, ok := s.known[q.Name]; ok {
		q = known
	}
	s.mu.Lock()
	switch {
	case s.index(q.Name) >= 0:
		s.mu.Unlock()
		return true
	case len(s.wanted) >= queuesMost:
		s.mu.Unlock()
		return false
	}
	s.wanted = append(s.wanted, wantedQueue{Queue: q})
	s.version++
	s.mu.Unlock()
	s.changed()
	return true
}

// cancel wants the queue no longer.
func (s *queueSet) cancel(name string) {
	s.mu.Lock()
	i := s.index(name)
	if i >= 0 {
		s.wanted = slices.Delete(s.wanted, i, i+1)
		s.version++
	}
	s.mu.Unlock()
	if i >= 0 {
		s.changed()
	}
}

// trust notes that a connection has survived the queue.
func (s *queueSet) trust(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.index(name); i >= 0 {
		s.wanted[i].trusted = true
	}
}

// strike notes that a connection broke while the queue was tried, and reports whether it is now given up.
func (s *queueSet) strike(name string) (dropped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index(name)
	if i < 0 || s.wanted[i].trusted {
		return false
	}
	if s.wanted[i].strikes++; s.wanted[i].strikes < strikesMax {
		return false
	}
	s.wanted = slices.Delete(s.wanted, i, i+1)
	s.version++
	return true
}

// index is the place of the queue in wanted, or -1; the caller holds mu.
func (s *queueSet) index(name string) int {
	return slices.IndexFunc(s.wanted, func(q wantedQueue) bool { return q.Name == name })
}
