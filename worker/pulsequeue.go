package worker

import (
	"sync"

	"github.com/stalkworker/stalk/protocol"
)

// eventQueue holds the task events that are to be sent. It is bounded in number and size: while nobody takes
// them the oldest go, since monitors care most for what is true now.
type eventQueue struct {
	wake chan struct{} // capacity 1: there is something
	full chan struct{} // capacity 1: there is enough for a batch

	mu      sync.Mutex
	events  []queuedEvent // oldest first
	bytes   int
	dropped int64 // since drops was called
	told    int64 // what drops has answered
}

type queuedEvent struct {
	protocol.Event
	bytes int
}

// The bounds of the queue, and of one message: Celery sends 24 events together.
const (
	queuedEvents = 10_000
	queuedBytes  = 16 << 20
	batchEvents  = 24
	batchBytes   = 1 << 20
)

func newEventQueue() eventQueue {
	return eventQueue{wake: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

// put adds the event that make makes. It is made under the lock, so that the clocks of the events rise in
// their order.
func (q *eventQueue) put(make func() protocol.Event) {
	q.mu.Lock()
	e := make()
	size := sizeOf(e)
	q.events = append(q.events, queuedEvent{e, size})
	q.bytes += size
	for len(q.events) > queuedEvents || q.bytes > queuedBytes {
		q.bytes -= q.events[0].bytes
		q.events[0] = queuedEvent{}
		q.events = q.events[1:]
		q.dropped++
	}
	enough := len(q.events) >= batchEvents
	q.mu.Unlock()
	signal(q.wake)
	if enough {
		signal(q.full)
	}
}

// take removes the next events that may travel in one message, in their order: task events of the worker
// together, task-sent, which has another sender, alone.
func (q *eventQueue) take() []protocol.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []protocol.Event
	size := 0
	for len(batch) < batchEvents && len(q.events) > 0 {
		next := q.events[0]
		alone := next.Type == "task-sent"
		if len(batch) > 0 && (alone || size+next.bytes > batchBytes) {
			break
		}
		batch, size = append(batch, next.Event), size+next.bytes
		q.bytes -= next.bytes
		q.events[0] = queuedEvent{}
		q.events = q.events[1:]
		if alone {
			break
		}
	}
	if len(q.events) == 0 {
		q.events = nil
	}
	return batch
}

func (q *eventQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events)
}

// lose counts events that were taken and could not be sent.
func (q *eventQueue) lose(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped += int64(n)
}

// drops is how many events were lost since it was last asked.
func (q *eventQueue) drops() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.dropped
	q.dropped = 0
	q.told += n
	return n
}

// lost is how many events were lost altogether.
func (q *eventQueue) lost() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.told + q.dropped
}

// sizeOf is about what an event takes.
func sizeOf(e protocol.Event) int {
	n := 512
	for _, m := range e.Fields.Members() {
		if s, ok := m.Value.(string); ok {
			n += len(s)
		}
	}
	return n
}

// signal leaves a note that is read later; one is enough.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
