package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

// purgeFirst is --purge: what waits in the queues of the worker is deleted before it takes anything. It waits for
// the broker as the worker would.
func purgeFirst(ctx context.Context, cfg worker.Config, log *slog.Logger, p process) error {
	conn, err := connectFirst(ctx, cfg.Transport, cfg.Connection, log, p.signals)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is under way on it
	admin, ok := conn.(transports.QueueAdmin)
	if !ok {
		return usageError{fmt.Errorf("--purge: queues cannot be emptied on %s", cfg.Transport)}
	}
	total := 0
	for _, q := range cfg.Queues {
		n, err := admin.Purge(ctx, q.Name)
		if err != nil && !errors.Is(err, transports.ErrNoQueue) {
			return fmt.Errorf("--purge: queue %q: %w", q.Name, err)
		}
		total += n
	}
	if total > 0 {
		s := "s"
		if total == 1 {
			s = ""
		}
		fmt.Fprintf(p.stdout, "purge: Erased %d message%s from the queue.\n\n", total, s)
	}
	return nil
}

// connectFirst dials until it succeeds, ctx ends, a signal comes, the broker refuses our credentials, or policy lets it
// try no more.
func connectFirst(ctx context.Context, t transports.Transport, policy worker.Connection, log *slog.Logger, signals <-chan os.Signal) (transports.Conn, error) {
	const first, most = 2 * time.Second, 30 * time.Second // kombu's steps
	retries := cmp.Or(policy.Retries, 100)                // negative: without end
	if retry := policy.RetryAtStart; retry != nil && !*retry || retry == nil && policy.NoRetry {
		retries = 0
	}
	for wait := first; ; wait = min(wait+first, most) {
		dialling, cancel := context.WithTimeout(ctx, 10*time.Second)
		conn, err := t.Connect(dialling)
		cancel()
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil || errors.Is(err, transports.ErrCredentials) || retries == 0:
			return nil, fmt.Errorf("--purge: %w", err)
		}
		retries--
		log.Error(fmt.Sprintf("purge: Connection error: %v. Trying again in %.2f seconds...", err, wait.Seconds()))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case sig := <-signals:
			timer.Stop()
			return nil, fmt.Errorf("--purge: ended by %v before there was a broker: %w", sig, err)
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("--purge: %w", err)
		}
	}
}
