package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// A publisherID is who this worker is to those who read what it publishes.
type publisherID struct {
	oid    string // reply_to of what has none
	origin string // header origin
}

func newPublisherID(node string) publisherID {
	_, host, _ := cutNode(node)
	return publisherID{oid: ids.New(), origin: "gen" + strconv.Itoa(os.Getpid()) + "@" + host}
}

func cutNode(node string) (name, host string, ok bool) {
	for i := range len(node) {
		if node[i] == '@' {
			return node[:i], node[i+1:], true
		}
	}
	return "", node, false
}

// envFor is what canvas needs to know to publish on behalf of the job's task.
func envFor(cfg *Config, who publisherID, j *job, now time.Time) *canvas.Env {
	_, native := cfg.Results.(resultbackend.Chords)
	return &canvas.Env{
		NewID: ids.New, Now: now, Routes: cfg.Routes, Tasks: cfg.Tasks,
		Parent: canvas.ParentOf(j.task), Trail: j.children, ReplyTo: who.oid, Origin: who.origin,
		Errback: func(task string, args []protocol.Value, kwargs *protocol.Object, immutable bool) bool {
			h, known := cfg.Handlers.Lookup(task)
			return known && newStyle(h, args, kwargs, immutable)
		},
		InheritPriority: cfg.InheritPriority, NativeChords: native, NativeDelay: cfg.NativeDelay, AllowErrbackOnHeader: cfg.HeaderErrbacks,
	}
}

// effectSteps are the effects of canvas as steps.
func effectSteps(effects []canvas.Effect) []step {
	steps := make([]step, len(effects))
	for i, e := range effects {
		if p, ok := e.(canvas.Part); ok {
			steps[i] = partStep{part: p}
			continue
		}
		steps[i] = effectStep{e}
	}
	return steps
}

// effect performs one effect with one attempt after the other until it is safe.
func (s *settler) effect(ctx context.Context, j *job, e canvas.Effect) error {
	refused := 0
	for attempt := 0; ; attempt++ {
		err := s.attempt(ctx, func(ctx context.Context) error { return s.dispatch.Do(ctx, e, time.Now()) })
		var encode *protocol.EncodeError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &encode), errors.Is(err, resultbackend.ErrTooLarge), errors.Is(err, resultbackend.ErrDamaged):
			return fmt.Errorf("%w: %w", errReplace, err)
		case errors.Is(err, transports.ErrBlocked):
		case errors.Is(err, transports.ErrRefused):
			if refused++; refused >= publishTries {
				return fmt.Errorf("%w: %w", errUnsafe, err)
			}
		}
		if attempt == 0 {
			s.log.Warn("what follows the task is not safe yet", append(taskAttrs(j.task), "effect", fmt.Sprintf("%T", e), "err", err)...)
		}
		if !sleep(ctx, jitter(backoff(attempt, settleBase, settleMax))) {
			return fmt.Errorf("%w: %w", errEnd, err)
		}
	}
}

// finishedDoubts is how often a first delivery asks again when its chord has ended before; about 1.5 s in all.
const finishedDoubts = 5

