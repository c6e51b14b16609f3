package membroker

import (
	"context"

	"github.com/stalkworker/stalk/transports"
)

var _ transports.StartCounter = (*conn)(nil)

// Starts is how many are remembered.
func (c *conn) Starts(_ context.Context, run string) (n int, err error) {
	err = c.starts(func(m map[string]int) { n = m[run] })
	return n, err
}

// AddStart counts.
func (c *conn) AddStart(_ context.Context, run string) error {
	return c.starts(func(m map[string]int) { m[run]++ })
}

// ForgetStarts forgets.
func (c *conn) ForgetStarts(_ context.Context, run string) error {
	return c.starts(func(m map[string]int) { delete(m, run) })
}

func (c *conn) starts(do func(map[string]int)) error {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	if c.why != nil {
		return c.why
	}
	if c.broker.starts == nil {
		c.broker.starts = map[string]int{}
	}
	do(c.broker.starts)
	return nil
}
