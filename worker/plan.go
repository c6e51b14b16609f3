package worker

import (
	"cmp"
	"strings"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// A step is one effect of an outcome. Steps are performed in order; the one that settles the message is last.
type step interface{ step() }

type (
	storeStep   struct{ record resultbackend.Record }
	publishStep struct {
		publishing transports.Publishing
		fallback   string // queue to publish to when nothing takes the message at its own address; "": none
	}
	effectStep struct{ effect canvas.Effect } // what follows: a message, a chord's bookkeeping, somebody to tell
	noteStep   struct {                       // says in the log what had to be left out
		text string
		err  error
	}
	partStep struct {
		part  canvas.Part
		value protocol.Value // of a success
	}
	retriedStep struct{ out outcome } // tells monitors of the retry, before its next run can
	insteadStep struct{ out outcome } // the run ends differently than its handler said
	ackStep     struct{}
	rejectStep  struct{ requeue bool }
	returnStep  struct{} // back to the queue, through no fault of the message
	moveStep    struct {
		queue string
		why   error
		renew bool // where that queue is refused it may go back as a new message, which nobody has tried yet
	}
)

func (storeStep) step()   {}
func (publishStep) step() {}
func (noteStep) step()    {}
func (insteadStep) step() {}
func (retriedStep) step() {}
func (effectStep) step()  {}
func (partStep) step()    {}
func (ackStep) step()     {}
func (rejectStep) step()  {}
func (returnStep) step()  {}
func (moveStep) step()    {}

// plan turns an outcome into steps, in the order in which nothing can be lost. It is pure.
//
// RETRY is stored before the retry is published. The other way round a fast second run could store its end
// first and have it replaced by the late RETRY (Celery does, about once in 20 to 30 with countdown=0).
func plan(cfg *Config, who publisherID, j *job, out outcome, now time.Time) []step {
	var steps []step
	store := func(r protocol.Result) { steps = append(steps, storeStep{record(j, r)}) }
	switch out.kind {
	case succeeded:
		// What follows goes out before the result is stored, so that whoever sees the result finds its
		// children complete.
		var children []protocol.Value
		if canvas.Followed(j.task) {
			effects, more, err := canvas.AfterSuccess(j.task, out.value, envFor(cfg, who, j, now))
			if err != nil {
				exc := protocol.NewException("ValueError", err.Error())
				out = outcome{kind: failed, exception: exc, traceback: traceback(j.task.Name, lastLine(exc))}
				return append([]step{insteadStep{out}}, plan(cfg, who, j, out, now)...)
			}
			steps, children = effectSteps(effects), more
		}
		if !j.ignored(cfg) {
			r := result(cfg, j, protocol.Success)
			r.Value, r.DateDone, r.Children = out.value, now, append(j.children, children...)
			store(r)
		}
		if p, ok := canvas.PartOf(j.task); ok {
			p.State = protocol.Success
			steps = append(steps, partStep{part: p, value: out.value})
		}
		return append(steps, settleSteps(j, ackStep{})...)
	case failed, timedOut, rejected:
		return append(failureSteps(cfg, who, j, out.exception, out.traceback, now), settleSteps(j, settleFailure(cfg, j, out.kind))...)
	case replaced:
		return append(effectSteps(out.effects), settleSteps(j, ackStep{})...)
	case retried:
		next := cmp.Or(out.next, j.task).Retried(out.eta, j.ignored(cfg))
		if j.storesErrors(cfg) {
			r := result(cfg, j, protocol.Retry)
			r.Exception, r.Traceback = out.exception, out.traceback
			// Celery records the message it re-sends as a child: the task's own id.
			r.Children = append(j.children, []protocol.Value{[]protocol.Value{j.task.ID, nil}, nil})
			store(r)
		}
		m, err := next.Encode(cfg.Encoding, now)
		if err != nil { // what was decoded cannot be encoded by the configured serializer
			exc := protocol.EncodeErr(err)
			steps = append([]step{insteadStep{outcome{kind: failed, exception: exc}}}, failureSteps(cfg, who, j, exc, "", now)...)
			return append(steps, settleSteps(j, ackStep{})...)
		}
		steps = append(steps, retriedStep{out}, retryPublish(cfg, j, m, out.eta, now))
		return append(steps, settleSteps(j, ackStep{})...)
	case terminated:
		return planRevoked(cfg, who, j, "terminated", now)
	case ignored:
		return settleSteps(j, ackStep{})
	default: // requeued, interrupted
		if j.acked { // acknowledged early: the broker has no copy left to bring back
			return []step{publishStep{publishing: transports.Publishing{RoutingKey: j.delivery.Queue, Message: j.delivery.Message, Mandatory: true}}}
		}
		if out.kind == interrupted {
			return []step{returnStep{}}
		}
		return []step{rejectStep{requeue: true}}
	}
}

// failureSteps tell everybody that the task has failed: its caller, its chord, who waits for what should
// have followed it, and its errbacks.
func failureSteps(cfg *Config, who publisherID, j *job, exc *protocol.Exception, tb string, now time.Time) []step {
	var steps []step
	if j.storesErrors(cfg) {
		rec := failure(cfg, j, exc, tb, now)
		rec.Result.Children = j.children
		steps = append(steps, storeStep{rec})
	}
	effects, err := canvas.AfterFailure(j.task, exc, tb, envFor(cfg, who, j, now), j.storesErrors(cfg))
	steps = append(steps, effectSteps(effects)...)
	if err != nil {
		steps = append(steps, noteStep{"an errback or a step of the failed task cannot be read, so nobody is told through it", err})
	}
	return steps
}

// settleSteps is how the message is settled: not at all when it was acked early.
func settleSteps(j *job, s step) []step {
	if j.acked {
		return nil
	}
	return []step{s}
}

// settleFailure is the acknowledgement matrix of Celery for what did not succeed.
func settleFailure(cfg *Config, j *job, kind outcomeKind) step {
	o := j.handler.Options()
	yes := func(own, worker *bool) bool {
		switch {
		case own != nil:
			return *own
		case worker != nil:
			return *worker
		}
		return true
	}
	switch {
	case kind == rejected:
		return rejectStep{}
	case kind == failed && !yes(o.AckOnFailure, cfg.AckOnFailure):
		return rejectStep{}
	case kind == timedOut && !yes(o.AckOnTimeout, cfg.AckOnTimeout):
		return rejectStep{requeue: true}
	}
	return ackStep{}
}

// retryPublish sends a retry where its task came from: the same exchange and key, or straight to the
// queue where the address is the queue's own or a stage of native delayed delivery.
func retryPublish(cfg *Config, j *job, m protocol.Message, eta, now time.Time) step {
	p := transports.Publishing{
		Exchange: j.task.Exchange, RoutingKey: j.task.RoutingKey, Message: m, Mandatory: true, Delay: retryDelay(cfg, j, eta, now),
	}
	if p.Exchange == "" && p.RoutingKey == "" || strings.HasPrefix(p.Exchange, delayExchanges) {
		p.Exchange, p.RoutingKey = "", j.delivery.Queue
	}
	return publishStep{publishing: p, fallback: j.delivery.Queue}
}

// unfinished are the states a revocation may replace. REVOKED is one of them: the command stored it without knowing
// the task, and the task's own message brings its name and arguments.
var unfinished = []protocol.State{protocol.Pending, protocol.Received, protocol.Started, protocol.Retry, protocol.Progress, protocol.Revoked, "REJECTED"}

func planRevoked(cfg *Config, who publisherID, j *job, reason string, now time.Time) []step {
	var steps []step
	exc := protocol.TaskRevoked(reason)
	if j.storesErrors(cfg) {
		r := result(cfg, j, protocol.Revoked)
		r.Exception, r.DateDone = exc, now
		rec := record(j, r)
		if reason != "terminated" { // of its own run every state may be replaced, also one of the handler's making
			rec.Over = unfinished
		}
		steps = append(steps, storeStep{rec})
	}
	steps = append(steps, effectSteps(canvas.AfterRevoked(j.task, exc, envFor(cfg, who, j, now)))...)
	return append(steps, settleSteps(j, ackStep{})...)
}

// planRefused tells the caller, even of an ignored result, and gives the message up: with reject, so
// that a dead-letter exchange gets it.
func planRefused(cfg *Config, who publisherID, j *job, exc *protocol.Exception, now time.Time) []step {
	if exc.Type != "NotRegistered" {
		return append(failureSteps(cfg, who, j, exc, "", now), rejectStep{})
	}
	rec := failure(cfg, j, exc, "", now)
	if rec.Result.Extended != nil {
		rec.Result.Extended = &protocol.Extended{Unknown: true}
	}
	rec.Result.GroupID, rec.Result.ParentID = "", ""
	steps := []step{storeStep{rec}}
	effects, err := canvas.AfterUnknown(j.task, exc, envFor(cfg, who, j, now))
	steps = append(steps, effectSteps(effects)...)
	if err != nil {
		steps = append(steps, noteStep{"a step behind the unknown task cannot be read, so nobody is told through it", err})
	}
	return append(steps, rejectStep{})
}

// planSetAside tells everybody who waits for this task or for what should have followed it, and keeps
// the message in quarantine.
func planSetAside(cfg *Config, who publisherID, j *job, exc *protocol.Exception, now time.Time) []step {
	return append(failureSteps(cfg, who, j, exc, "", now), moveStep{queue: transports.Quarantine(j.delivery.Queue), why: exc})
}

// result is the document of the job's task in the given state, without what the state adds.
func result(cfg *Config, j *job, s protocol.State) protocol.Result {
	t := j.task
	r := protocol.Result{TaskID: t.ID, Status: s, GroupID: t.Group, ParentID: t.ParentID}
	if cfg != nil && cfg.Extended {
		r.Extended = &protocol.Extended{
			Name: t.Name, Args: t.Args, Kwargs: t.Kwargs, Worker: cfg.Node, Retries: t.Retries,
			Queue: t.RoutingKey, StampNames: t.StampNames, Stamps: t.Stamps,
		}
	}
	return r
}

// failure is the FAILURE record of the job's task. A nil cfg means that nothing but the id is known.
func failure(cfg *Config, j *job, exc *protocol.Exception, tb string, now time.Time) resultbackend.Record {
	r := result(cfg, j, protocol.Failure)
	r.Exception, r.Traceback, r.DateDone = exc, tb, now
	return record(j, r)
}

func record(j *job, r protocol.Result) resultbackend.Record {
	correlation := j.task.CorrelationID
	if correlation == "" {
		correlation = j.task.ID
	}
	return resultbackend.Record{Result: r, ReplyTo: protocol.ReplyTo{Queue: j.task.ReplyTo, CorrelationID: correlation}}
}
