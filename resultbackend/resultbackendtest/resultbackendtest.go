// Package resultbackendtest is the contract of package resultbackend in executable form: the suite that
// every Backend passes. A new promise in a doc comment there is a new case here.
//
// What a client does is behind Backend.Watch: it sees every document that the backend hands to waiting
// clients. Cases about what stays stored run for backends that are a resultbackend.Loader.
package resultbackendtest

import (
	"cmp"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// A Factory gives one case its backend. What it must clean up goes to t.Cleanup.
type Factory func(t *testing.T) Backend

// A Backend is what a case works with.
type Backend struct {
	resultbackend.Backend // required; the suite closes it

	// Watch starts listening for the task as a client does that waits for it: when it returns, each
	// document stored from now on is sent. Required.
	Watch func(t *testing.T, taskID string) <-chan protocol.Result
	// ReplyTo is put into every Record; the zero value for stores.
	ReplyTo protocol.ReplyTo
	// Away makes the store unreachable, and reachable again. nil: the cases that need it are skipped.
	Away func(away bool)
	// Lapse ends whatever claim there is on the chord, as time does. Required by RunChords.
	Lapse func(groupID string)

	Patience time.Duration // within it happens what must happen; 0: 10 s
	Quiet    time.Duration // what has not happened after it does not happen; 0: 150 ms
}

// Run runs every case as a subtest.
func Run(t *testing.T, f Factory) {
	for _, c := range []struct {
		name  string
		loads bool // needs a Loader
		run   func(*bench)
	}{
		{"every kind of document arrives unchanged", false, documents},
		{"every document is announced, intermediate ones too", false, announced},
		{"a missing result is ErrNotFound", true, missing},
		{"SUCCESS is never overwritten", true, successIsFinal},
		{"any other state may follow any other state", true, nothingElseIsFinal},
		{"Over stores only over the named states", true, over},
		{"of many SUCCESS at once one is kept and announced", true, manySuccesses},
		{"of many stores over PENDING one is kept and announced", true, manyOver},
		{"SUCCESS survives a storm of other states", true, storm},
		{"a value that cannot be written is an EncodeError and changes nothing", false, unwritable},
		{"a store that is away is ErrUnavailable and works again after", false, away},
		{"a context that is over ends Store at once", false, overContext},
		{"after Close Store is ErrUnavailable", false, closed},
		{"many stores at once all arrive", false, together},
		{"starts are counted until they are forgotten", false, startCounts},
		{"Wait returns the end and nothing before it", true, waitEnds},
		{"Wait returns at once what is there", true, waitThere},
		{"many wait at once, some for the same task", true, waitMany},
		{"no end is missed between reading and listening", true, waitRace},
		{"a context that is over ends Wait, and nobody else's", true, waitOver},
		{"after Close Wait is ErrUnavailable", true, waitClosed},
		{"Wait goes on after the store was away", true, waitAway},
		{"what is forgotten is ErrNotFound", true, forgotten},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bench{T: t, Backend: f(t)}
			if b.Backend.Backend == nil || b.Watch == nil {
				t.Fatal("resultbackendtest: Backend and Watch are required")
			}
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			if b.loader, _ = b.Backend.Backend.(resultbackend.Loader); b.loader == nil && c.loads {
				t.Skip("nothing is stored that could be loaded")
			}
			c.run(b)
		})
	}
	t.Run("no goroutine is left", func(t *testing.T) {
		ignore := goleak.IgnoreCurrent()
		t.Run("after waiting", func(t *testing.T) {
			b := &bench{T: t, Backend: f(t)}
			if w, ok := b.Backend.Backend.(resultbackend.Waiter); ok {
				b.store(b.success("a", int64(1)))
				if _, err := w.Wait(b.ctx(), "a"); err != nil {
					t.Errorf("Wait: %v", err)
				}
			}
			if err := b.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		t.Run("after some stores", func(t *testing.T) {
			b := &bench{T: t, Backend: f(t)}
			b.store(b.success("a", int64(1)))
			if err := b.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		goleak.VerifyNone(t, ignore)
	})
}

func (b Backend) patience() time.Duration { return cmp.Or(b.Patience, 10*time.Second) }
func (b Backend) quiet() time.Duration    { return cmp.Or(b.Quiet, 150*time.Millisecond) }
