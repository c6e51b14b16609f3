package worker

import (
	"context"
	"sync"
	"time"
)

// A limit bounds attempts by attemptTimeout, and shares one context, with its timer, among those that begin at about the same time:
// thousands of small tasks a second would else make two each. Such a context is let go of, not cancelled; its timer ends it. The
// zero limit is usable.
type limit struct {
	mu     sync.Mutex
	parent context.Context
	shared context.Context
	cancel context.CancelFunc // of shared; not called, see above
	until  time.Time          // an attempt after that takes a new one
}

// limitSlack is by how much an attempt may be bounded too early.
const limitSlack = attemptTimeout / 20

// of is a context within parent, for one attempt that begins now.
func (l *limit) of(parent context.Context) context.Context {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parent != parent || now.After(l.until) || l.shared.Err() != nil {
		l.parent, l.until = parent, now.Add(limitSlack)
		l.shared, l.cancel = context.WithTimeout(parent, attemptTimeout)
	}
	return l.shared
}