// part reports that a task of a chord's header ended. When it was the last one this worker publishes the
// body, or tells everybody that the chord has failed. It returns when the chord needs nothing more from
// this part: while another worker holds the claim it waits, for if that one dies somebody must still
// publish the body, and our message must not be settled before.
func (s *settler) part(ctx context.Context, j *job, p partStep) error {
	chords, ok := s.cfg.Results.(resultbackend.Chords)
	if !ok {
		return nil // celery.chord_unlock watches the results
	}
	m := resultbackend.Member{
		GroupID: p.part.GroupID, TaskID: p.part.TaskID, Index: p.part.Index,
		State: p.part.State, Value: p.value, Exception: p.part.Exception,
	}
	doubts := 0
	for attempt := 0; ; attempt++ {
		var tally resultbackend.Tally
		err := s.attempt(ctx, func(ctx context.Context) (err error) {
			tally, err = chords.Count(ctx, m)
			return err
		})
		wait := jitter(backoff(attempt, settleBase, settleMax))
		var encode *protocol.EncodeError
		switch {
		case err == nil && tally.State == resultbackend.Open:
			return nil
		case err == nil && tally.State == resultbackend.Finished:
			// A copy of a part that was counted, most often. But a client of Celery that applies a chord again
			// forgets the earlier run only just before its last header message: a part that is faster finds
			// that run's end, and would be lost with the chord. So a first delivery does not believe it at once.
			if j.delivery.Redelivered || doubts == finishedDoubts {
				return nil
			}
			attempt, wait = 0, backoff(doubts, settleBase, settleMax)
			doubts++
		case err == nil && tally.State == resultbackend.Claimed:
			err = s.complete(ctx, j, p.part, tally.Claim)
			if err == nil || errors.Is(err, errEnd) || errors.Is(err, errUnsafe) {
				return err
			}
			if errors.Is(err, resultbackend.ErrDamaged) {
				return s.lostChord(ctx, j, p.part, err)
			}
			s.log.Warn("the chord's body is not safe yet", append(taskAttrs(j.task), "group", m.GroupID, "err", err)...)
		case err == nil: // Busy
			attempt, wait = 0, tally.Wait
		case errors.As(err, &encode), errors.Is(err, resultbackend.ErrTooLarge):
			return fmt.Errorf("%w: %w", errReplace, err)
		case errors.Is(err, resultbackend.ErrDamaged):
			return s.lostChord(ctx, j, p.part, err)
		case attempt == 0:
			s.log.Warn("the chord's part is not counted yet", append(taskAttrs(j.task), "group", m.GroupID, "err", err)...)
		}
		if !sleep(ctx, wait) {
			return fmt.Errorf("%w: chord part of group %s", errEnd, m.GroupID)
		}
	}
}

// complete ends a chord whose claim is ours: by its body, or by telling everybody that it has failed.
func (s *settler) complete(ctx context.Context, j *job, p canvas.Part, claim resultbackend.Claim) error {
	header, err := claim.Results(ctx) // waits for tasks inside of groups, within bounds of its own
	var join *resultbackend.JoinError
	if err != nil && !errors.As(err, &join) {
		return err
	}
	env := envFor(s.cfg, s.who, j, time.Now())
	var effects []canvas.Effect
	failed := true
	switch {
	case join != nil:
		effects, err = canvas.ChordFailed(p, canvas.JoinErrorText(join.Exception), join.Exception, env)
	case header.Failed != nil:
		exc := header.Failed.Exception
		effects, err = canvas.ChordFailed(p, canvas.DependencyText(header.Failed.TaskID, exc), exc, env)
	default:
		plan, bodyErr := canvas.Body(p, header.Values, env)
		if effects, failed = plan.Effects, bodyErr != nil; failed {
			effects, err = canvas.ChordFailed(p, canvas.CallbackErrorText(bodyErr), protocol.FromError(bodyErr), env)
		}
	}
	if err != nil && failed {
		s.log.Error("somebody who waits for a failed chord could not be told", append(taskAttrs(j.task), "group", p.GroupID, "err", err)...)
	}
	if err := s.attempt(ctx, claim.Renew); err != nil {
		return err // with ErrClaimLost somebody else publishes; our part asks again either way
	}
	for _, st := range effectSteps(effects) {
		if err := s.take(ctx, j, st); err != nil {
			return err
		}
	}
	end := claim.Finish
	if failed {
		end = claim.Fail
		s.log.Error("chord failed", append(taskAttrs(j.task), "group", p.GroupID)...)
	}
	if err := s.attempt(ctx, end); err != nil && !errors.Is(err, resultbackend.ErrClaimLost) {
		return err
	}
	return nil
}

// lostChord tells everybody who waits for a chord whose bookkeeping is damaged that it has failed. Nothing can end it any
// more, and to wait for better would hold the places of finished tasks until the worker is deaf.
func (s *settler) lostChord(ctx context.Context, j *job, p canvas.Part, cause error) error {
	s.log.Error("the chord cannot be counted: its keys in the result store hold something else", append(taskAttrs(j.task), "group", p.GroupID, "err", cause)...)
	effects, err := canvas.ChordFailed(p, "the chord cannot be counted: its keys in the result store hold something else", nil, envFor(s.cfg, s.who, j, time.Now()))
	if err != nil {
		s.log.Error("somebody who waits for a failed chord could not be told", append(taskAttrs(j.task), "group", p.GroupID, "err", err)...)
	}
	for _, st := range effectSteps(effects) {
		if err := s.take(ctx, j, st); err != nil {
			return err
		}
	}
	return nil
}
