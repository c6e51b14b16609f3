package memresult

import (
	"context"

	"github.com/stalkworker/stalk/resultbackend"
)

var _ resultbackend.StartCounter = (*Backend)(nil)

// Starts is how many are remembered.
func (b *Backend) Starts(_ context.Context, run string) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.starts[run], b.usable()
}

// AddStart counts.
func (b *Backend) AddStart(_ context.Context, run string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(); err != nil {
		return err
	}
	if b.starts == nil {
		b.starts = map[string]int{}
	}
	b.starts[run]++
	return nil
}

// ForgetStarts forgets.
func (b *Backend) ForgetStarts(_ context.Context, run string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(); err != nil {
		return err
	}
	delete(b.starts, run)
	return nil
}
