package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/resultbackend"
)

// checkTimeout is how long a result store that does not answer may hold up the start.
const checkTimeout = 3 * time.Second

// checkStore finds out before any task is taken whether the result store is one that no result could be kept in. One
// that is away is waited for where results are stored.
func (w *Worker) checkStore(ctx context.Context) error {
	store, ok := w.cfg.Results.(resultbackend.Checker)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := store.Check(ctx)
	if errors.Is(err, resultbackend.ErrUnfit) {
		return fmt.Errorf("worker: result store: %w", err)
	}
	if err != nil {
		w.log.Debug("the result store was not looked at", "err", err)
	}
	return nil
}
