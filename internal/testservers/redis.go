package testservers

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StartRedis starts a redis-server, or what STALK_REDIS_SERVER names, on a free loopback port and waits until it answers. The caller owns it
// and closes it.
func StartRedis(ctx context.Context, args ...string) (*Server, error) {
	server, err := lookup(os.Getenv(envRedisRoot), cmp.Or(os.Getenv(envRedisServer), "redis-server"))
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "stalk-redis-")
	if err != nil {
		return nil, fmt.Errorf("testservers: %w", err)
	}
	port := strconv.Itoa(ports[0])
	s := &Server{dir: dir, Addr: "127.0.0.1:" + port}
	s.URL = "redis://" + s.Addr
	argv := slices.Concat([]string{
		"--bind", "127.0.0.1", "--port", port, "--dir", dir,
		"--save", "", "--appendonly", "no", "--databases", "64",
	}, args) // what comes later wins
	s.start = func(ctx context.Context) error {
		p, err := run(dir, server, nil, argv...)
		if err != nil {
			return err
		}
		s.procs = append(s.procs, p)
		if err := poll(ctx, p, func(ctx context.Context) error { return pingRedis(ctx, s.Addr) }); err != nil {
			return err
		}
		s.Version = redisVersion(ctx, s.Addr)
		return nil
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// pingRedis asks for an answer that is not LOADING; one that asks for a password is an answer. It speaks
// the protocol itself so that this package needs no driver, and with it no exception from the rule that a
// driver stays in its package.
func pingRedis(ctx context.Context, addr string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		c.SetDeadline(deadline)
	}
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		// A port that speaks TLS only hangs up on plain text: it is there.
		return ignoreTLS(err)
	}
	if strings.HasPrefix(line, "-LOADING") {
		return errors.New(strings.TrimSpace(line))
	}
	return nil
}

func ignoreTLS(err error) error {
	if _, ok := errors.AsType[net.Error](err); ok {
		return err
	}
	return nil
}

// redisVersion asks the server what it is; "" when it does not say.
func redisVersion(ctx context.Context, addr string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return ""
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	if _, err := c.Write([]byte("INFO server\r\nQUIT\r\n")); err != nil {
		return ""
	}
	reply, err := io.ReadAll(io.LimitReader(c, 64<<10)) // it hangs up after QUIT
	if err != nil {
		return ""
	}
	said := map[string]string{}
	for line := range strings.Lines(string(reply)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		said[name] = value
	}
	// Valkey says, as redis_version, which Redis it is compatible with.
	if v := said["valkey_version"]; v != "" {
		return "Valkey " + v
	}
	if v := said["redis_version"]; v != "" {
		return "Redis " + v
	}
	return ""
}
