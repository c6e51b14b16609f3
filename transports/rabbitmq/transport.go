package rabbitmq

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stalkworker/stalk/transports"
)

// Config describes a broker. The zero value of every field but URL means its default.
type Config struct {
	// URL is the address, or several separated by ";" (a failover list); URLs are further ones after it.
	// "" with no URLs is amqp://guest:guest@127.0.0.1:5672//.
	URL  string
	URLs []string
	// TLS switches TLS on for amqp:// URLs too, and says what to check. amqps:// without it checks the
	// broker's certificate against the system's roots.
	TLS *TLS
	// Heartbeat is asked for on both connections, in whole seconds; the broker may lower it. 0: 10 s. A
	// heartbeat in the URL wins.
	Heartbeat time.Duration
	// ConnectTimeout bounds TCP, TLS and AMQP handshake of one connection. 0: 4 s.
	ConnectTimeout time.Duration
	// ConsumerTimeout is the broker's consumer_timeout, which it does not tell: what waits here is given back or put away in
	// time. A queue with an argument x-consumer-timeout has its own. 0: 30 minutes, RabbitMQ's default; negative: the broker has none.
	ConsumerTimeout time.Duration
	// Name is the node's name: the connection's name in the management pages and the front of the consumer
	// tags. "": stalk.
	Name string
	// FailoverStrategy is "round-robin" (also for "") or "shuffle".
	FailoverStrategy string
	// DelayQueueType is the kind of the queues for delayed messages, where they are made: quorum (also for "") or
	// classic. Celery's broker_native_delayed_delivery_queue_type.
	DelayQueueType string
	// Options are Celery's broker_transport_options. Read: heartbeat, connect_timeout, consumer_timeout (all three in
	// seconds), login_method,
	// client_properties (text values). Others are ignored, as they are arguments of another client.
	Options map[string]any
	// Notify, when not nil, hears of what is being retried in the background: a queue that does not exist
	// yet, one the broker refuses, a taken mailbox name. It is called once when the trouble starts or
	// changes its kind, and with nil when it is over. It must not block.
	Notify func(queue string, err error)
}

// TLS says how the broker's certificate is checked and which one we show. All fields are optional.
type TLS struct {
	CAFile            string // instead of the system's roots
	CertFile, KeyFile string // ours; both or neither
	ServerName        string // instead of the URL's host
	MinVersion        uint16 // as crypto/tls counts; 0: TLS 1.2, and never less
	Insecure          bool   // check nothing, as Celery does with cert_reqs CERT_NONE
}

// Transport is a broker or a failover list of brokers. See transports.Transport.
type Transport struct {
	cfg       Config
	addresses []address
	tls       *tls.Config // nil: none configured

	noShared atomic.Bool // the broker was seen to forbid queues that are neither durable nor exclusive

	mu      sync.Mutex
	next    int     // index of the address for the next Connect
	current address // where the last Connect went: port and vhost are inherited from it
}

var (
	_ transports.Transport   = (*Transport)(nil)
	_ transports.TimeLimiter = (*Transport)(nil)
)

const (
	defaultHeartbeat      = 10 * time.Second
	defaultConnectTimeout = 4 * time.Second
)

// New checks cfg and returns its Transport. It does not dial.
func New(cfg Config) (*Transport, error) {
	cfg.Options = maps.Clone(cfg.Options)
	t := &Transport{cfg: cfg}
	var errs []error
	var err error
	if t.addresses, err = parseURLs(cfg.URL, cfg.URLs); err != nil {
		errs = append(errs, err)
	}
	switch cfg.FailoverStrategy {
	case "", "round-robin", "shuffle":
	default:
		errs = append(errs, fmt.Errorf("rabbitmq: failover strategy %q, want round-robin or shuffle", cfg.FailoverStrategy))
	}
	switch cfg.DelayQueueType {
	case "", "quorum", "classic":
	default:
		errs = append(errs, fmt.Errorf("rabbitmq: type %q of the delay queues, want quorum or classic", cfg.DelayQueueType))
	}
	if cfg.Heartbeat < 0 || cfg.ConnectTimeout < 0 {
		errs = append(errs, errors.New("rabbitmq: a negative Heartbeat or ConnectTimeout"))
	}
	if t.tls, err = cfg.TLS.config(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(append(errs, t.readOptions())...); err != nil {
		return nil, err
	}
	t.cfg.Heartbeat = cmp.Or(t.cfg.Heartbeat, defaultHeartbeat)
	t.cfg.ConsumerTimeout = cmp.Or(t.cfg.ConsumerTimeout, defaultConsumerTimeout)
	t.cfg.ConnectTimeout = cmp.Or(t.cfg.ConnectTimeout, defaultConnectTimeout)
	t.cfg.Name = cmp.Or(t.cfg.Name, "stalk")
	t.current = t.addresses[0]
	return t, nil
}

// readOptions takes from broker_transport_options what means something to us.
func (t *Transport) readOptions() error {
	var errs []error
	for key, into := range map[string]*time.Duration{"heartbeat": &t.cfg.Heartbeat, "connect_timeout": &t.cfg.ConnectTimeout, "consumer_timeout": &t.cfg.ConsumerTimeout} {
		v, there := t.cfg.Options[key]
		if !there || v == nil {
			continue
		}
		d, ok := seconds(v)
		if !ok {
			errs = append(errs, fmt.Errorf("rabbitmq: option %s is %v, want seconds", key, v))
			continue
		}
		*into = d
	}
	if m, there := t.cfg.Options["login_method"]; there && m != nil {
		name, _ := m.(string)
		if err := checkLogin(name); err != nil {
			errs = append(errs, err)
		}
		for i := range t.addresses {
			t.addresses[i].login = cmp.Or(t.addresses[i].login, name)
		}
	}
	return errors.Join(errs...)
}

// maxSeconds bounds what a setting may ask for, so that it fits a time.Duration.
const maxSeconds = 1 << 31

func seconds(v any) (time.Duration, bool) {
	var f float64
	switch n := v.(type) {
	case int:
		f = float64(n)
	case int64:
		f = float64(n)
	case float64:
		f = n
	default:
		return 0, false
	}
	if !(f >= 0 && f <= maxSeconds) { // NaN too
		return 0, false
	}
	return time.Duration(f * float64(time.Second)), true
}

// String is the first address as Celery prints it, the password masked: "amqp://guest:**@localhost:5672//".
func (t *Transport) String() string { return t.addresses[0].String() }

// Connect dials the next address of the list. See transports.Transport.
func (t *Transport) Connect(ctx context.Context) (transports.Conn, error) {
	return t.connect(ctx, t.advance())
}

// advance picks the address to dial now. As in Kombu, an address without port or virtual host takes
// those of the address before it; user and password are never inherited.
func (t *Transport) advance() address {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.addresses[t.next]
	a.inherit(t.current)
	t.current = a
	if t.cfg.FailoverStrategy == "shuffle" {
		t.next = rand.IntN(len(t.addresses))
	} else {
		t.next = (t.next + 1) % len(t.addresses)
	}
	return a
}
