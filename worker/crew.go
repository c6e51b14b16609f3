package worker

import "sync"

// A crew runs functions beside its caller, on goroutines that it keeps for the next ones: a goroutine that has run a task
// before has the stack that tasks need, and a worker runs many thousands of small ones a second.
type crew struct {
	begin   func(func())   // starts a goroutine
	running sync.WaitGroup // functions that have not ended

	mu    sync.Mutex
	spare []chan func() // of those that wait for work, the last to wait is the first to work
	off   bool          // nobody is kept any more
}

// crewSpare is how many goroutines wait for work at most: as many as may end at the same moment, and not as many as a burst once
// needed.
const crewSpare = 128

// run starts f and does not wait for it.
func (c *crew) run(f func()) {
	c.running.Add(1)
	c.mu.Lock()
	n := len(c.spare)
	if n == 0 {
		c.mu.Unlock()
		c.begin(func() { c.serve(f) })
		return
	}
	next := c.spare[n-1]
	c.spare = c.spare[:n-1]
	c.mu.Unlock()
	next <- f // has capacity, and is sent to once
}

// serve runs f and then what else comes.
func (c *crew) serve(f func()) {
	next := make(chan func(), 1)
	for f != nil {
		c.one(f)
		c.mu.Lock()
		if c.off || len(c.spare) >= crewSpare {
			c.mu.Unlock()
			return
		}
		c.spare = append(c.spare, next)
		c.mu.Unlock()
		f = <-next
	}
}

// one runs f. A function that ends its goroutine (runtime.Goexit) has ended, too.
func (c *crew) one(f func()) {
	defer c.running.Done()
	f()
}

// dismiss lets those go who wait for work; who still works goes after that.
func (c *crew) dismiss() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = true
	for _, next := range c.spare {
		next <- nil
	}
	c.spare = nil
}
