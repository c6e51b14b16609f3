package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// A message whose handler ends the process comes back each time the worker is started again. What brokers count, if
// they count at all, are deliveries: also those of the messages that lay beside it. So the starts of what came before
// are counted here, outside of the message: in the result store where it can, else by the broker. The count is
// forgotten when the run ends in any way, so that it says how often the run has ended its process. Once that is
// Config.Deliveries the message goes to quarantine.
//
// Who has done it for half of that runs alone among his like: the next death is then his own, and not that of those
// who ran beside him.
//
// It is counted before the body is decoded, which may be what ends the process; not before, though, where an eta
// makes it wait first.

// countTimeout bounds a question to it. The job holds a slot while it asks.
const countTimeout = 2 * time.Second

// counter is who counts; nil: nobody.
func (w *Worker) counter() resultbackend.StartCounter {
	if s, ok := w.cfg.Results.(resultbackend.StartCounter); ok {
		return s
	}
	conn, _ := w.link.current()
	s, _ := conn.(transports.StartCounter)
	return s
}

// suspect counts the start of a job that came before, and has it run alone if need be. It reports whether the job was dealt
// with instead.
func (in *intake) suspect(j *job) bool {
	w := in.w
	if !j.delivery.Redelivered || j.delivery.Malformed != nil {
		return false
	}
	if !j.suspected {
		j.suspected = true
		if in.accused(j) {
			return true
		}
	}
	if j.apart && !j.alone {
		switch waited, may := in.alone(j); {
		case !may:
			in.giveBack(j)
			return true
		case waited && j.task != nil: // in the meantime it may have been revoked, or have expired
			in.admit(j)
			return true
		}
	}
	if j.run == "" || j.counted {
		return false
	}
	j.counted = true
	ctx, cancel := context.WithTimeout(in.settle, countTimeout)
	defer cancel()
	if c := w.counter(); c != nil {
		if err := c.AddStart(ctx, j.run); err != nil {
			w.log.Warn("the start of a redelivered task is not counted", append(messageAttrs(j), "err", err)...)
		}
	}
	return false
}

// accused looks at how often the job was begun before it came back, and reports whether it was dealt with for that.
func (in *intake) accused(j *job) bool {
	w := in.w
	most := mostDeliveries(&w.cfg, j.delivery)
	run := rawRun(&j.delivery.Message)
	n, err := in.started(run)
	if err != nil {
		w.log.Warn("the starts of a redelivered task cannot be counted", append(messageAttrs(j), "err", err)...)
	}
	if n < 0 { // only the broker may know
		if j.starts = j.delivery.Count - 1; j.starts >= most {
			in.setAside(j, fmt.Sprintf("task was delivered %d times without an end", j.starts))
			return true
		}
		return false
	}
	j.run, j.starts = run, n+1 // the first start was not counted
	if j.starts >= most {
		in.setAside(j, fmt.Sprintf("task was started %d times and ended its worker each time", j.starts))
		return true
	}
	// Delivered that often, and started less: it lay beside such a task. A quorum queue would drop it at its own limit.
	if j.delivery.Count > most && in.renew(j, "a message was delivered too often beside tasks that ended their worker") {
		return true
	}
	j.apart = 2*j.starts >= most
	return false
}

// started is how often the run was begun and counted; negative: nobody knows.
func (in *intake) started(run string) (int, error) {
	c := in.w.counter()
	if c == nil {
		return -1, nil
	}
	ctx, cancel := context.WithTimeout(in.settle, countTimeout)
	defer cancel()
	n, err := c.Starts(ctx, run)
	if err != nil {
		return -1, err
	}
	return n, nil
}

// alone waits until no other suspect runs, without the slots that it has: who runs may want them all. It says whether it had
// to wait, and whether the job may start; one that may not has no slot.
func (in *intake) alone(j *job) (waited, may bool) {
	select {
	case in.suspects <- struct{}{}:
		j.alone = true
		return false, true
	default:
	}
	want := j.slots
	in.release(j)
	ctx, cancel := j.patience(in.taking)
	defer cancel()
	select {
	case in.suspects <- struct{}{}:
		j.alone = true
	case <-j.delivery.Receipt.Lost():
		return true, false
	case <-ctx.Done():
		return true, false
	}
	return true, in.exchange(ctx, j, want)
}

// notAlone lets the next suspect run.
func (in *intake) notAlone(j *job) {
	if j.alone {
		j.alone = false
		<-in.suspects
	}
}

// unbegun is ended for a job that goes back, perhaps without having run: only a start that was counted has come to its end.
func (in *intake) unbegun(j *job) {
	in.notAlone(j)
	if j.counted {
		in.ended(j)
	}
}

// ended forgets the starts of a run that has come to an end: the process lives. One that its handler sends back, to a queue
// that counts, is not forgotten, so that it does not go round for ever.
func (in *intake) ended(j *job) {
	in.notAlone(j)
	if j.run == "" || j.again && j.delivery.Count > 0 {
		return
	}
	c := in.w.counter()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.settle), countTimeout)
	defer cancel()
	if err := c.ForgetStarts(ctx, j.run); err != nil {
		in.w.log.Warn("the starts of a redelivered task are not forgotten; they expire", append(messageAttrs(j), "err", err)...)
	}
}

// rawRun is the run of a message that nobody has decoded: as runKey where the headers have an id.
func rawRun(m *protocol.Message) string {
	id, _ := m.Headers.Get("id")
	if s, ok := id.(string); ok && s != "" && len(s) <= protocol.MaxIDBytes {
		retries, _ := m.Headers.Get("retries")
		n, _ := retries.(int64)
		return runKey(&protocol.Task{ID: s, Retries: int(n)})
	}
	sum := sha256.Sum256(m.Body)
	return "body/" + hex.EncodeToString(sum[:16])
}

// waits reports whether the message asks for a time: it may be held before it starts.
func waits(m *protocol.Message) bool {
	eta, _ := m.Headers.Get("eta")
	return eta != nil
}

// rescuable is the size of a body that is decoded once more to tell whoever waits behind the task: a larger one may be
// what ended the process.
const rescuable = 1 << 20

// setAside tells the caller of a task that was started too often, and moves its message to quarantine.
func (in *intake) setAside(j *job, why string) {
	w := in.w
	exc := protocol.WorkerLost(why + "; its message is in quarantine")
	move := moveStep{queue: transports.Quarantine(j.delivery.Queue), why: exc}
	whole := j.task != nil
	if !whole {
		m := j.delivery.Message
		if _, compressed := m.Headers.Get("compression"); compressed || len(m.Body) > rescuable {
			m.Body = nil
		}
		t, err := protocol.DecodeTask(m, protocol.DecodeOptions{Accept: w.cfg.Accept, Limits: w.cfg.Limits})
		j.task, whole = t, err == nil
	}
	var steps []step
	switch {
	case whole:
		j.handler, _ = w.cfg.Handlers.Lookup(j.task.Name)
		w.log.Error(fmt.Sprintf("Task %s set aside in %s: %s", label(j.task), move.queue, exc.Error()), taskAttrs(j.task)...)
		steps = planSetAside(&w.cfg, w.who, j, exc, time.Now())
	case j.task != nil && j.task.ID != "":
		steps = []step{storeStep{failure(nil, j, exc, "", time.Now())}, move}
	default:
		j.task, steps = nil, []step{move}
	}
	in.settleWith(j, steps)
	if j.task != nil {
		w.pulse.refused(j, exc)
	}
}
