package handlers

import (
	"context"
	"errors"

	"github.com/stalkworker/stalk/protocol"
)

// A Signature is a call that can be sent: canvas.Signature is one. A handler may also return one as its
// value; the caller then gets the signature as data, as from a Python task that returns one.
type Signature interface {
	Value() protocol.Value // as it travels
	Err() error            // what is wrong with it, nil when nothing is
}

// Sent is what was sent from a handler. A handler may return it as its value: the caller then gets the
// result tuple that Python's AsyncResult.as_tuple gives.
type Sent struct {
	ID    string         // of the task, of a chain's last step, of a chord's body, of a group
	Tuple protocol.Value // [[id, parent], null], or with members in place of null for a group
}

// MarshalJSON gives the tuple.
func (s Sent) MarshalJSON() ([]byte, error) { return protocol.AppendJSON(nil, s.Tuple) }

// Spawn sends s from inside the running task, which records it as its child: a task, or any canvas. It
// returns when the broker has every message of it safely, or why not. A handler that fails after Spawn
// does not take back what it sent. Outside a task the error is ErrNoTask.
func Spawn(ctx context.Context, s Signature) (Sent, error) {
	sc, ok := ctx.Value(scopeKey{}).(*scope)
	if !ok || sc.host == nil {
		return Sent{}, ErrNoTask
	}
	return sc.host.Spawn(ctx, s)
}

// AddToChord sends s as one more part of the chord header that the running task belongs to, so that the
// chord's body waits for it too (Task.add_to_chord). The task's own result still counts. It needs a result
// store that counts chords.
func AddToChord(ctx context.Context, s Signature) (Sent, error) {
	sc, ok := ctx.Value(scopeKey{}).(*scope)
	if !ok || sc.host == nil {
		return Sent{}, ErrNoTask
	}
	return sc.host.AddToChord(ctx, s)
}

// Replace ends the running task and puts s in its place, as Task.replace: s gets the task's id, so whoever
// waits for the task waits for s, and its callbacks, its place in a chord and the rest of its chain. Return
// it from the handler.
func Replace(s Signature) error { return &ReplaceError{Signature: s} }

// ReplaceError is what Replace returns.
type ReplaceError struct{ Signature Signature }

func (e *ReplaceError) Error() string {
	if e.Signature == nil {
		return "handlers: replaced by nothing"
	}
	return "handlers: replaced by another signature"
}

var errNoSignature = errors.New("handlers: the signature is nil")

// Check returns what is wrong with a signature that is about to be sent: nil, or a mistake in building it.
func Check(s Signature) error {
	if s == nil {
		return errNoSignature
	}
	return s.Err()
}
