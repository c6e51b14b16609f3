package command

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

// lifecycle fills in how much is taken ahead, how a shutdown goes, and what becomes of a lost connection.
func lifecycle(c *cli.Context, s *settings, cfg *worker.Config) error {
	cfg.Prefetch = s.whole("worker_prefetch_multiplier", 0)
	if _, ok := s.get("worker_prefetch_multiplier"); ok && cfg.Prefetch == 0 {
		cfg.Prefetch = -1 // without limit
	} else if cfg.Prefetch < 0 {
		return fmt.Errorf("worker_prefetch_multiplier is %d, want 0 or more", cfg.Prefetch)
	}
	if n := c.Int("prefetch-multiplier"); n > 0 { // on the command line 0 counts as not given
		cfg.Prefetch = n
	} else if n < 0 {
		return usageError{fmt.Errorf("--prefetch-multiplier %d: want 1 or more", n)}
	}
	without := s.flag("worker_disable_prefetch", false)
	if isSet(c, "disable-prefetch") {
		without = c.Bool("disable-prefetch")
	}
	if without {
		cfg.Prefetch = 1
	}
	cfg.ETALimit = s.whole("worker_eta_task_limit", 0)
	cfg.SoftShutdown = s.seconds("worker_soft_shutdown_timeout", 0)
	cfg.SoftShutdownOnIdle = s.flag("worker_enable_soft_shutdown_on_idle", false)
	cfg.Connection = worker.Connection{
		RetryAtStart: s.maybe("broker_connection_retry_on_startup"),
		NoRetry:      !s.flag("broker_connection_retry", true),
		Retries:      s.whole("broker_connection_max_retries", 100),
		CancelLost:   s.flag("worker_cancel_long_running_tasks_on_connection_loss", false),
	}
	if _, number := s.get("broker_connection_max_retries"); cfg.Connection.Retries <= 0 || !number && s.has("broker_connection_max_retries") { // 0 and null, as in Celery
		cfg.Connection.Retries = -1
	}
	if retry := s.maybe("broker_channel_error_retry"); retry != nil {
		cfg.Connection.FailRefused = !*retry
	}
	if d := s.seconds("broker_connection_timeout", 0); d > 10*time.Second { // else the worker's own is longer
		cfg.Connection.Timeout = d
	}
	return nil
}

// directQueue is the queue of worker_direct: what is sent to it reaches this node alone.
func directQueue(node string) transports.Queue {
	return transports.Queue{Name: node + ".dq2", Exchange: "C.dq2", Type: "direct", RoutingKey: node, Create: true}
}
