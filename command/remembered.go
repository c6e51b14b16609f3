package command

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/worker"
)

// remembered fills what the worker remembers of tasks: revoked ones, over a restart with --statedb, and recent
// successes. Celery reads the limits from the environment only (celery/worker/state.py).
func remembered(c *cli.Context, s *settings, cfg *worker.Config) error {
	var errs []error
	if file := textOption(c, s, "statedb", "worker_state_db"); file != "" {
		path, err := expandNode(file, cfg.Node)
		if err != nil {
			errs = append(errs, fmt.Errorf("--statedb: %w", err))
		}
		cfg.State = path
	}
	cfg.Deduplicate = s.flag("worker_deduplicate_successful_tasks", false)
	var err error
	if cfg.RevokesMax, err = s.count("CELERY_WORKER_REVOKES_MAX"); err != nil {
		errs = append(errs, err)
	}
	if cfg.RevokeExpires, err = s.expiry("CELERY_WORKER_REVOKE_EXPIRES"); err != nil {
		errs = append(errs, err)
	}
	if cfg.SuccessMax, err = s.count("CELERY_WORKER_SUCCESSFUL_MAX"); err != nil {
		errs = append(errs, err)
	}
	if cfg.SuccessExpires, err = s.expiry("CELERY_WORKER_SUCCESSFUL_EXPIRES"); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// count is the number of a variable; 0 when it is not set.
func (s *settings) count(variable string) (int, error) {
	text, ok := s.env[variable]
	if !ok {
		return 0, nil
	}
	const most = 10_000_000
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("invalid value for %s: expected int, got %q", variable, text)
	}
	if n < 1 || n > most {
		return 0, fmt.Errorf("invalid value for %s: %d, want 1 to %d", variable, n, most)
	}
	return n, nil
}

// expiry is the number of seconds of a variable; 0 when it is not set, negative for ever, which Celery writes as 0.
func (s *settings) expiry(variable string) (time.Duration, error) {
	text, ok := s.env[variable]
	if !ok {
		return 0, nil
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("invalid value for %s: expected float, got %q", variable, text)
	case !(f >= 0):
		return 0, fmt.Errorf("invalid value for %s: %v, want seconds, 0 or more", variable, f)
	case f == 0, f > math.MaxInt64/float64(time.Second)/2:
		return -1, nil
	}
	return time.Duration(f * float64(time.Second)), nil
}
