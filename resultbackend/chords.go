package resultbackend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// ErrClaimLost: the right to publish a chord's body is not ours (any more). Do not publish; nothing is
// lost, for whoever holds it now does.
var ErrClaimLost = errors.New("resultbackend: the chord is another worker's to complete")

// Chords is implemented by backends that count a chord's header by themselves. Without it a chord needs
// celery.chord_unlock, which polls.
//
// Python workers count in the same place, so that a chord's tasks may run anywhere. Every method is safe
// for concurrent use, makes one attempt and may be repeated, Add excepted. Errors wrap ErrUnavailable,
// ErrTooLarge or a *protocol.EncodeError.
type Chords interface {
	// Begin forgets that a chord of this id was ever completed: the same chord may be started again. It is
	// called before the first header message is published, never after.
	Begin(ctx context.Context, groupID string) error
	// SaveGroup keeps the shape of a header that has groups in it, so that the body gets lists within the
	// list, and None for tasks that ignore their results: a group's result tuple, [[id, parent], [member, ...]]. It is called before the first header
	// message is published.
	SaveGroup(ctx context.Context, groupID string, tuple protocol.Value) error
	// Expect tells the size of the header: how many tasks will report. It is called just before the last
	// header message is published; parts may have been counted before.
	Expect(ctx context.Context, groupID string, n int) error
	// Count reports the end of a header task. A task counts once, and with its first result, however often
	// it ran and whoever ran it. It must be reported also when its result is ignored. A member without
	// GroupID or TaskID belongs to no header: it is Open, as Celery takes it.
	Count(ctx context.Context, m Member) (Tally, error)
	// Add makes the header n tasks larger while it runs (add_to_chord), before those are published. After
	// an error it is not known whether it was done.
	Add(ctx context.Context, groupID string, n int) error
}

// A Member is a header task that has ended.
type Member struct {
	GroupID   string
	TaskID    string
	Index     protocol.Value // group_index: int64, *big.Int, float64; nil: after all others
	State     protocol.State // SUCCESS, FAILURE or REVOKED
	Value     protocol.Value // of SUCCESS
	Exception *protocol.Exception
}

// Result is the member as a result without anything around it.
func (m Member) Result() protocol.Result {
	return protocol.Result{TaskID: m.TaskID, Status: m.State, Value: m.Value, Exception: m.Exception}
}

// A TallyState is what a counted part has to do.
type TallyState int

const (
	// Open: the header is not complete, or its size is not known, or it has failed before. Settle the task.
	Open TallyState = iota
	// Claimed: the header is complete and the body is ours to publish: use the Claim.
	Claimed
	// Busy: the header is complete and another worker has the claim. Keep the task unsettled and count it
	// again after Wait, until it is something else: if that worker dies the claim becomes ours.
	Busy
	// Finished: the body has been published. Settle the task.
	Finished
)

func (s TallyState) String() string {
	switch s {
	case Open:
		return "open"
	case Claimed:
		return "claimed"
	case Busy:
		return "busy"
	case Finished:
		return "finished"
	}
	return fmt.Sprintf("TallyState(%d)", int(s))
}

// A Tally is what one part learns. Of all parts of a chord at most one is Claimed at any time.
type Tally struct {
	State TallyState
	Claim Claim         // when Claimed
	Wait  time.Duration // when Busy
}

// A Claim is the right to end a chord. It lapses by itself, some seconds after Count and after each Renew,
// and then goes to whoever counts next: a claim that is only dropped loses nothing.
//
// Its holder calls Results, then either Renew, publishes the body and calls Finish, or, when the header
// has failed, Renew, tells everybody and calls Fail.
type Claim interface {
	// Results is what the header's tasks returned. The claim is kept while it waits for tasks inside of
	// groups. A *JoinError says that the results will never be had, and is a chord error like
	// Header.Failed; anything else can be tried again.
	Results(ctx context.Context) (Header, error)
	// Renew keeps the claim for long enough to publish the body, or takes it back when it has lapsed and
	// nobody else has it. ErrClaimLost: do not publish.
	Renew(ctx context.Context) error
	// Finish says that the body is safe with the broker, and forgets the chord. ErrClaimLost: it came too
	// late, the chord's keys are left for the claim's new holder.
	Finish(ctx context.Context) error
	// Fail says that the chord has failed and everybody was told: nobody will fail it again. ErrClaimLost
	// as with Finish.
	Fail(ctx context.Context) error
}

// A Header is how the tasks of a chord ended.
type Header struct {
	// Values are the first argument of the body, in the order of the header (or of arrival, where the
	// store is told so). nil when one has failed.
	Values []protocol.Value
	// Failed is the first of the header's tasks that failed or was revoked, in that order.
	Failed *protocol.Result
}

// ReadParts makes the Header of parts in their order.
func ReadParts[P any](parts []P, read func(P) (protocol.Result, error)) (Header, error) {
	h := Header{Values: make([]protocol.Value, 0, len(parts))}
	for _, p := range parts {
		r, err := read(p)
		switch {
		case err != nil:
			return Header{}, Unreadable(err)
		case r.Status == protocol.Failure || r.Status == protocol.Revoked:
			return Header{Failed: &r}, nil
		}
		h.Values = append(h.Values, r.Value)
	}
	return h, nil
}

// PartsByTask is what a Join needs of parts. One that cannot be read is left out: the task's record tells.
func PartsByTask[P any](parts []P, read func(P) (protocol.Result, error)) map[string]protocol.Result {
	m := make(map[string]protocol.Result, len(parts))
	for _, p := range parts {
		if r, err := read(p); err == nil {
			m[r.TaskID] = r
		}
	}
	return m
}

// A JoinError says that the results of a header cannot be had: one cannot be read, a task inside of a
// group failed, or did not end in time.
type JoinError struct {
	Exception *protocol.Exception // what Python raises for it
}

func (e *JoinError) Error() string { return "resultbackend: join error: " + e.Exception.Repr() }

// JoinTimeout is the JoinError of results that did not come in time.
func JoinTimeout() *JoinError {
	return &JoinError{&protocol.Exception{Module: "celery.exceptions", Type: "TimeoutError", Args: []protocol.Value{"The operation timed out."}}}
}

// Unreadable is the JoinError of a part or a result that cannot be read.
func Unreadable(err error) *JoinError {
	return &JoinError{&protocol.Exception{Module: "kombu.exceptions", Type: "DecodeError", Args: []protocol.Value{err.Error()}, Cause: err}}
}
