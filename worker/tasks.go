package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// This file is the journey of one job on its task goroutine: decode, admit, execute, settle. The
// goroutine holds a slot from its start to the end of the handler, and a place in the settling window
// from before the slot is released until the message is settled.

// admit decides about a job that holds a slot, and acts on it.
func (in *intake) admit(j *job) {
	w := in.w
	if j.task == nil {
		if j.delivery.Redelivered && !waits(&j.delivery.Message) && !w.ledger.knows(rawRun(&j.delivery.Message)) && in.suspect(j) {
			return
		}
		message := j.delivery.Message
		if j.delivery.Malformed != nil { // of one that is only too large the headers may be there
			message.Body = nil
		}
		task, err := protocol.DecodeTask(message, protocol.DecodeOptions{Accept: w.cfg.Accept, Limits: w.cfg.Limits})
		if j.delivery.Malformed != nil {
			err = j.delivery.Malformed
		}
		if err != nil {
			in.settleWith(j, unreadable(j, task, err))
			return
		}
		j.task = task
	}
	handler, known := w.cfg.Handlers.Lookup(j.task.Name)
	j.handler = handler
	now := time.Now()

	var other *entry
	if j.entry == nil {
		j.entry, other = w.ledger.enter(j.task)
	}
	v := decide(now, j.task, facts{
		known:       known,
		revoked:     w.revoked.has(j.task.ID, now),
		redelivered: j.delivery.Redelivered,
		settled:     w.ledger.wasSettled(j.task, transports.Instance(w.cfg.Transport)),
		running:     other != nil,
	})
	var stored *protocol.Result
	if v.kind == start {
		if result, done := in.succeededBefore(j, now); done {
			v, stored = verdict{kind: repeated}, result
		}
	}
	if known && !j.logged {
		j.logged = true
		if w.log.Enabled(in.settle, slog.LevelInfo) {
			w.log.Info("Task "+label(j.task)+" received", taskAttrs(j.task)...)
		}
		// Celery looks for the id and the expiry before it says that it received the task, for stamps after.
		if v.kind != settled && v.kind != duplicated && (v.kind != revoke || v.reason != "expired" && w.revoked.stamped(j.task)) {
			w.pulse.received(j)
		}
	}
	turn := 0
	if v.kind == start && !j.token && !w.cfg.NoRates {
		j.token = true
		var at time.Time
		if at, turn = w.limiter.turn(j.task.Name, now); at.After(now) {
			j.turn = at
			v = verdict{kind: hold, until: at}
		}
	}

	switch v.kind {
	case start:
		if in.widen(j) && !in.suspect(j) {
			in.execute(j)
		}
	case hold:
		in.notAlone(j)
		name, eta := j.task.Name, v.until.Equal(j.task.ETA)
		if eta {
			in.warnOfLongGap(j, v.until.Sub(now))
			if in.tired(j) && in.renew(j, "a message that is to wait has come back often") {
				return
			}
		}
		slots := j.slots
		j.slots = 0 // the calendar owns the job from here on
		until := j.heldUntil(v.until)
		if eta {
			until = in.heldUntil(j, v.until, now)
		}
		w.calendar.hold(j, until, eta, turn)
		if !eta && w.limiter.generation(name) != turn { // the rate was changed between the turn and the hold
			retime(w.limiter, w.calendar, name, now)
		}
		w.slots.giveBack(slots)
		in.nudge() // the window may grow
		// The calendar may have been emptied for good before: then nobody else takes the job out.
		if w.isStopping() && w.calendar.withdraw(j) {
			in.giveBack(j)
		}
	case duplicated:
		in.forgetLost() // a channel may have closed alone: what was held from it will never run, and this is its copy
		in.notAlone(j)
		in.release(j)
		in.await(j, other)
	case settled:
		w.log.Info("a copy of a settled task came back; acknowledged", taskAttrs(j.task)...)
		w.ledger.forget(j.task) // a lost ack puts it back
		in.settleWith(j, []step{ackStep{}})
	case repeated:
		w.log.Info(fmt.Sprintf("Task %s Task already completed successfully.", label(j.task)), taskAttrs(j.task)...)
		j.done = true
		in.settleWith(j, planRepeated(&w.cfg, w.who, j, stored, now))
	case revoke:
		w.stats.revoked.Add(1)
		w.revoked.add(j.task.ID, now)
		w.log.Info(fmt.Sprintf("Discarding revoked task: %s", label(j.task)), append(taskAttrs(j.task), "reason", v.reason)...)
		in.settleWith(j, planRevoked(&w.cfg, w.who, j, v.reason, now))
		w.pulse.revoked(j, false, 0, v.reason == "expired")
	case refuse:
		w.stats.refused.Add(1)
		w.log.Error(refusalText(j.task, v.refusal), taskAttrs(j.task)...)
		in.settleWith(j, planRefused(&w.cfg, w.who, j, v.refusal, now))
		w.pulse.refused(j, v.refusal)
	}
}

