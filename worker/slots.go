package worker

import (
	"context"
	"sync"
)

// slots bounds how many may do something at a time. Whoever waits is served in order.
type slots struct {
	mu      sync.Mutex
	limit   int
	used    int
	waiting []chan struct{} // in order; one is closed to hand a slot over

	edge func() // called outside mu when the last slot is taken or one is free again; set before use
}

func newSlots(limit int) *slots { return &slots{limit: limit, edge: func() {}} }

// acquire takes a slot, waiting for one. It reports false when ctx ended first.
func (s *slots) acquire(ctx context.Context) bool {
	s.mu.Lock()
	if s.used < s.limit && len(s.waiting) == 0 {
		s.used++
		full := s.used == s.limit
		s.mu.Unlock()
		if full {
			s.edge()
		}
		return true
	}
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	s.mu.Lock()
	for i, w := range s.waiting {
		if w == turn {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			s.mu.Unlock()
			return false
		}
	}
	s.mu.Unlock()
	s.release() // the slot was handed over while we gave up
	return false
}

// release gives a slot back, to the first in the queue if there is one.
func (s *slots) release() {
	s.mu.Lock()
	if len(s.waiting) > 0 {
		turn := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.mu.Unlock()
		close(turn)
		return
	}
	s.used--
	free := s.used == s.limit-1
	s.mu.Unlock()
	if free {
		s.edge()
	}
}

// free reports whether acquire would succeed at once.
func (s *slots) free() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used < s.limit && len(s.waiting) == 0
}

// size is how many there are and how many are taken.
func (s *slots) size() (limit, used int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit, s.used
}

func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}
