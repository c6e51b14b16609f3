package redisopt

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/stalkworker/stalk/internal/pytls"
)

// ErrNoMaster: none of the sentinels named a master that may be used.
var ErrNoMaster = errors.New("redisopt: no sentinel knows a master")

// dial goes to the server, or behind Sentinel to where the master is; master is where it has to be, "" when anywhere.
func (o *Options) dial(ctx context.Context, s Server, master string) (net.Conn, error) {
	if o.Sentinel != nil {
		addr := master
		if addr == "" {
			var err error
			if addr, err = o.Master(ctx); err != nil {
				return nil, err
			}
		}
		c, err := dial(ctx, "tcp", addr, s.TLS, o.ConnectTimeout)
		if err != nil {
			return nil, err
		}
		return groupOf(o.Sentinel).keep(c, addr)
	}
	addr := s.Addr
	return dial(ctx, s.Network, addr, s.TLS, o.ConnectTimeout)
}

func dial(ctx context.Context, network, addr string, cfg *tls.Config, timeout time.Duration) (net.Conn, error) {
	d := &net.Dialer{Timeout: timeout, KeepAlive: keepAlive}
	if cfg == nil {
		sock, err := d.DialContext(ctx, network, addr)
		if err != nil || network == "unix" {
			return sock, err
		}
		return pytls.Plain(sock, "rediss"), nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout) // a dialler's timeout does not cover the handshake
	defer cancel()
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	sock, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return pytls.Handshake(ctx, sock, cfg, tlsNames)
}

// patience is how long one sentinel may take. Where none is configured, all of them together have as long as a
// server: one that hangs must leave time for the others.
func (o *Options) patience() time.Duration {
	return cmp.Or(o.Sentinel.Timeout, o.ConnectTimeout/time.Duration(len(o.Sentinel.Addrs)))
}

// dialTimeout bounds one dial, with the search for a master.
func (o *Options) dialTimeout() time.Duration {
	if o.Sentinel == nil {
		return o.ConnectTimeout
	}
	return o.ConnectTimeout + o.patience()*time.Duration(len(o.Sentinel.Addrs))
}

// Master asks the sentinels in turn, as redis-py does, and first the one that was believed last: one is believed
// when the master it names is not down, it knows enough other sentinels, and it knows of the latest failover that we
// know of. When the master is not where it was, every socket of this process to the old one is closed. Without
// sentinels it is "".
func (o *Options) Master(ctx context.Context) (string, error) {
	if o.Sentinel == nil {
		return "", nil
	}
	var errs []error
	g := groupOf(o.Sentinel)
	g.mu.Lock()
	first := g.first
	g.mu.Unlock()
	for i := range o.Sentinel.Addrs {
		i = (first + i) % len(o.Sentinel.Addrs)
		addr := o.Sentinel.Addrs[i]
		state, err := o.ask(ctx, addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("sentinel %s: %w", addr, err))
			continue
		}
		others, _ := strconv.Atoi(state["num-other-sentinels"])
		flags := "," + state["flags"] + ","
		switch {
		case !strings.Contains(flags, ",master,"),
			strings.Contains(flags, ",s_down,"), strings.Contains(flags, ",o_down,"):
			errs = append(errs, fmt.Errorf("sentinel %s: master %q is %q", addr, o.Sentinel.Master, state["flags"]))
		case others < o.Sentinel.MinOthers:
			errs = append(errs, fmt.Errorf("sentinel %s: knows %d other sentinels, want %d", addr, others, o.Sentinel.MinOthers))
		default:
			master := net.JoinHostPort(state["ip"], state["port"])
			epoch, _ := strconv.ParseInt(state["config-epoch"], 10, 64)
			if g.believe(i, master, epoch) {
				return master, nil
			}
			errs = append(errs, fmt.Errorf("sentinel %s: has not heard of the latest failover", addr))
		}
	}
	// Hidden: a sentinel's reply is no reply of the server that was to be reached.
	return "", fmt.Errorf("%w: %v", ErrNoMaster, errors.Join(errs...))
}

func (o *Options) ask(ctx context.Context, addr string) (map[string]string, error) {
	timeout := o.patience()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c := redis.NewClient(&redis.Options{
		Addr: addr,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dial(ctx, network, addr, o.Sentinel.TLS, timeout)
		},
		Protocol:              2,
		Username:              o.Sentinel.Username,
		Password:              o.Sentinel.Password,
		MaxRetries:            -1,
		DialTimeout:           timeout,
		DialerRetries:         1,
		ReadTimeout:           timeout,
		WriteTimeout:          timeout,
		ContextTimeoutEnabled: true,
		PoolSize:              1,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})
	defer c.Close()
	cmd := redis.NewMapStringStringCmd(ctx, "SENTINEL", "MASTER", o.Sentinel.Master)
	if err := c.Process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}
