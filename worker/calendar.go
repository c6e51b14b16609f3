package worker

import (
	"container/heap"
	"context"
	"slices"
	"sort"
	"sync"
	"time"
)

// calendar keeps jobs until a time, in a heap behind one timer. Held jobs keep their message unsettled
// and hold no slot.
type calendar struct {
	wake chan struct{} // capacity 1; written by hold, read by run

	mu   sync.Mutex
	jobs jobHeap // guarded by mu; run sleeps outside it
	etas int     // how many of them wait for an eta
	next uint64  // order of arrival among equal times
}

func newCalendar() *calendar { return &calendar{wake: make(chan struct{}, 1)} }

// hold keeps j until its due time. eta says that this is the time its sender wants; else it waits for its
// turn by the rate limit, and turn is the generation of that.
func (c *calendar) hold(j *job, due time.Time, eta bool, turn int) {
	c.mu.Lock()
	c.next++
	heap.Push(&c.jobs, held{j, due, c.next, eta, turn})
	if eta {
		c.etas++
	}
	first := c.jobs[0].job == j
	c.mu.Unlock()
	if first {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (c *calendar) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.jobs)
}

// waitingForETA is how many jobs wait for the time their sender wants. Only these widen the window of unsettled
// messages, as in Celery: what waits for the rate limit stays within it, or one worker would take a whole
// queue that it may not run.
func (c *calendar) waitingForETA() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.etas
}

// held are the jobs that wait, in order of time.
func (c *calendar) held() []sighting {
	c.mu.Lock()
	waiting := slices.Clone(c.jobs)
	out := make([]sighting, 0, len(waiting))
	sort.Sort(waiting)
	for _, h := range waiting { // under mu: a job in the heap is nobody's, one out of it is somebody's
		out = append(out, sighting{task: h.job.task, redelivered: h.job.delivery.Redelivered})
	}
	c.mu.Unlock()
	return out
}

// longest keeps the timer away from the end of time; it only looks again then.
const longest = 24 * time.Hour

// run hands each job to start when it is due, one after the other, until ctx is done. start may block
// for a slot: then nothing later starts before.
func (c *calendar) run(ctx context.Context, start func(*job)) {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	for ctx.Err() == nil {
		j, wait := c.pop(time.Now())
		if j != nil {
			start(j)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-c.wake:
		case <-ctx.Done():
		}
	}
}

// pop removes the first job that is due, or says how long there is none.
func (c *calendar) pop(now time.Time) (*job, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.jobs) == 0 {
		return nil, longest
	}
	if wait := c.jobs[0].due.Sub(now); wait > 0 {
		return nil, min(wait, longest)
	}
	return c.take(), 0
}

// take removes the first job; the caller holds mu.
func (c *calendar) take() *job {
	h := heap.Pop(&c.jobs).(held)
	if h.eta {
		c.etas--
	}
	return h.job
}

// dropLost forgets and returns the jobs whose delivery is not ours any more: after a reconnect the
// broker brings them again, and a second copy must not wait beside the first.
func (c *calendar) dropLost() []*job {
	c.mu.Lock()
	defer c.mu.Unlock()
	var kept jobHeap
	var lost []*job
	for _, h := range c.jobs {
		if h.job.lost() {
			lost = append(lost, h.job)
			if h.eta {
				c.etas--
			}
		} else {
			kept = append(kept, h)
		}
	}
	if len(lost) > 0 {
		c.jobs = kept
		heap.Init(&c.jobs)
	}
	return lost
}

// withdraw removes j and reports whether it was still held.
func (c *calendar) withdraw(j *job) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.jobs, func(h held) bool { return h.job == j })
	if i < 0 {
		return false
	}
	if heap.Remove(&c.jobs, i).(held).eta {
		c.etas--
	}
	return true
}

// drain removes and returns every job, in order of time.
func (c *calendar) drain() []*job {
	c.mu.Lock()
	defer c.mu.Unlock()
	jobs := make([]*job, 0, len(c.jobs))
	for len(c.jobs) > 0 {
		jobs = append(jobs, c.take())
	}
	return jobs
}

// retime gives the jobs of the task that wait for a turn of another generation new ones, in the order in which they
// were due.
func (c *calendar) retime(name string, generation func() int, turn func() (at time.Time, generation int)) {
	c.mu.Lock()
	sort.Sort(c.jobs)
	for i := range c.jobs {
		if h := &c.jobs[i]; !h.eta && h.job.task.Name == name && h.turn != generation() {
			h.job.turn, h.turn = turn()
			h.due = h.job.heldUntil(h.job.turn)
		}
	}
	heap.Init(&c.jobs)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

type held struct {
	job  *job
	due  time.Time
	seq  uint64
	eta  bool
	turn int // of one that waits for the rate limit: the generation of its turn
}

type jobHeap []held

func (h jobHeap) Len() int { return len(h) }
func (h jobHeap) Less(a, b int) bool {
	if h[a].due.Equal(h[b].due) {
		return h[a].seq < h[b].seq
	}
	return h[a].due.Before(h[b].due)
}
func (h jobHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *jobHeap) Push(x any)   { *h = append(*h, x.(held)) }
func (h *jobHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = held{}
	*h = old[:len(old)-1]
	return last
}
