package testservers

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// StartRedis starts a redis-server, or what STALK_REDIS_SERVER names, on a free loopback port and waits until it
// answers. The caller owns it and closes it.
func StartRedis(ctx context.Context, args ...string) (*Server, error) {
	return startRedis(ctx, func(_, port string) ([]string, error) {
		return append([]string{"--save", "", "--appendonly", "no", "--databases", "64"}, args...), nil // what comes later wins
	})
}

// startRedis starts it with the arguments that prepare makes of the server's folder and port.
func startRedis(ctx context.Context, prepare func(dir, port string) ([]string, error)) (*Server, error) {
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
	args, err := prepare(dir, port)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	// A file of settings, for a sentinel, has to come first.
	var file []string
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		file, args = args[:1], args[1:]
	}
	argv := slices.Concat(file, []string{"--bind", "127.0.0.1", "--port", port, "--dir", dir}, args)
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
	reply, err := Ask(ctx, addr, "", "INFO", "server")
	if err != nil {
		return ""
	}
	said := infoFields(reply)
	// Valkey says, as redis_version, which Redis it is compatible with.
	if v := said["valkey_version"]; v != "" {
		return "Valkey " + v
	}
	if v := said["redis_version"]; v != "" {
		return "Redis " + v
	}
	return ""
}
