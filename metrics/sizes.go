package metrics

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/stalkworker/stalk/transports"
)

const (
	sizesFresh    = 10 * time.Second       // younger sizes are shown again: many scrapers cost no more than one
	sizesPatience = 500 * time.Millisecond // how long a scrape waits for newer ones
	sizesTimeout  = 5 * time.Second        // of one look at all queues
	sizesOld      = 2 * time.Minute        // older sizes are not shown: no value is better than a wrong one
)

// sizes keeps what was last seen of the queues. A scrape starts a look when what is there is not fresh, and waits
// for it for a moment only: a broker that hangs must not take the metrics away that would tell of it.
type sizes struct {
	ask func(ctx context.Context, name string) (transports.QueueSize, error)

	mu     sync.Mutex
	last   map[string]transports.QueueSize // not written once it is here
	at     time.Time
	look   chan struct{} // closed at the end of the look under way; nil: none is
	cancel context.CancelFunc
	closed bool
}

func newSizes(ask func(context.Context, string) (transports.QueueSize, error)) *sizes {
	return &sizes{ask: ask}
}

// of are the sizes of the queues and of what is set aside beside them, and when they were looked at. connected
// says whether there is a broker to ask.
func (s *sizes) of(ctx context.Context, queues []string, connected bool) (map[string]transports.QueueSize, time.Time) {
	s.mu.Lock()
	look := s.look
	if connected && !s.closed && look == nil && (s.at.IsZero() || time.Since(s.at) > sizesFresh) {
		look = make(chan struct{})
		s.look = look
		var asking context.Context
		asking, s.cancel = context.WithTimeout(context.Background(), sizesTimeout) // outlives the scrape that began it
		go s.refresh(asking, s.cancel, queues, look)
	}
	s.mu.Unlock()
	if look != nil {
		patience := time.NewTimer(sizesPatience)
		defer patience.Stop()
		select {
		case <-look:
		case <-patience.C:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || time.Since(s.at) > sizesOld {
		return nil, s.at
	}
	return s.last, s.at
}

// refresh asks for each queue, one after the other. What it cannot learn in time is left out.
func (s *sizes) refresh(ctx context.Context, cancel context.CancelFunc, queues []string, done chan struct{}) {
	defer cancel()
	seen, learned := map[string]transports.QueueSize{}, false
	for _, q := range queues {
		for _, name := range []string{q, transports.Quarantine(q)} {
			size, err := s.ask(ctx, name)
			switch {
			case err == nil:
				seen[name], learned = size, true
			case errors.Is(err, transports.ErrNoQueue) && name != q:
				seen[name], learned = transports.QueueSize{}, true // nothing was ever set aside
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if learned {
		s.last, s.at = seen, time.Now()
	}
	s.look = nil
	close(done)
}

// close ends the look under way and waits until it has ended; a driver that does not listen is left after a moment.
func (s *sizes) close() {
	s.mu.Lock()
	s.closed = true
	look := s.look
	if look != nil {
		s.cancel()
	}
	s.mu.Unlock()
	if look == nil {
		return
	}
	patience := time.NewTimer(sizesPatience)
	defer patience.Stop()
	select {
	case <-look:
	case <-patience.C:
	}
}
