package worker

import (
	"context"
	"sync"
)

// slots bounds how many may do something at a time. Whoever waits is served in order. How many there are may be
// changed while they are in use; a slot in use is never taken away.
type slots struct {
	mu      sync.Mutex
	limit   int             // how many there are; never below used
	most    int             // acquire adds slots by itself up to so many; not above limit: none
	used    int             //
	waiting []chan struct{} // in order; one is closed to hand a slot over; empty while there is room
	emptied []chan struct{} // closed when used is 0

	// Set before use, called outside mu: edge when there is room no more or again, grew when acquire has added slots.
	edge func()
	grew func(n int)
}

func newSlots(limit int) *slots {
	return &slots{limit: limit, edge: func() {}, grew: func(int) {}}
}

// room reports whether a slot can be had at once, perhaps a new one. The caller holds mu.
func (s *slots) room() bool { return s.used < max(s.limit, s.most) && len(s.waiting) == 0 }

// take takes a slot, which it adds if need be, and returns how many it added. The caller holds mu and saw room.
func (s *slots) take() (added int) {
	if s.used == s.limit {
		s.limit++
		added = 1
	}
	s.used++
	return added
}

// acquire takes a slot, waiting for one. It reports false when ctx ended first.
func (s *slots) acquire(ctx context.Context) bool {
	s.mu.Lock()
	if s.room() {
		added := s.take()
		full := !s.room()
		s.mu.Unlock()
		if added > 0 {
			s.grew(added)
		}
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
	full := !s.room()
	s.used--
	var emptied []chan struct{}
	if s.used == 0 {
		emptied, s.emptied = s.emptied, nil
	}
	s.mu.Unlock()
	for _, c := range emptied {
		close(c)
	}
	if full {
		s.edge()
	}
}

// serve hands slots to those who wait while there are any. The caller holds mu and closes what it returns.
func (s *slots) serve() (turns []chan struct{}, added int) {
	for len(s.waiting) > 0 && s.used < max(s.limit, s.most) {
		added += s.take()
		turns = append(turns, s.waiting[0])
		s.waiting = s.waiting[1:]
	}
	return turns, added
}

// grow adds n slots.
func (s *slots) grow(n int) {
	s.mu.Lock()
	s.limit += max(n, 0)
	turns, added := s.serve()
	s.mu.Unlock()
	s.handed(turns, added)
}

// shrink removes n slots that nobody uses, or as many as there are, and returns how many.
func (s *slots) shrink(n int) int {
	s.mu.Lock()
	n = min(max(n, 0), s.limit-s.used)
	s.limit -= n
	s.mu.Unlock()
	s.edge()
	return n
}

// stretch lets acquire add slots by itself, up to most.
func (s *slots) stretch(most int) {
	s.mu.Lock()
	s.most = most
	turns, added := s.serve()
	s.mu.Unlock()
	s.handed(turns, added)
}

func (s *slots) handed(turns []chan struct{}, added int) {
	for _, t := range turns {
		close(t)
	}
	if added > 0 {
		s.grew(added)
	}
	s.edge()
}

// free reports whether acquire would succeed at once.
func (s *slots) free() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.room()
}

// empty is closed as soon as nobody uses a slot.
func (s *slots) empty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{})
	if s.used == 0 {
		close(c)
	} else {
		s.emptied = append(s.emptied, c)
	}
	return c
}

// ceiling is how many slots there may be without an order: as many as there are, or as many as acquire may add.
func (s *slots) ceiling() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.limit, s.most)
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
