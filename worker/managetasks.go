package worker

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// rateLimit is `control rate_limit`. It holds at once, also for tasks that wait for their turn already.
func rateLimit(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("task_name")
	text, _ := args.Get("rate_limit")
	perSecond, err := pythonRate(text)
	if exc := protocol.FromError(err); exc != nil && exc.Type == "ValueError" {
		return errorCommand("Invalid rate limit string: " + exc.Repr()), nil
	}
	if err != nil {
		return nil, err
	}
	if err := hashKey(asked); err != nil {
		return nil, err
	}
	name, _ := asked.(string)
	if _, known := n.cfg.Handlers.Lookup(name); !known {
		n.cfg.Logger.Error("Rate limit attempt for unknown task " + printable(clip(pythonText(asked))))
		return errorCommand("unknown task"), nil
	}
	n.limiter.set(name, perSecond, text)
	retime(n.limiter, n.calendar, name, time.Now())
	if !protocol.Truthy(text) {
		n.cfg.Logger.Info("Rate limits disabled for tasks of type " + printable(name))
		return okCommand("rate limit disabled successfully"), nil
	}
	n.cfg.Logger.Info(fmt.Sprintf("New rate limit for tasks of type %s: %s.", printable(name), printable(clip(pythonText(text)))))
	return okCommand("new rate limit set successfully"), nil
}

// pythonRate is celery.utils.time.rate: "10/m", "5", 2.5 per second; nothing is no limit. A rate below zero or one
// that is no number is refused, where Celery takes it and then starves or spins.
func pythonRate(v protocol.Value) (perSecond float64, err error) {
	if !protocol.Truthy(v) {
		return 0, nil
	}
	f := 0.0
	switch v := v.(type) {
	case string:
		number, unit, _ := strings.Cut(v, "/")
		per, known := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit]
		if !known {
			return 0, protocol.NewException("KeyError", unit)
		}
		if f, err = pythonFloat(number); err != nil {
			return 0, err
		}
		f /= per
	default:
		number, ok := pythonNumber(v)
		if !ok {
			return 0, protocol.NewException("TypeError", fmt.Sprintf("float() argument must be a string or a real number, not '%s'", protocol.TypeName(v)))
		}
		f = number
	}
	if math.IsNaN(f) || f < 0 {
		return 0, protocol.NewException("ValueError", "a rate is zero or more: "+protocol.PythonRepr(v))
	}
	return f, nil
}

// timeLimits are the limits that remote control ordered, by task name. They stand in the place of the handler's own.
type timeLimits struct {
	mu     sync.Mutex
	byName map[string]limitPair
}

// A limitPair is a soft and a hard limit; 0 is none.
type limitPair struct{ soft, hard time.Duration }

func newTimeLimits() *timeLimits { return &timeLimits{byName: map[string]limitPair{}} }

func (l *timeLimits) set(name string, p limitPair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byName[name] = p
}

// of is the limits of a handler: as ordered, else its own.
func (l *timeLimits) of(h handlers.Handler) limitPair {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, ordered := l.byName[h.Name()]; ordered {
		return p
	}
	o := h.Options()
	return limitPair{o.SoftLimit, o.HardLimit}
}

// timeLimit is `control time_limit`. It holds for tasks that start after it.
func timeLimit(_ context.Context, n *Node, args *protocol.Object) (any, error) {
	asked, _ := args.Get("task_name")
	if err := hashKey(asked); err != nil {
		return nil, err
	}
	name, _ := asked.(string)
	if _, known := n.cfg.Handlers.Lookup(name); !known {
		n.cfg.Logger.Error("Change time limit attempt for unknown task " + printable(clip(pythonText(asked))))
		return errorCommand("unknown task"), nil
	}
	soft, _ := args.Get("soft")
	hard, _ := args.Get("hard")
	var p limitPair
	var err error
	if p.soft, err = limitOf("soft", soft); err != nil {
		return nil, err
	}
	if p.hard, err = limitOf("hard", hard); err != nil {
		return nil, err
	}
	n.times.set(name, p)
	n.cfg.Logger.Info(fmt.Sprintf("New time limits for tasks of type %s: soft=%s hard=%s", printable(name), pythonText(soft), pythonText(hard)))
	return okCommand("time limits set successfully"), nil
}

// limitOf reads a limit in seconds. Celery takes anything and fails later; here what is no time is refused.
func limitOf(name string, v protocol.Value) (time.Duration, error) {
	if v == nil {
		return 0, nil
	}
	f, ok := pythonNumber(v)
	if !ok {
		return 0, protocol.NewException("TypeError", fmt.Sprintf("%s must be a real number, not %s", name, protocol.TypeName(v)))
	}
	if math.IsNaN(f) || f < 0 || f > farthest.Seconds() {
		return 0, protocol.NewException("ValueError", fmt.Sprintf("%s is no time limit: %s", name, protocol.PythonRepr(v)))
	}
	return time.Duration(f * float64(time.Second)), nil
}
