package worker

import (
	"container/list"
	"sync"
	"time"
)

// idSet is a bounded set of task ids, each kept for a while: Celery's LimitedSet. It is safe for concurrent use.
type idSet struct {
	max     int           // ids; the oldest makes way
	ttl     time.Duration // of an id; negative: for ever
	changed chan struct{} // capacity 1: an id was added

	mu  sync.Mutex
	ids map[string]*list.Element
	age *list.List // of dated, oldest first
}

// A dated id is one of the set and the moment it was added.
type dated struct {
	id string
	at time.Time
}

func newIDSet(limit int, ttl time.Duration) *idSet {
	return &idSet{max: limit, ttl: ttl, changed: make(chan struct{}, 1), ids: map[string]*list.Element{}, age: list.New()}
}

// add adds the id, or makes it the youngest.
func (s *idSet) add(id string, now time.Time) {
	s.mu.Lock()
	if e := s.ids[id]; e != nil {
		s.age.Remove(e)
	}
	s.ids[id] = s.age.PushBack(dated{id, now})
	for s.age.Len() > s.max {
		s.drop(s.age.Front())
	}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *idSet) has(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	return s.ids[id] != nil
}

// list is the ids, oldest first.
func (s *idSet) list(now time.Time) []string {
	all := s.all(now)
	ids := make([]string, len(all))
	for i, d := range all {
		ids[i] = d.id
	}
	return ids
}

// all is the ids and their moments, oldest first.
func (s *idSet) all(now time.Time) []dated {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	out := make([]dated, 0, s.age.Len())
	for e := s.age.Front(); e != nil; e = e.Next() {
		out = append(out, e.Value.(dated))
	}
	return out
}

// expire forgets what is too old; the caller holds mu.
func (s *idSet) expire(now time.Time) {
	for e := s.age.Front(); e != nil && s.ttl >= 0 && now.Sub(e.Value.(dated).at) > s.ttl; e = s.age.Front() {
		s.drop(e)
	}
}

// drop forgets e; the caller holds mu.
func (s *idSet) drop(e *list.Element) {
	s.age.Remove(e)
	delete(s.ids, e.Value.(dated).id)
}
