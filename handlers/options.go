package handlers

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Celery's defaults for retries (celery/app/task.py, celery/app/autoretry.py).
const (
	DefaultMaxRetries = 3
	DefaultRetryDelay = 180 * time.Second
	DefaultBackoffMax = 600 * time.Second
)

// Options: every zero value means Celery's (or the worker's) default.
type Options struct {
	SoftLimit, HardLimit time.Duration // 0: the worker's; the message's header wins over both
	Retry                RetryPolicy
	EarlyAck             bool             // ack when execution starts; default is late: a crash runs the task again
	AckOnFailure         *bool            // nil: the worker's setting (Celery: true). false: reject without requeue
	AckOnTimeout         *bool            // nil: the worker's setting (true). false: reject with requeue
	Rate                 string           // "10/m", "100/h", "5", "": none; see ParseRate
	IgnoreResult         bool             // when the message does not say
	StoreErrors          bool             // store_errors_even_if_ignored
	TrackStarted         *bool            // nil: the worker's setting (false)
	NoEvents             bool             // no task events (send_events = False)
	Slots                int              // how many of the worker's slots a run takes, as what keeps several CPUs busy should; 0: 1; more than there are: all
	Expected             func(error) bool // Celery's throws: logged at INFO, without traceback; nil: none

	// Isolate runs the handler in a child process of the same program: killed at the hard limit and by terminate, and
	// contained when it crashes. The program must call isolate.Serve; command.Main does.
	Isolate   bool
	MemoryCap int64 // resident bytes of the child over which an isolated run is killed; 0: none

	RejectOnLost *bool // an isolated run whose child is lost goes back to its queue; nil: the worker's setting (false)
	RetryOnLost  *bool // it is retried, as by Retry with the policy's Delay; nil: the worker's setting (false). Wins over RejectOnLost
}

// A RetryPolicy says what handlers.Retry and On do.
type RetryPolicy struct {
	Max        *int             // retries after the first run; nil: 3; negative: no limit
	Delay      time.Duration    // when Retry names none; 0: 180 s (default_retry_delay)
	On         func(error) bool // autoretry_for: which errors are retried by themselves; nil: none
	Backoff    time.Duration    // autoretry only: min(BackoffMax, Backoff*2^retries); 0: Delay
	BackoffMax time.Duration    // 0: 600 s
	NoJitter   bool             // default: a whole number of seconds drawn from [0, countdown]
}

// Limit is how many retries may follow the first run; unlimited is true when there is no bound.
func (p RetryPolicy) Limit() (n int, unlimited bool) {
	switch {
	case p.Max == nil:
		return DefaultMaxRetries, false
	case *p.Max < 0:
		return 0, true
	}
	return *p.Max, false
}

// Wait is the delay of a retry that names none.
func (p RetryPolicy) Wait() time.Duration {
	if p.Delay <= 0 {
		return DefaultRetryDelay
	}
	return p.Delay
}

// Countdown is the delay before the next run of an automatic retry, after so many retries already made (the
// first delay is for 0). random returns an int in [0, n); it is called only when there is something to draw.
//
// As in Celery (get_exponential_backoff_interval) the backoff counts in whole seconds and is at least one,
// and the jitter is drawn from 0 to the countdown, both included.
func (p RetryPolicy) Countdown(retries int, random func(n int64) int64) time.Duration {
	if p.Backoff == 0 {
		return p.Wait()
	}
	most := int64(DefaultBackoffMax / time.Second)
	if p.BackoffMax != 0 {
		most = max(0, int64(p.BackoffMax/time.Second))
	}
	seconds := max(1, int64(p.Backoff/time.Second))
	for i := 0; i < retries && seconds < most; i++ {
		seconds *= 2 // stays far below overflow: it was below most, which is a Duration in seconds
	}
	seconds = min(seconds, most)
	if !p.NoJitter && seconds > 0 {
		seconds = random(seconds + 1)
	}
	return time.Duration(seconds) * time.Second
}

// ParseRate reads a rate as Celery writes it: "10/m", "100/h", "2.5/s", "5" (per second). It returns tasks
// per second; 0 means no limit ("" and "0").
func ParseRate(text string) (perSecond float64, err error) {
	if text == "" {
		return 0, nil
	}
	number, unit, cut := strings.Cut(text, "/")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || n < 0 || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, fmt.Errorf(`handlers: rate %q: want a number, "10/s", "10/m" or "10/h"`, text)
	}
	switch {
	case !cut, unit == "s":
		return n, nil
	case unit == "m":
		return n / 60, nil
	case unit == "h":
		return n / 3600, nil
	}
	return 0, fmt.Errorf(`handlers: rate %q: unknown unit %q, want s, m or h`, text, unit)
}

// faults are the settings that mean nothing.
func (o Options) faults() []string {
	var faults []string
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"SoftLimit", o.SoftLimit},
		{"HardLimit", o.HardLimit},
		{"Retry.Delay", o.Retry.Delay},
		{"Retry.Backoff", o.Retry.Backoff},
		{"Retry.BackoffMax", o.Retry.BackoffMax},
	} {
		if d.d < 0 {
			faults = append(faults, fmt.Sprintf("Options.%s is %v, want 0 or more", d.name, d.d))
		}
	}
	if o.Slots < 0 {
		faults = append(faults, fmt.Sprintf("Options.Slots is %d, want 0 or more", o.Slots))
	}
	if o.MemoryCap < 0 {
		faults = append(faults, fmt.Sprintf("Options.MemoryCap is %d, want 0 or more", o.MemoryCap))
	}
	if o.MemoryCap > 0 && !o.Isolate {
		faults = append(faults, "Options.MemoryCap holds for isolated handlers only: set Options.Isolate")
	}
	if _, err := ParseRate(o.Rate); err != nil {
		faults = append(faults, "Options.Rate: "+strings.TrimPrefix(err.Error(), "handlers: "))
	}
	return faults
}
