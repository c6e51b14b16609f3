package redisresult

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/batch"
	"github.com/stalkworker/stalk/internal/redisopt"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// DefaultExpires is Celery's result_expires when it is not set.
const DefaultExpires = 24 * time.Hour

// defaultMost is Config.Most when it is not set. A Redis string holds 512 MiB.
const defaultMost = 128 << 20

// A Config says where and how. URL is required.
type Config struct {
	URL     string         // result_backend
	Options map[string]any // result_backend_transport_options; nil: none. retry_policy is the worker's affair and ignored here
	TLS     map[string]any // redis_backend_use_ssl; nil: none

	Expires        *time.Duration // result_expires; nil: DefaultExpires; under a second: for ever, as Celery takes it
	FailureExpires *time.Duration // result_failure_expires, of state FAILURE only; nil: as Expires
	ChordExpires   *time.Duration // result_chord_expires, of what a chord leaves while it runs; nil: as Expires

	// JoinTimeout is result_chord_join_timeout: how long the records of a header with groups in it may be
	// waited for. 0: 3 s, as Celery.
	JoinTimeout time.Duration

	Encoding protocol.Encoding // result_serializer, result_compression, the zone of date_done
	Limits   protocol.Limits   // what reading a record may cost
	Most     int               // bytes of a record; more is ErrTooLarge; 0: 128 MiB
}

// A Backend is the store. It is safe for concurrent use; New makes one.
type Backend struct {
	client   *redis.Client
	batch    *batch.Batcher[*call]
	address  string
	warnings []string
	prefix   string // of every record
	starts   string // prefix of the counts of starts
	expires  int64  // seconds; 0: for ever
	failures int64
	encoding protocol.Encoding
	limits   protocol.Limits
	maxValue int // bytes

	groups       string // prefix of a chord's keys
	chordExpires int64  // seconds; 0: for ever
	groupExpires int64  // seconds, of group records
	ordered      bool   // a header's results in its order, not in that of their arrival
	joinTimeout  time.Duration
	claimLife    time.Duration

	unscripted atomic.Bool // set once when the server forbids scripts
	waits      *listener
}

var (
	_ resultbackend.Backend   = (*Backend)(nil)
	_ resultbackend.Loader    = (*Backend)(nil)
	_ resultbackend.Waiter    = (*Backend)(nil)
	_ resultbackend.Forgetter = (*Backend)(nil)
)

