package redisbroker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stalkworker/stalk/internal/redisopt"
	"github.com/stalkworker/stalk/protocol"
)

// Config is what New needs.
type Config struct {
	URL string // broker_url; required
	// Options are broker_transport_options, by Celery's names; unknown ones are ignored, nil is none.
	Options map[string]any
	SSL     map[string]any // broker_use_ssl; nil is none
	// Fanouts are exchanges that are fanout on Redis although a Publishing calls them something else; nil:
	// Celery's event exchange, "celeryev".
	Fanouts []string
	// Limits are how large an envelope may be, and how deep; the zero value is protocol's own.
	Limits protocol.Limits
	// Warn reports what somebody should know and no call can return; args are slog's. It must not block.
	// nil discards.
	Warn func(msg string, args ...any)
	// Alarm is Warn for what somebody should act upon: the broker has lost data. nil: Warn.
	Alarm func(msg string, args ...any)
}

// settings are Config.Options read and checked; they do not change.
type settings struct {
	visibility      time.Duration
	prefix          string // global_keyprefix
	sep             string
	steps           []int // ascending, as configured
	strategy        string
	unacked         string // these three without the prefix
	index           string
	mutex           string
	mutexExpire     time.Duration
	restoreInterval time.Duration
	restoreThrottle int // read for Python's sake; our own sweep is due at each interval
	restoreLimit    int // 0: none
	fanoutPrefix    string
	fanoutLegacy    string // sentinel_fanout_compat: listen and publish here too; "" not
	fanoutPatterns  bool
	deadLetter      string
	heal            time.Duration // how often bindings are written again
	limits          protocol.Limits
}

const (
	mutexTTL  = 30 * time.Second // a batch is far shorter, and a sweeper killed inside blocks nobody for long
	maxSteps  = 32
	defaultVT = time.Hour
)

func readSettings(o map[string]any, conn *redisopt.Options) (settings, error) {
	s := settings{heal: time.Minute}
	var errs []error
	text := func(key, def string) string {
		switch v := o[key].(type) {
		case nil:
			return def
		case string:
			return v
		default:
			errs = append(errs, fmt.Errorf("option %q is a %T, want text", key, v))
			return def
		}
	}
	number := func(key string, def float64) float64 {
		raw := o[key]
		if raw == nil {
			return def
		}
		f, ok := redisopt.Number(raw)
		if !ok || !(f >= 0 && f <= 1e9) {
			errs = append(errs, fmt.Errorf("option %q is %v, want a number of 0 or more", key, raw))
			return def
		}
		return f
	}
	seconds := func(key string, def time.Duration) time.Duration {
		return time.Duration(number(key, def.Seconds()) * float64(time.Second))
	}
	s.visibility = seconds("visibility_timeout", defaultVT)
	if s.visibility < 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("option \"visibility_timeout\" is %v, want 0.1 s or more", s.visibility))
	}
	s.prefix = text("global_keyprefix", "")
	if s.sep = text("sep", "\x06\x16"); s.sep == "" {
		errs = append(errs, errors.New("option \"sep\" is empty"))
	}
	s.strategy = text("queue_order_strategy", "round_robin")
	if !slices.Contains([]string{"round_robin", "priority", "sorted"}, s.strategy) {
		errs = append(errs, fmt.Errorf("option \"queue_order_strategy\" is %q, want round_robin, priority or sorted", s.strategy))
	}
	s.unacked = text("unacked_key", "unacked")
	s.index = text("unacked_index_key", "unacked_index")
	s.mutex = text("unacked_mutex_key", "unacked_mutex")
	s.mutexExpire = min(seconds("unacked_mutex_expire", mutexTTL), mutexTTL)
	if s.mutexExpire < time.Second {
		s.mutexExpire = mutexTTL
	}
	s.restoreInterval = max(seconds("unacked_restore_interval", 10*time.Second), 100*time.Millisecond)
	s.restoreThrottle = int(number("unacked_restore_throttle", 10))
	s.restoreLimit = int(number("unacked_restore_limit", 0))
	s.deadLetter = text("deadletter_queue", "")
	s.fanoutPatterns = truthy(o["fanout_patterns"], true)
	s.fanout(o, conn)
	var err error
	if s.steps, err = prioritySteps(o["priority_steps"]); err != nil {
		errs = append(errs, err)
	}
	if v, given := o["ack_emulation"]; given && !truthy(v, true) {
		errs = append(errs, errors.New("option \"ack_emulation\" is false: messages would be lost in a crash; remove it"))
	}
	return s, errors.Join(errs...)
}

// fanout reads fanout_prefix: true is "/{db}.", a text replaces it, false removes it.
func (s *settings) fanout(o map[string]any, conn *redisopt.Options) {
	template := "/{db}."
	switch v := o["fanout_prefix"].(type) {
	case string:
		template = v
	case nil:
	default:
		if !truthy(v, true) {
			template = ""
		}
	}
	s.fanoutPrefix = withDB(template, conn.DB)
	if conn.Sentinel != nil && truthy(o["sentinel_fanout_compat"], false) && s.fanoutPrefix != template {
		s.fanoutLegacy = template
	}
}

func prioritySteps(raw any) ([]int, error) {
	var list []any
	switch v := raw.(type) {
	case nil:
		return []int{0, 3, 6, 9}, nil
	case []any:
		list = v
	case []int:
		for _, n := range v {
			list = append(list, n)
		}
	default:
		return nil, fmt.Errorf("option \"priority_steps\" is a %T, want a list", raw)
	}
	if len(list) == 0 || len(list) > maxSteps {
		return nil, fmt.Errorf("option \"priority_steps\" has %d entries, want 1 to %d", len(list), maxSteps)
	}
	var steps []int
	for _, e := range list {
		f, ok := redisopt.Number(e)
		if !ok || f != float64(int(f)) || f < -1000 || f > 1000 {
			return nil, fmt.Errorf("option \"priority_steps\" holds %v, want whole numbers", e)
		}
		steps = append(steps, int(f))
	}
	return steps, nil
}

// truthy is Python's bool of an option.
func truthy(raw any, def bool) bool {
	switch v := raw.(type) {
	case nil:
		return def
	case bool:
		return v
	case string:
		return v != ""
	}
	f, ok := redisopt.Number(raw)
	return !ok || f != 0
}
