// Package memresult keeps results in memory: a Backend for tests of whatever stands above resultbackend,
// with clients that wait, a history to look at, and faults on demand. It is not for production: nothing
// expires and nothing survives the process.
//
// What is stored is the encoded document, so that a value no client could read fails here as it would on
// Redis. Nothing in it blocks but Wait, and Store under Delay; in a testing/synctest bubble both are exact.
package memresult

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// A Backend is the store. It is safe for concurrent use; New makes one.
type Backend struct {
	mu      sync.Mutex // nothing blocks under it
	docs    map[string][]byte
	chords  map[string]*chord // by group id
	tokens  uint64            // the last one given to a claim
	starts  map[string]int    // by run
	history []resultbackend.Record
	changed chan struct{} // closed and replaced at each write
	away    bool
	closed  bool
	fail    int // stores still to fail; negative: all
	err     error
	delay   time.Duration
}

var (
	_ resultbackend.Backend   = (*Backend)(nil)
	_ resultbackend.Loader    = (*Backend)(nil)
	_ resultbackend.Waiter    = (*Backend)(nil)
	_ resultbackend.Forgetter = (*Backend)(nil)
)

// New returns an empty store.
func New() *Backend {
	return &Backend{docs: make(map[string][]byte), changed: make(chan struct{})}
}

// String is "memory://".
func (b *Backend) String() string { return "memory://" }

// Store keeps the record and wakes everybody in Wait.
func (b *Backend) Store(ctx context.Context, r resultbackend.Record) error {
	if err := b.pause(ctx); err != nil {
		return err
	}
	data, err := r.Result.Encode(protocol.Encoding{})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(); err != nil {
		return err
	}
	if b.fail != 0 {
		b.fail = max(b.fail-1, -1) // a negative count never ends
		return b.err
	}
	old := protocol.Pending
	if doc, there := b.docs[r.Result.TaskID]; there {
		was, err := decode(doc)
		if err != nil {
			return err // we wrote it: it can be read
		}
		old = was.Status
	}
	if !r.Allows(old) {
		return nil
	}
	b.docs[r.Result.TaskID] = data
	b.history = append(b.history, r)
	b.wake()
	return nil
}

// wake lets everybody who waits look again. It is called with mu held.
func (b *Backend) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Load is the record as a client reads it.
func (b *Backend) Load(ctx context.Context, taskID string) (protocol.Result, error) {
	if err := ctx.Err(); err != nil {
		return protocol.Result{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(); err != nil {
		return protocol.Result{}, err
	}
	doc, there := b.docs[taskID]
	if !there {
		return protocol.Result{}, fmt.Errorf("memresult: task %q: %w", taskID, resultbackend.ErrNotFound)
	}
	return decode(doc)
}

// Wait blocks until the task has ended (a ready state), as AsyncResult.get does.
func (b *Backend) Wait(ctx context.Context, taskID string) (protocol.Result, error) {
	return b.wait(ctx, taskID, protocol.State.Ready, b.usable)
}

// WaitFor blocks until the record's state is as wanted, whatever Away says. A state that was soon followed
// by another one can be missed; see Records.
func (b *Backend) WaitFor(ctx context.Context, taskID string, want func(protocol.State) bool) (protocol.Result, error) {
	return b.wait(ctx, taskID, want, func() error { return nil })
}

func (b *Backend) wait(ctx context.Context, taskID string, want func(protocol.State) bool, usable func() error) (protocol.Result, error) {
	for {
		b.mu.Lock()
		doc, there := b.docs[taskID]
		changed := b.changed
		err := usable()
		b.mu.Unlock()
		if err != nil {
			return protocol.Result{}, err
		}
		if there {
			if r, err := decode(doc); err != nil || want(r.Status) {
				return r, err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return protocol.Result{}, fmt.Errorf("memresult: waiting for task %q: %w", taskID, ctx.Err())
		}
	}
}

// Forget deletes the record; its history stays.
func (b *Backend) Forget(ctx context.Context, taskID string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(); err != nil {
		return err
	}
	delete(b.docs, taskID)
	return nil
}

// Records is every write of the task that was not suppressed, oldest first; of all tasks when taskID is "".
func (b *Backend) Records(taskID string) []resultbackend.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.history), func(r resultbackend.Record) bool {
		return taskID != "" && r.Result.TaskID != taskID
	})
}

// States is the states that the task went through.
func (b *Backend) States(taskID string) []protocol.State {
	var states []protocol.State
	for _, r := range b.Records(taskID) {
		states = append(states, r.Result.Status)
	}
	return states
}

// Away makes every Store, Load and Wait fail with ErrUnavailable until Away(false).
func (b *Backend) Away(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
	b.wake()
}

// Fail lets the next n stores (n negative: all until Fail(0, nil)) return err, which should wrap what the
// contract names.
func (b *Backend) Fail(n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail, b.err = n, err
}

// Delay makes every Store take so long before anything else happens; 0 ends it.
func (b *Backend) Delay(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay = d
}

// Close ends the store: what follows is ErrUnavailable. Records and States still answer.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.wake()
	return nil
}

// pause waits as ordered by Delay.
func (b *Backend) pause(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	delay := b.delay
	b.mu.Unlock()
	if delay <= 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// usable is called with mu held.
func (b *Backend) usable() error {
	if b.away || b.closed {
		return fmt.Errorf("memresult: %w", resultbackend.ErrUnavailable)
	}
	return nil
}

func decode(doc []byte) (protocol.Result, error) {
	return protocol.DecodeResult("json", doc, protocol.Limits{})
}
