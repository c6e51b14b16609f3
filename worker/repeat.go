package worker

import (
	"context"
	"errors"
	"time"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// Deduplication (worker_deduplicate_successful_tasks, celery/app/trace.py): a message that the broker brings again
// does not run when its task is known to have succeeded. It saves a run, no more: whatever cannot be known in time
// runs, at least once.

// repeatTimeout bounds the question to the result store. The job holds a slot while it asks.
const repeatTimeout = time.Second

// succeededBefore reports whether the redelivered job's task has succeeded. stored is its record, nil when this
// worker remembers that all effects of the run are safe. Only late acknowledgement leaves a copy behind a success.
func (in *intake) succeededBefore(j *job, now time.Time) (stored *protocol.Result, done bool) {
	w := in.w
	if w.done == nil || !j.delivery.Redelivered || j.handler.Options().EarlyAck {
		return nil, false
	}
	if w.done.has(doneKey(j.task.ID, transports.Instance(w.cfg.Transport)), now) {
		return nil, true
	}
	store, ok := w.cfg.Results.(resultbackend.Loader)
	if !ok {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(in.settle, repeatTimeout)
	defer cancel()
	r, err := store.Load(ctx, j.task.ID)
	switch {
	case err == nil && r.Status == protocol.Success:
		return &r, true
	case err != nil && !errors.Is(err, resultbackend.ErrNotFound):
		w.log.Warn("cannot learn whether the redelivered task has succeeded; it runs again", append(taskAttrs(j.task), "err", err)...)
	}
	return nil, false
}

// doneKey is what a success is remembered by: one that another instance of the broker has seen may be undone.
func doneKey(id, instance string) string {
	if instance == "" {
		return id
	}
	return instance + " " + id
}

// planRepeated settles a copy of a task that has succeeded. When all that is known is a record in the store, its
// run may have ended between the record and what comes after: a part of a chord is counted again, which counts once;
// and what follows is sent again when the record has no children, as Celery does.
func planRepeated(cfg *Config, who publisherID, j *job, stored *protocol.Result, now time.Time) []step {
	var steps []step
	if stored != nil {
		if len(stored.Children) == 0 {
			effects, _, err := canvas.AfterSuccess(j.task, stored.Value, envFor(cfg, who, j, now))
			if err != nil {
				return []step{noteStep{"what follows the task cannot be read, so it is not sent again", err}, ackStep{}}
			}
			steps = effectSteps(effects)
		}
		if p, ok := canvas.PartOf(j.task); ok {
			p.State = protocol.Success
			steps = append(steps, partStep{part: p, value: stored.Value})
		}
	}
	return append(steps, ackStep{})
}
