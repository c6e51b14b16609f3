package worker

import "sync/atomic"

// clock is the node's logical clock (Lamport's), which orders what nodes tell each other. It is safe for
// concurrent use.
type clock struct{ value atomic.Int64 }

func newClock() *clock { return &clock{} }

// forward is the next moment, for what we send.
func (c *clock) forward() int64 { return c.value.Add(1) }

// adjust follows the clock of a message.
func (c *clock) adjust(other int64) {
	for {
		now := c.value.Load()
		if c.value.CompareAndSwap(now, max(now, other)+1) {
			return
		}
	}
}

func (c *clock) now() int64 { return c.value.Load() }