// New checks cfg and returns a Backend, which connects when it is first used.
func New(cfg Config) (*Backend, error) {
	var errs []error
	prefix, err := keyPrefix(cfg.Options)
	errs = append(errs, err)
	expires, err := seconds("Expires", cfg.Expires, int64(DefaultExpires/time.Second))
	errs = append(errs, err)
	failures, err := seconds("FailureExpires", cfg.FailureExpires, expires)
	errs = append(errs, err)
	chordExpires, err := seconds("ChordExpires", cfg.ChordExpires, expires)
	errs = append(errs, err)
	ordered, err := chordOrder(cfg.Options)
	errs = append(errs, err)
	if cfg.JoinTimeout < 0 {
		errs = append(errs, fmt.Errorf("redisresult: Config.JoinTimeout is %v, want 0 or more", cfg.JoinTimeout))
	}
	join := cmp.Or(cfg.JoinTimeout, defaultJoinTimeout)
	if _, err := (protocol.Result{}).Encode(cfg.Encoding); err != nil {
		errs = append(errs, fmt.Errorf("redisresult: Config.Encoding: %w", err))
	}
	opts, err := redisopt.Results(cfg.URL, cfg.Options, cfg.TLS)
	if err != nil {
		errs = append(errs, fmt.Errorf("redisresult: %w", err))
	} else if len(opts.Servers) > 1 {
		errs = append(errs, errors.New("redisresult: a result URL names one server, or sentinels"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	groupExpires := int64(0)
	if chordExpires > 0 && expires > 0 {
		groupExpires = max(chordExpires, expires) // users may read it as well
	}
	if cfg.Limits.Seal == nil {
		cfg.Limits.Seal = cfg.Encoding.Seal
	}
	client := opts.Client(0, redisopt.Tune{})
	b := &Backend{
		client:   client,
		address:  opts.String(),
		warnings: opts.Warnings,
		prefix:   prefix + "celery-task-meta-",
		starts:   prefix + "celery-task-starts-",
		expires:  expires,
		failures: failures,
		encoding: cfg.Encoding,
		limits:   cfg.Limits,
		maxValue: cmp.Or(cfg.Most, defaultMost),

		groups:       prefix + "celery-taskset-meta-",
		chordExpires: chordExpires,
		groupExpires: groupExpires,
		ordered:      ordered,
		joinTimeout:  join,
		claimLife:    max(5*time.Second, (2 * join).Truncate(time.Second)),
	}
	b.batch = b.batcher()
	b.waits = newListener(client, b.decode)
	return b, nil
}

// keyPrefix reads global_keyprefix: Celery sets an underscore behind it unless it ends in a separator.
func keyPrefix(options map[string]any) (string, error) {
	switch p := options["global_keyprefix"].(type) {
	case nil:
		return "", nil
	case string:
		if p != "" && !strings.ContainsRune(":_-.", rune(p[len(p)-1])) {
			p += "_"
		}
		return p, nil
	default:
		return "", fmt.Errorf("redisresult: option %q is a %T, want text", "global_keyprefix", p)
	}
}

// chordOrder reads result_chord_ordered, which is on unless it is turned off.
func chordOrder(options map[string]any) (bool, error) {
	v, given := options["result_chord_ordered"]
	if !given {
		return true, nil
	}
	ordered, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("redisresult: option %q is %v, want true or false", "result_chord_ordered", v)
	}
	return ordered, nil
}

// seconds is a lifetime as Celery takes it: whole seconds, 0 for ever.
func seconds(field string, d *time.Duration, unset int64) (int64, error) {
	switch {
	case d == nil:
		return unset, nil
	case *d < 0:
		return 0, fmt.Errorf("redisresult: Config.%s is %v, want 0 or more", field, *d)
	}
	return int64(*d / time.Second), nil
}

// String is the address with any password masked.
func (b *Backend) String() string { return b.address }

// Warnings are what should be told at start about these settings.
func (b *Backend) Warnings() []string { return b.warnings }

// Close ends the connections. Stores, Loads and Waits after it, and Waits under way, are ErrUnavailable.
func (b *Backend) Close() error {
	b.waits.close()
	if err := b.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("redisresult: %v", err)
	}
	return nil
}

// Load reads the record of a task, whoever wrote it, compressed or not. A record that cannot be read is
// a *protocol.DecodeError.
func (b *Backend) Load(ctx context.Context, taskID string) (protocol.Result, error) {
	data, err := b.client.Get(ctx, b.prefix+taskID).Bytes()
	if errors.Is(err, redis.Nil) {
		return protocol.Result{}, fmt.Errorf("redisresult: task %q: %w", taskID, resultbackend.ErrNotFound)
	}
	if err != nil {
		return protocol.Result{}, b.failed(ctx, err)
	}
	return b.decode(data)
}

func (b *Backend) decode(data []byte) (protocol.Result, error) {
	return protocol.DecodeResult(b.encoding.Serializer, data, b.limits)
}

// failed maps an error of the driver to ours. Redis tells its errors apart by their text alone; here it
// is enough to know the one that can never go away.
func (b *Backend) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("redisresult: %w: %w", resultbackend.ErrUnavailable, ctx.Err())
	}
	if redis.HasErrorPrefix(err, "Protocol error: invalid bulk length") || redis.HasErrorPrefix(err, "string exceeds maximum allowed size") {
		return fmt.Errorf("redisresult: %w: %v", resultbackend.ErrTooLarge, err)
	}
	if damaged(err) {
		return fmt.Errorf("redisresult: %s: %w: %v", b.address, resultbackend.ErrDamaged, err)
	}
	return fmt.Errorf("redisresult: %s: %w: %v", b.address, resultbackend.ErrUnavailable, err)
}

// damaged reports whether a key holds another type, or a number's place no number. Of a script's error only the text
// tells; the last is Lua's, at a size that is none.
func damaged(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	for _, text := range []string{"WRONGTYPE", "value is not an integer", "hash value is not", "attempt to perform arithmetic on", "attempt to compare"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}
