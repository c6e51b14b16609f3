package worker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// Autoscale lets the number of slots follow the work. The zero Autoscale is off.
type Autoscale struct {
	Max, Min  int           // Max 0: off; Concurrency is not looked at when it is on
	KeepAlive time.Duration // slots go this long after the last growth or arrival of a task; 0: 30 s (AUTOSCALE_KEEPALIVE)
}

// autoscaler is Celery's (celery/worker/autoscale.py): it grows by a slot as a task arrives that finds none, up to Max,
// and shrinks to what is in use, at least Min, some time after the last growth or arrival.
type autoscaler struct {
	log       *slog.Logger
	slots     *slots
	settling  *slots
	keepAlive time.Duration

	mu     sync.Mutex
	max    int
	min    int
	active time.Time // of the last growth or arrival; zero: none yet
}

func newAutoscaler(a Autoscale, log *slog.Logger, s, settling *slots) *autoscaler {
	if a.Max == 0 {
		return nil
	}
	r := &autoscaler{log: log, slots: s, settling: settling, keepAlive: a.KeepAlive, max: a.Max, min: a.Min}
	s.grew = r.grew
	s.stretch(a.Max)
	return r
}

// arrived notes that a task has come. A nil autoscaler is none.
func (a *autoscaler) arrived() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active = time.Now()
}

// grew is called when slots were added for work that found none.
func (a *autoscaler) grew(n int) {
	a.arrived()
	a.log.Info(fmt.Sprintf("Scaling up %d processes.", n))
}

// run shrinks now and then until ctx is done.
func (a *autoscaler) run(ctx context.Context) {
	tick := time.NewTicker(min(a.keepAlive, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.settle(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// settle gives up what nobody has needed for long.
func (a *autoscaler) settle(now time.Time) {
	a.mu.Lock()
	least, active := a.min, a.active
	a.mu.Unlock()
	if active.IsZero() || now.Sub(active) <= a.keepAlive {
		return
	}
	have, _ := a.slots.size()
	a.shrink(have - max(a.slots.inUse(), least))
}

func (a *autoscaler) shrink(n int) {
	if gone := a.slots.shrink(n); gone > 0 {
		a.log.Info(fmt.Sprintf("Scaling down %d processes.", gone))
	}
}

// update changes the bounds that are given, at once as far as slots are idle, and returns both.
func (a *autoscaler) update(most, least *int) (newMost, newLeast int) {
	have, _ := a.slots.size()
	a.mu.Lock()
	if most != nil {
		a.max = *most
	}
	if least != nil {
		a.min = *least
	}
	newMost, newLeast = a.max, a.min
	a.mu.Unlock()
	if most != nil {
		a.settling.grow(4*newMost - a.settlingSize())
		a.slots.stretch(newMost)
		a.shrink(have - newMost)
		have, _ = a.slots.size()
	}
	if least != nil && newLeast > have {
		a.log.Info(fmt.Sprintf("Scaling up %d processes.", newLeast-have))
		a.slots.grow(newLeast - have)
	}
	return newMost, newLeast
}

func (a *autoscaler) settlingSize() int {
	n, _ := a.settling.size()
	return n
}

// info is the part of `inspect stats`.
func (a *autoscaler) info() protocol.Value {
	a.mu.Lock()
	most, least := a.max, a.min
	a.mu.Unlock()
	have, _ := a.slots.size()
	return protocol.ObjectOf(
		protocol.Member{Key: "max", Value: int64(most)},
		protocol.Member{Key: "min", Value: int64(least)},
		protocol.Member{Key: "current", Value: int64(have)},
		protocol.Member{Key: "qty", Value: int64(a.slots.inUse())},
	)
}
