package worker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stalkworker/stalk/transports"
)

// delayExchanges is how the names of the exchanges begin through which a delayed message comes.
const delayExchanges = "celery_delayed_"

// prepareDelay has each connection set up the delay exchanges for the queues this worker knows, as a Celery worker does
// at its start: programs that publish rely on it. It returns when ctx is done.
func (w *Worker) prepareDelay(ctx context.Context) {
	queues := slices.Clone(w.cfg.Queues)
	for _, q := range w.cfg.Declared {
		if !slices.ContainsFunc(queues, func(o transports.Queue) bool { return o.Name == q.Name }) {
			q.Create = false // for whoever consumes it
			queues = append(queues, q)
		}
	}
	told := false
	bound := slices.DeleteFunc(slices.Clone(queues), direct)
	warn := func(q transports.Queue) {
		w.log.Warn(fmt.Sprintf("Exchange %s is a direct exchange and native delayed delivery do not support direct exchanges.\n"+
			"ETA tasks published to this exchange will block the worker until the ETA arrives.", cmp.Or(q.Exchange, q.Name)), "queue", q.Name)
	}
	w.link.follow(ctx, func(ctx context.Context, conn transports.Conn) error {
		if d, ok := conn.(transports.Delayer); ok {
			for _, q := range queues {
				if direct(q) && !told {
					warn(q)
				}
			}
			told = true
			if err := d.PrepareDelay(ctx, bound); err != nil {
				return err
			}
		}
		w.delays.close()
		select {
		case <-conn.Done():
			return transports.ErrDisconnected
		case <-ctx.Done():
			return nil
		}
	}, func(err error) {
		w.delays.close()
		w.log.Warn("native delayed delivery cannot be set up for all queues; trying again", "err", err)
	})
}

// delayPatience is how long the worker waits at its start until the delay exchanges are set up, before it says that it
// is ready: whoever waits for that may publish to them.
const delayPatience = 10 * time.Second

func (w *Worker) awaitDelays(ctx context.Context) {
	if !w.cfg.NativeDelay {
		return
	}
	t := time.NewTimer(delayPatience)
	defer t.Stop()
	select {
	case <-w.delays.done:
	case <-t.C:
	case <-ctx.Done():
	}
}

func direct(q transports.Queue) bool { return cmp.Or(q.Type, "direct") == "direct" }

// retryDelay is how a retry waits with the broker: nil unless its task came to a known queue by way of that queue's own
// exchange, or of the delay exchanges, which only lead there.
func retryDelay(cfg *Config, j *job, eta, now time.Time) *transports.Delay {
	if cfg == nil || !cfg.NativeDelay || !eta.After(now) {
		return nil
	}
	named := func(q transports.Queue) bool { return q.Name == j.delivery.Queue }
	queues := cfg.Queues
	i := slices.IndexFunc(queues, named)
	if i < 0 {
		queues = cfg.Declared
		i = slices.IndexFunc(queues, named)
	}
	if i < 0 || direct(queues[i]) {
		return nil
	}
	q := queues[i]
	if own := cmp.Or(q.Exchange, q.Name); j.task.Exchange != own && !strings.HasPrefix(j.task.Exchange, delayExchanges) {
		return nil
	}
	return &transports.Delay{For: eta.Sub(now), Queue: q, RoutingKey: j.task.RoutingKey}
}