// warnOfLongGap says so when a part of a chord waits for longer than the store keeps the chord's counters: unless another part comes in
// between, the chord never ends.
func (in *intake) warnOfLongGap(j *job, gap time.Duration) {
	store, ok := in.w.cfg.Results.(resultbackend.ChordLifetimer)
	if !ok || j.task.Chord == nil || j.warned {
		return
	}
	if life := store.ChordLifetime(); life > 0 && gap > life {
		j.warned = true
		in.w.log.Warn(fmt.Sprintf("Task %s is part of a chord and waits for %v, longer than result_chord_expires (or result_expires) keeps what the chord has counted: %v; the chord may never end",
			label(j.task), gap.Round(time.Second), life), taskAttrs(j.task)...)
	}
}

// settleWith settles a job that will not run: its slot goes to the next one first.
func (in *intake) settleWith(j *job, steps []step) {
	in.w.settling.acquire(context.Background()) // always comes: settling jobs end by themselves or with their context
	in.release(j)
	in.settleNow(j, steps)
}

// settleNow performs the steps and lets the job go; it holds a place in the settling window.
func (in *intake) settleNow(j *job, steps []step) {
	safe := in.w.settler.perform(in.settle, j, steps)
	j.unsafe = !safe // whose message goes back by its own wish has had its outcome all the same
	// A run whose message goes back has settled nothing: when its delivery was lost, the copy that waits for its end
	// is the only one, and must run.
	safe = safe && !slices.ContainsFunc(steps, goesBack)
	if safe && j.done && j.instead == nil && in.w.done != nil { // before the job leaves: a copy that waits for it asks next
		in.w.done.add(doneKey(j.task.ID, j.since), time.Now())
	}
	if j.unsafe {
		in.unbegun(j)
	} else {
		in.ended(j)
	}
	in.w.meter.gone(j)
	in.w.settling.release()
	in.w.ledger.leave(j.entry, safe, j.since)
}

// await keeps a redelivered copy of a run that is still going on here, which happens when a connection
// broke under it. When that run ends well the copy is acked, else the copy runs. One that may not wait so long goes
// back: the broker brings it again, perhaps to another worker. Kept, it would cost all that runs here its message, too.
func (in *intake) await(j *job, other *entry) {
	w := in.w
	w.log.Info("a copy of a running task came back; waiting for the run to end", taskAttrs(j.task)...)
	patient, cancel := j.patience(in.settle)
	defer cancel()
	select {
	case <-other.done:
	case <-j.delivery.Receipt.Lost():
		in.unbegun(j)
		w.meter.gone(j)
		return
	case <-patient.Done():
		if in.settle.Err() == nil {
			in.giveBack(j)
			return
		}
		in.unbegun(j)
		w.meter.gone(j)
		return
	}
	if other.settled && other.since == transports.Instance(w.cfg.Transport) {
		w.settling.acquire(context.Background())
		in.settleNow(j, []step{ackStep{}})
		return
	}
	if !in.acquire(in.taking, j, 1) {
		in.giveBack(j)
		return
	}
	in.admit(j)
}

