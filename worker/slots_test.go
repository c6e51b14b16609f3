package worker

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
)

// taken starts a goroutine that takes a slot and keeps it until the function is called.
func taken(t *testing.T, s *slots) (give func()) {
	t.Helper()
	release := make(chan struct{})
	go func() {
		if s.acquire(t.Context()) {
			<-release
			s.release()
		}
	}()
	return sync.OnceFunc(func() { close(release) })
}

func wantSlots(t *testing.T, s *slots, limit, used int) {
	t.Helper()
	synctest.Wait()
	if now, _ := s.size(); now != limit || s.inUse() != used {
		t.Fatalf("%d of %d slots are used, want %d of %d", s.inUse(), now, used, limit)
	}
}

func TestSlotsInUseAreNotTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(3)
		a, b := taken(t, s), taken(t, s)
		wantSlots(t, s, 3, 2)
		if n := s.shrink(5); n != 1 {
			t.Errorf("shrink removed %d slots, want the idle one", n)
		}
		wantSlots(t, s, 2, 2)
		c := taken(t, s)
		wantSlots(t, s, 2, 2)
		a()
		wantSlots(t, s, 2, 2) // c has it
		b()
		c()
		wantSlots(t, s, 2, 0)
		if n := s.shrink(9); n != 2 {
			t.Errorf("shrink removed %d slots, want 2", n)
		}
		wantSlots(t, s, 0, 0)
		if s.free() {
			t.Error("there is a free slot among none")
		}
		d := taken(t, s)
		wantSlots(t, s, 0, 0)
		s.grow(1)
		wantSlots(t, s, 1, 1)
		d()
		wantSlots(t, s, 1, 0)
	})
}

func TestSlotsGrowForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		var gives []func()
		for range 5 {
			gives = append(gives, taken(t, s))
		}
		wantSlots(t, s, 1, 1)
		s.grow(2)
		wantSlots(t, s, 3, 3)
		s.stretch(4)
		wantSlots(t, s, 4, 4)
		select {
		case <-s.empty():
			t.Error("slots are in use, and empty says they are not")
		default:
		}
		empty := s.empty()
		for _, give := range gives {
			give()
		}
		<-empty
		wantSlots(t, s, 4, 0)
		<-s.empty()
	})
}

func TestSlotsStretchWithTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(0)
		grown, edges := 0, 0
		s.grew = func(n int) { grown += n }
		s.stretch(2)
		s.edge = func() { edges++ }
		if !s.free() {
			t.Fatal("a slot could be added, and none is free")
		}
		for range 2 {
			if !s.acquire(t.Context()) {
				t.Fatal("no slot")
			}
		}
		if grown != 2 || s.free() || edges != 1 {
			t.Errorf("grown %d, free %v, edges %d; want 2, false, 1", grown, s.free(), edges)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if s.acquire(ctx) {
			t.Error("a third slot was had")
		}
		s.release()
		if edges != 2 || !s.free() {
			t.Errorf("edges %d, free %v after a release; want 2, true", edges, s.free())
		}
		s.stretch(0)
		if n := s.shrink(2); n != 1 {
			t.Errorf("shrink removed %d, want 1", n)
		}
		s.release()
		wantSlots(t, s, 1, 0)
	})
}

// TestSlotsUnderChange: whoever waits is served in the end, and the count is right, whatever changes.
func TestSlotsUnderChange(t *testing.T) {
	s := newSlots(2)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				if s.acquire(t.Context()) {
					s.release()
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 300 {
			s.grow(2)
			s.stretch(i % 5)
			s.shrink(3)
			s.grow(1)
		}
	})
	wg.Wait()
	if now, _ := s.size(); s.inUse() != 0 || now < 1 {
		t.Errorf("%d of %d slots are used", s.inUse(), now)
	}
}

// TestLentSlotsAreThereForAWhile: what is in use when they are gone stays in use, and nobody gets one before there is room.
func TestLentSlotsAreThereForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2)
		for range 2 {
			s.acquire(t.Context())
		}
		more := make(chan bool, 3)
		go func() { more <- s.acquire(t.Context()) }()
		synctest.Wait()
		s.lend(2)
		if !<-more || !s.acquire(t.Context()) {
			t.Fatal("no lent slot")
		}
		if limit, used := s.size(); limit != 2 || used != 4 {
			t.Fatalf("%d of %d used, want 4 of 2", used, limit)
		}
		s.lend(0)
		if n := s.shrink(1); n != 0 {
			t.Errorf("%d slots removed that are in use", n)
		}
		go func() { more <- s.acquire(t.Context()) }()
		for range 3 {
			synctest.Wait()
			if len(more) > 0 {
				t.Fatal("a slot was given away that is gone")
			}
			s.release()
		}
		if !<-more {
			t.Fatal("no slot where there is room")
		}
		if limit, used := s.size(); limit != 2 || used != 2 {
			t.Errorf("%d of %d used, want 2 of 2", used, limit)
		}
	})
}
