package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// teller stores REVOKED for ids that were revoked by remote control, beside the commands, so that a result store
// that is away holds up no other answer. What it cannot store the task's own message tells again when it comes by.
type teller struct {
	cfg  *Config
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	waiting []telling
	done    chan struct{} // closed when waiting is empty; nil while it is
}

type telling struct {
	id string
	at time.Time
}

func newTeller(cfg *Config) *teller { return &teller{cfg: cfg, wake: make(chan struct{}, 1)} }

const (
	tellWait  = 300 * time.Millisecond // how long the command waits for the store
	tellRetry = 5 * time.Minute        // how long a state is worth storing
)

// tell has REVOKED stored for the ids. It waits a moment for that, as a client may look at the result as soon as
// it is answered, but not while the store is known to be behind.
func (t *teller) tell(ctx context.Context, ids []string, now time.Time) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == "" }) // nobody's
	if t.cfg.Results == nil || len(ids) == 0 {
		return
	}
	t.mu.Lock()
	behind := t.done != nil
	if !behind {
		t.done = make(chan struct{})
	}
	done := t.done
	for _, id := range ids {
		t.waiting = append(t.waiting, telling{id, now})
	}
	dropped := max(len(t.waiting)-revokedMax, 0)
	t.waiting = t.waiting[dropped:]
	t.mu.Unlock()
	if dropped > 0 {
		t.cfg.Logger.Warn("state REVOKED is not stored for some tasks: the result store is behind", "tasks", dropped)
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
	if behind {
		return
	}
	timer := time.NewTimer(tellWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// run stores until ctx is done.
func (t *teller) run(ctx context.Context) {
	for attempt := 0; ; {
		next, ok := t.next()
		if !ok {
			select {
			case <-t.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := t.store(ctx, next)
		if ctx.Err() != nil {
			return
		}
		if err != nil && time.Since(next.at) < tellRetry {
			if attempt == 0 {
				t.cfg.Logger.Warn("state REVOKED is not stored yet", "task", printable(next.id), "err", err)
			}
			if !sleep(ctx, jitter(backoff(attempt, settleBase, settleMax))) {
				return
			}
			attempt++
			t.postpone(next)
			continue
		}
		if err != nil {
			t.cfg.Logger.Warn("state REVOKED is not stored", "task", printable(next.id), "err", err)
		}
		attempt = 0
		t.drop(next)
	}
}

func (t *teller) next() (telling, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return telling{}, false
	}
	return t.waiting[0], true
}

// postpone puts the first one behind the others, unless it was pushed out meanwhile: one that the store never takes
// must not keep the others waiting.
func (t *teller) postpone(first telling) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) > 1 && t.waiting[0] == first {
		t.waiting = append(t.waiting[1:], first)
	}
}

// drop forgets the first one, unless it was pushed out meanwhile.
func (t *teller) drop(first telling) {
	t.mu.Lock()
	if len(t.waiting) > 0 && t.waiting[0] == first {
		t.waiting = t.waiting[1:]
	}
	var done chan struct{}
	if len(t.waiting) == 0 {
		t.waiting = nil
		done, t.done = t.done, nil
	}
	t.mu.Unlock()
	if done != nil {
		close(done)
	}
}

// store makes one attempt. States that tell of a run are left to whoever runs it.
func (t *teller) store(ctx context.Context, r telling) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return t.cfg.Results.Store(ctx, resultbackend.Record{
		Result: protocol.Result{
			TaskID: r.id, Status: protocol.Revoked, Exception: protocol.TaskRevoked("revoked"), NoContext: true, DateDone: r.at,
		},
		Over: []protocol.State{protocol.Pending, protocol.Received, protocol.Retry, "REJECTED"},
	})
}