// execute runs the handler in the slot and settles what came of it.
func (in *intake) execute(j *job) {
	w := in.w
	if signum, doomed := w.ledger.start(j.entry); doomed {
		w.stats.revoked.Add(1)
		in.settleWith(j, planRevoked(&w.cfg, w.who, j, "terminated", time.Now()))
		w.pulse.revoked(j, true, signum, false)
		return
	}
	w.stats.active.Add(1)
	w.meter.begins(j, time.Now())
	w.pulse.started(j)
	out, handlerEnded := w.executor.run(in.work, in.settle, j)
	w.stats.active.Add(-1)
	w.ledger.returned(j.entry)
	now := time.Now()
	w.meter.returned(j, now)
	w.stats.count(out.kind)
	w.pace.ran(out.took, len(j.delivery.Message.Body)+weight(out.value), w.slots.ceiling(), w.crowded())
	logOutcome(w.log, j, out)
	j.done, j.again = out.kind == succeeded, out.kind == requeued || out.kind == timedOut
	steps := plan(&w.cfg, w.who, j, out, now)

	w.settling.acquire(context.Background())
	if handlerEnded == nil {
		in.release(j)
		in.settleNow(j, steps)
		w.pulse.ended(j, out)
		return
	}
	// Past its hard limit, or terminated, the handler still uses its CPU: the caller is told now, the slot comes
	// free when the handler returns.
	in.settleNow(j, steps)
	if out.kind == terminated {
		w.pulse.revoked(j, true, out.signum, false)
	} else {
		w.pulse.ended(j, out)
	}
	select {
	case <-handlerEnded:
	case <-w.stages.phase[Stopping].done: // nobody waits for this one any more
	}
	in.release(j)
}

// release gives the job's slots back.
func (in *intake) release(j *job) {
	in.w.slots.giveBack(j.slots)
	j.slots = 0
}

// widen lets the job, which is about to run, have the slots that its handler asks for. It waits for them without its own, and so
// reports false when the job was dealt with, decided about anew for instance: in the meantime it may have been revoked, or have expired.
func (in *intake) widen(j *job) bool {
	want := max(1, j.handler.Options().Slots)
	if j.wide || want == j.slots {
		return true
	}
	j.wide = true
	if in.acquire(in.taking, j, want) {
		in.admit(j)
	} else {
		in.giveBack(j)
	}
	return false
}

// unreadable are the steps for a message that is no task, or none that can be read: it is kept in
// quarantine, untouched, and its caller is told where the id could be read.
func unreadable(j *job, t *protocol.Task, err error) []step {
	var steps []step
	if t != nil && t.ID != "" {
		j.task = t
		exc := decodeFailure(err)
		steps = append(steps, storeStep{failure(nil, j, exc, "", time.Now())})
	}
	return append(steps, moveStep{queue: transports.Quarantine(j.delivery.Queue), why: err, renew: true})
}

// decodeFailure is the exception Python would name for a message that cannot be read.
func decodeFailure(err error) *protocol.Exception {
	switch {
	case errors.Is(err, protocol.ErrUntrusted):
		return &protocol.Exception{Module: "celery.exceptions", Type: "SecurityError", Args: []protocol.Value{err.Error()}}
	case errors.Is(err, protocol.ErrInvalidTask):
		return protocol.InvalidTask(err.Error())
	case errors.Is(err, protocol.ErrRefusedContent):
		return &protocol.Exception{Module: "kombu.exceptions", Type: "ContentDisallowed", Args: []protocol.Value{err.Error()}}
	}
	return &protocol.Exception{Module: "kombu.exceptions", Type: "DecodeError", Args: []protocol.Value{err.Error()}}
}

// storeStarted tells that the run has begun; a store that is away is not waited for.
func (e *executor) storeStarted(ctx context.Context, j *job, pid int) {
	if e.cfg.Results == nil || j.ignored(e.cfg) {
		return
	}
	track := e.cfg.TrackStarted
	if t := j.handler.Options().TrackStarted; t != nil {
		track = *t
	}
	if !track {
		return
	}
	r := result(e.cfg, j, protocol.Started)
	r.Value = protocol.ObjectOf(protocol.Member{Key: "pid", Value: int64(pid)}, protocol.Member{Key: "hostname", Value: e.cfg.Node})
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := e.cfg.Results.Store(ctx, record(j, r)); err != nil {
		e.log.Warn("state STARTED is not stored", append(taskAttrs(j.task), "err", err)...)
	}
}

// ackEarly acknowledges when execution starts, for handlers that ask for it. It reports whether the
// task may run: when the delivery is lost somebody else has it.
func (e *executor) ackEarly(ctx context.Context, j *job) bool {
	if !j.handler.Options().EarlyAck {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	err := j.delivery.Receipt.Ack(ctx)
	switch {
	case err == nil, errors.Is(err, transports.ErrSettled):
		j.acked = true
		return true
	default:
		e.log.Warn("cannot acknowledge early; the message goes back", append(taskAttrs(j.task), "err", err)...)
		return false
	}
}

var errNotOurs = fmt.Errorf("worker: the message is not ours any more: %w", handlers.ErrShutdown)
