package worker

import (
	"context"
	"slices"
	"sync"
)

// slots bounds how many may do something at a time. Whoever waits is served in order. How many there are may be
// changed while they are in use; a slot in use is never taken away.
type slots struct {
	mu      sync.Mutex
	limit   int             // how many there are; never below used
	most    int             // acquire adds slots by itself up to so many; not above limit: none
	lent    int             // slots that there are besides for a while; used may be above all of them once they are gone
	used    int             //
	waiting []*claim        // in order; empty while there is room for the first
	emptied []chan struct{} // closed when used is 0

	// Set before use, called outside mu: edge when there is room no more or again, grew when acquire has added slots.
	edge func()
	grew func(n int)
}

// A claim is somebody who waits for slots.
type claim struct {
	want int           // how many; fewer are given when there are fewer in all
	got  int           // how many were given; written before turn is closed
	turn chan struct{} // closed when they are handed over
}

func newSlots(limit int) *slots {
	return &slots{limit: limit, edge: func() {}, grew: func(int) {}}
}

// room reports whether a slot can be had at once, perhaps a new one. The caller holds mu.
func (s *slots) room() bool { return s.used < s.all() && len(s.waiting) == 0 }

// all is how many slots may be used. The caller holds mu.
func (s *slots) all() int { return max(s.limit, s.most) + s.lent }

// acquire takes a slot, waiting for one. It reports false when ctx ended first.
func (s *slots) acquire(ctx context.Context) bool { return s.exchange(ctx, 0, 1) > 0 }

// exchange gives up the slots that the caller has and takes as many as it wants together, waiting for them, or all there are where
// there are fewer. It returns how many it took: 0 when ctx ended first. Nobody holds slots while waiting for more, so no
// two wait for each other.
func (s *slots) exchange(ctx context.Context, have, want int) int {
	got, c := s.ask(have, want)
	if c == nil {
		return got
	}
	return s.await(ctx, c)
}

// ask is the first half of exchange: it returns what could be had at once, or a claim that must be awaited.
func (s *slots) ask(have, want int) (got int, c *claim) {
	s.mu.Lock()
	full := !s.room()
	s.used -= have
	turns, added := s.serve() // who waited before
	if len(s.waiting) == 0 {
		more := 0
		got, more = s.give(want)
		added += more
	}
	if got == 0 {
		c = &claim{want: want, turn: make(chan struct{})}
		s.waiting = append(s.waiting, c)
	}
	edge := full == s.room()
	s.mu.Unlock()
	s.handed(turns, added, edge)
	return got, c
}

// await is the second half: how many slots the claim was given, 0 when ctx ended first.
func (s *slots) await(ctx context.Context, c *claim) int {
	select {
	case <-c.turn:
		return c.got
	case <-ctx.Done():
	}
	s.mu.Lock()
	if i := slices.Index(s.waiting, c); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		turns, added := s.serve() // who stands behind may want less
		edge := s.room()
		s.mu.Unlock()
		s.handed(turns, added, edge)
		return 0
	}
	s.mu.Unlock()
	s.giveBack(c.got) // they were handed over while we gave up
	return 0
}

// release gives a slot back.
func (s *slots) release() { s.giveBack(1) }

// giveBack gives n slots back, to those who wait if there are any.
func (s *slots) giveBack(n int) {
	s.mu.Lock()
	full := !s.room()
	s.used -= n
	turns, added := s.serve()
	if s.used == 0 {
		turns, s.emptied = append(turns, s.emptied...), nil
	}
	edge := full && s.room()
	s.mu.Unlock()
	s.handed(turns, added, edge)
}

// give takes n slots, or all there are where there are fewer, and adds those that are missing up to most. It returns how many it took, 0
// when there are too few free ones, and how many it added. The caller holds mu.
func (s *slots) give(n int) (got, added int) {
	n = min(n, s.all())
	if s.used+n > s.all() {
		return 0, 0
	}
	s.used += n
	added = max(0, min(s.used, s.most)-s.limit)
	s.limit += added
	return n, added
}

// serve hands slots to those who wait, in order, while there are enough. The caller holds mu and hands over what it returns.
func (s *slots) serve() (turns []chan struct{}, added int) {
	for len(s.waiting) > 0 {
		c := s.waiting[0]
		got, more := s.give(c.want)
		if got == 0 {
			break
		}
		c.got = got
		turns = append(turns, c.turn)
		added += more
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
	s.handed(turns, added, true)
}

// shrink removes n slots that nobody uses, or as many as there are, and returns how many.
func (s *slots) shrink(n int) int {
	s.mu.Lock()
	n = min(max(n, 0), max(0, s.limit-s.used))
	s.limit -= n
	turns, added := s.serve() // who wants all there are now wants fewer
	s.mu.Unlock()
	s.handed(turns, added, true)
	return n
}

// stretch lets acquire add slots by itself, up to most.
func (s *slots) stretch(most int) {
	s.mu.Lock()
	s.most = most
	turns, added := s.serve()
	s.mu.Unlock()
	s.handed(turns, added, true)
}

// lend makes n slots more than there are, in place of those that were lent before. Those in use stay so.
func (s *slots) lend(n int) {
	s.mu.Lock()
	s.lent = n
	turns, added := s.serve()
	s.mu.Unlock()
	s.handed(turns, added, true)
}

// handed tells everybody what was decided under mu.
func (s *slots) handed(turns []chan struct{}, added int, edge bool) {
	for _, t := range turns {
		close(t)
	}
	if added > 0 {
		s.grew(added)
	}
	if edge {
		s.edge()
	}
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

// ceiling is how many slots there may be without an order: as many as there are, lent ones too, or as many as acquire may add.
func (s *slots) ceiling() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all()
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
