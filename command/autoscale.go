package command

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/stalkworker/stalk/worker"
)

// autoscale reads --autoscale as Celery does: two numbers in any order, or one, which is the most.
func autoscale(text string) (worker.Autoscale, error) {
	if text == "" {
		return worker.Autoscale{}, nil
	}
	parts := strings.Split(text, ",")
	if len(parts) > 2 {
		return worker.Autoscale{}, usageError{fmt.Errorf("--autoscale %q: expected two comma separated integers or one integer, got %d", text, len(parts))}
	}
	a, err := strconv.Atoi(strings.TrimSpace(parts[0]))
	b := 0
	if err == nil && len(parts) == 2 {
		b, err = strconv.Atoi(strings.TrimSpace(parts[1]))
	}
	if err != nil {
		return worker.Autoscale{}, usageError{fmt.Errorf("--autoscale %q: expected two comma separated integers or one integer", text)}
	}
	if min(a, b) < 0 || max(a, b) < 1 || max(a, b) > 100000 {
		return worker.Autoscale{}, usageError{fmt.Errorf("--autoscale %q: want at most 100000 tasks at a time, and at least 1", text)}
	}
	return worker.Autoscale{Max: max(a, b), Min: min(a, b)}, nil
}
