// Package redisopt turns Celery's Redis URLs and options into connection settings, for the broker
// (redisbroker) and for the result store (redisresult). It reads what Kombu and Celery read and refuses
// what they refuse, naming the part; it knows nothing of queues or results.
//
// The two differ in a few query keys and in what "rediss" demands, so there are two entry points,
// Broker and Results.
package redisopt

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// go-redis logs to standard error by itself, for instance at each connection it closes. What matters
// reaches us as an error, and only worker/ logs. Its logger is a global without a lock, so init is the
// one place where setting it is no race.
func init() { redis.SetLogger(silence{}) }

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// Deadlines used where the configuration names none. Python's default is to wait for ever.
const (
	DefaultConnectTimeout = 5 * time.Second
	DefaultSocketTimeout  = 10 * time.Second
	keepAlive             = 15 * time.Second
)

// Options say how to reach one Redis, or one of a failover list. They hold no connection, and nothing that
// a reader sees changes after parsing, so they may be shared.
type Options struct {
	Servers  []Server  // where to dial; of a failover list one per entry, in order. Never empty
	Sentinel *Sentinel // not nil: Servers has one entry whose address the sentinels are asked for
	DB       int
	// Warnings are what Kombu would log about these settings: TLS without certificate checks.
	Warnings []string

	ConnectTimeout time.Duration // never 0
	SocketTimeout  time.Duration // of one command that does not block; never 0
	MaxConnections int           // 0: not given
	ClientName     string

	scheme string // as the URL spells it: "redis", "rediss", "redis+socket", "sentinel"
}

// A Server is one place to dial and who to be there.
type Server struct {
	Network  string // "tcp" or "unix"
	Addr     string // "host:port", or the path of a socket; empty behind Sentinel
	Username string
	Password string
	// PasswordFile is read at each dial, so that a password can be rotated under a running worker; "": Password.
	PasswordFile string
	TLS          *tls.Config // nil: plain

	host, port, path string // for String; port "" and path "" when the URL had none
}

// Sentinel is how to find the master.
type Sentinel struct {
	Master    string
	Addrs     []string
	MinOthers int // a sentinel that knows fewer other sentinels is not believed
	Username  string
	Password  string
	TLS       *tls.Config
	Timeout   time.Duration // of each; 0: all of them together take at most ConnectTimeout
}

// Tune is what a user of a client decides for itself. A zero field means the default.
type Tune struct {
	PoolSize    int           // 0: 10, or MaxConnections when configured
	ReadTimeout time.Duration // 0: Options.SocketTimeout
	Buffer      int           // bytes of each connection's buffer for reading, and of that for writing; 0: 16 KiB
	// Master is the only one to dial, behind Sentinel; once the master is elsewhere, dialling fails. "" is whichever it
	// is at the time.
	Master string
	// Wrap sees each network connection after it is made; nil: nobody does.
	Wrap func(net.Conn) net.Conn
}

// Client makes a client of server i (modulo their number). It dials on first use, never retries a
// command by itself, speaks RESP2 and sends neither CLIENT SETINFO nor maintenance subscriptions, all
// of which some proxies refuse. A context's deadline bounds a command; each has one anyway.
// Behind Sentinel each dial asks for the master again, unless Tune.Master names it: so a client survives a failover.
func (o *Options) Client(i int, t Tune) *redis.Client {
	s := o.Servers[i%len(o.Servers)]
	return redis.NewClient(&redis.Options{
		CredentialsProviderContext: s.credentials(),
		Network:                    s.Network,
		Addr:                       cmp.Or(s.Addr, "sentinel"),
		ClientName:                 o.ClientName,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := o.dial(ctx, s, t.Master)
			if err == nil && t.Wrap != nil {
				c = t.Wrap(c)
			}
			return c, err
		},
		Protocol:              2,
		Username:              s.Username,
		Password:              s.Password,
		DB:                    o.DB,
		MaxRetries:            -1,
		DialTimeout:           o.dialTimeout(),
		DialerRetries:         1,
		ReadTimeout:           cmp.Or(t.ReadTimeout, o.SocketTimeout),
		WriteTimeout:          o.SocketTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              cmp.Or(t.PoolSize, o.MaxConnections, 10),
		ReadBufferSize:        cmp.Or(t.Buffer, 16<<10), // a worker has a dozen connections: the driver's 64 KiB each are most of its heap
		WriteBufferSize:       cmp.Or(t.Buffer, 16<<10),
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})
}

// String is the first address with any password masked, as Kombu prints it: "redis://:**@host:6379/0".
func (o *Options) String() string { return o.Address(0) }

// Address is server i as String prints it.
func (o *Options) Address(i int) string {
	s := o.Servers[i%len(o.Servers)]
	var b strings.Builder
	b.WriteString(o.scheme)
	b.WriteString("://")
	if s.Username != "" || s.Password != "" {
		b.WriteString(url.QueryEscape(s.Username))
		if s.Password != "" {
			b.WriteString(":**")
		}
		b.WriteByte('@')
	}
	if s.Network == "unix" {
		b.WriteString(s.Addr)
		return b.String()
	}
	b.WriteString(cmp.Or(s.host, "localhost"))
	b.WriteByte(':')
	b.WriteString(cmp.Or(s.port, strconv.Itoa(defaultPort(o.scheme))))
	b.WriteByte('/')
	b.WriteString(cmp.Or(s.path, "/"))
	return b.String()
}

func defaultPort(scheme string) int {
	if scheme == "sentinel" {
		return 26379
	}
	return 6379
}
