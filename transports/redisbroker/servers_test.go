package redisbroker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/redisbroker"
)

// start starts a server of the test's own, and tells where it listens.
func start(t *testing.T, args ...string) (addr string) {
	t.Helper()
	return testservers.Redis(t, args...).Addr
}

// roundTrip sends, receives and acks one message over the configuration.
func roundTrip(t *testing.T, cfg redisbroker.Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	tr, err := redisbroker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tr.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Publish(ctx, transports.Publishing{RoutingKey: "q", Message: message("x")}); err != nil {
		t.Fatal(err)
	}
	k, err := c.Consume(ctx, []transports.Queue{{Name: "q"}}, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, settle := range []func(transports.Receipt) error{
		func(r transports.Receipt) error { return r.Reject(ctx, true) },
		func(r transports.Receipt) error { return r.Move(ctx, "q") },
		func(r transports.Receipt) error { return r.Ack(ctx) },
	} {
		d, err := k.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := settle(d.Receipt); err != nil {
			t.Fatal(err)
		}
	}
}

func client(t *testing.T, addr string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestCredentials(t *testing.T) {
	addr := start(t, "--requirepass", "right", "--user", "app", "on", ">secret", "~*", "&*", "+@all")
	for _, url := range []string{"redis://" + addr, "redis://:wrong@" + addr, "redis://app:wrong@" + addr, "redis://app:secret@" + addr + "/999"} {
		tr, err := redisbroker.New(redisbroker.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		_, err = tr.Connect(context.Background())
		if !errors.Is(err, transports.ErrCredentials) {
			t.Errorf("%s: %v, want ErrCredentials", url, err)
		} else if strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error names the password: %v", url, err)
		}
	}
	roundTrip(t, redisbroker.Config{URL: "redis://:right@" + addr})
	roundTrip(t, redisbroker.Config{URL: "redis://app:secret@" + addr + "/5"})
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.sock")
	addr := start(t, "--unixsocket", path)
	roundTrip(t, redisbroker.Config{URL: "redis+socket://" + path + "?virtual_host=5"})
	ctx := context.Background()
	c := client(t, addr)
	if info := c.Info(ctx, "commandstats").Val(); !strings.Contains(info, "cmdstat_evalsha") {
		t.Error("the server has seen no script")
	}
}

func TestFailoverListGoesOnToTheNextEntry(t *testing.T) {
	addr := start(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	tr, err := redisbroker.New(redisbroker.Config{URL: fmt.Sprintf("redis://%s/0;redis://%s", dead.Addr(), addr)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Connect(context.Background()); !errors.Is(err, transports.ErrDisconnected) {
		t.Fatalf("first entry: %v, want ErrDisconnected", err)
	}
	c, err := tr.Connect(context.Background())
	if err != nil {
		t.Fatalf("second entry: %v", err)
	}
	_ = c.Close()
}

func TestTLS(t *testing.T) {
	authority := testservers.NewAuthority(t)
	cert := authority.File
	addr := testservers.RedisTLS(t, authority.Issue("server", 24*time.Hour, "127.0.0.1"), "").TLSAddr
	var warned []string
	roundTrip(t, redisbroker.Config{URL: "rediss://" + addr + "?ssl_cert_reqs=none", Warn: func(msg string, _ ...any) { warned = append(warned, msg) }})
	if len(warned) == 0 || !strings.Contains(warned[0], "TLS without certificate checks") {
		t.Errorf("warnings %q", warned)
	}
	roundTrip(t, redisbroker.Config{URL: "rediss://" + addr + "?ssl_cert_reqs=required&ssl_ca_certs=" + cert})
	roundTrip(t, redisbroker.Config{URL: "redis://" + addr, SSL: map[string]any{"ssl_cert_reqs": "CERT_REQUIRED", "ssl_ca_certs": cert}})
	tr, err := redisbroker.New(redisbroker.Config{URL: "rediss://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Connect(context.Background()); !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("an unknown authority: %v, want ErrDisconnected", err)
	}
}

func TestSentinelNamesTheMaster(t *testing.T) {
	sentinel := testservers.SentinelOf(t, testservers.Redis(t)).Addr
	roundTrip(t, redisbroker.Config{
		URL:     "sentinel://127.0.0.1:1;sentinel://" + sentinel,
		Options: map[string]any{"master_name": "mymaster", "sentinel_fanout_compat": true},
	})
	for _, o := range []map[string]any{{"master_name": "other"}, {"master_name": "mymaster", "min_other_sentinels": 1}} {
		tr, err := redisbroker.New(redisbroker.Config{URL: "sentinel://" + sentinel, Options: o})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Connect(context.Background()); !errors.Is(err, transports.ErrDisconnected) {
			t.Errorf("%v: %v, want ErrDisconnected", o, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	tr, err := redisbroker.New(redisbroker.Config{URL: "sentinel://" + sentinel, Options: map[string]any{"master_name": "mymaster", "sentinel_fanout_compat": true}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := tr.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Subscribe(ctx, transports.Fanout{Exchange: "x", Type: "fanout"})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"one", "two"} { // published to both channels, heard once
		if err := c.Publish(ctx, transports.Publishing{Exchange: "x", Message: message(id)}); err != nil {
			t.Fatal(err)
		}
		if m, err := s.Next(ctx); err != nil || m.Properties.CorrelationID != id {
			t.Errorf("Next = %q, %v, want %q", m.Properties.CorrelationID, err, id)
		}
	}
}

// withoutScripts are arguments of a server that forbids them to everybody.
var withoutScripts = []string{"--user", "default", "on", "nopass", "~*", "&*", "+@all", "-@scripting"}

// An ACL without scripts: everything works, and somebody is told the price.
func TestWithoutScripts(t *testing.T) {
	addr := start(t, withoutScripts...)
	var warned []string
	roundTrip(t, redisbroker.Config{URL: "redis://" + addr, Warn: func(msg string, _ ...any) { warned = append(warned, msg) }})
	if !strings.Contains(strings.Join(warned, "\n"), "forbids scripts") {
		t.Errorf("warnings %q", warned)
	}
	// A sweep restores as well.
	ctx := context.Background()
	raw := client(t, addr)
	raw.HSet(ctx, "unacked", "x", `[`+envelope("x", "", "plain", 0)+`, "", "plain"]`)
	raw.ZAdd(ctx, "unacked_index", redis.Z{Score: 1, Member: "x"})
	roundTrip(t, redisbroker.Config{URL: "redis://" + addr})
	for deadline := time.Now().Add(60 * time.Second); raw.LLen(ctx, "plain").Val() != 1; {
		if time.Now().After(deadline) {
			t.Fatal("the overdue delivery was not restored")
		}
		roundTrip(t, redisbroker.Config{URL: "redis://" + addr, Options: map[string]any{"unacked_restore_interval": 0.1}})
	}
}

func TestWhenNothingIsPermittedNothingIsTaken(t *testing.T) {
	for _, command := range []string{"hset", "zadd"} {
		t.Run(command, func(t *testing.T) { notPermitted(t, command) })
	}
}

func notPermitted(t *testing.T, command string) {
	addr := start(t, "--user", "app", "on", ">x", "~*", "&*", "+@all", "-"+command)
	raw := client(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	for i := range 20 {
		raw.LPush(ctx, "q", envelope(fmt.Sprintf("%02d", i), "", "q", 0))
	}
	before := raw.LRange(ctx, "q", 0, -1).Val()
	tr, err := redisbroker.New(redisbroker.Config{URL: "redis://app:x@" + addr})
	if err != nil {
		t.Fatal(err)
	}
	c, err := tr.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k, err := c.Consume(ctx, []transports.Queue{{Name: "q"}}, 20)
	if err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if _, err := k.Receive(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive: %v, want it to wait", err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if after := raw.LRange(ctx, "q", 0, -1).Val(); !slices.Equal(after, before) {
		t.Errorf("the queue holds %q, want %q", after, before)
	}
	if n := raw.HLen(ctx, "unacked").Val() + raw.ZCard(ctx, "unacked_index").Val(); n != 0 {
		t.Errorf("%d entries are left in the stash", n)
	}
	raw.Do(ctx, "ACL", "SETUSER", "app", "+"+command)
	k, err = c.Consume(ctx, []transports.Queue{{Name: "q"}}, 20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Receive(ctx); err != nil {
		t.Errorf("permitted again: %v", err)
	}
}

// Under maxmemory what waits can be drained; only publishing is refused.
func TestOutOfMemory(t *testing.T) {
	addr := start(t, "--maxmemory-policy", "noeviction")
	raw := client(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	for i := range 20 {
		raw.LPush(ctx, "q", envelope(fmt.Sprint(i), "", "q", 0))
	}
	tr, err := redisbroker.New(redisbroker.Config{URL: "redis://" + addr, Options: map[string]any{"visibility_timeout": 2}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := tr.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw.ConfigSet(ctx, "maxmemory", "1")
	if err := c.Publish(ctx, transports.Publishing{RoutingKey: "q", Message: message("x")}); !errors.Is(err, transports.ErrRefused) {
		t.Errorf("Publish: %v, want ErrRefused", err)
	}
	k, err := c.Consume(ctx, []transports.Queue{{Name: "q"}}, 3) // bindings are refused, too
	if err != nil {
		t.Fatal(err)
	}
	requeued := false
	for i := range 21 {
		d, err := k.Receive(ctx)
		if err != nil {
			t.Fatalf("Receive %d: %v", i, err)
		}
		if i == 5 && !requeued {
			requeued = true
			err = d.Receipt.Reject(ctx, true)
		} else {
			err = d.Receipt.Ack(ctx)
		}
		if err != nil {
			t.Fatalf("settling %d: %v", i, err)
		}
	}
	if n := raw.HLen(ctx, "unacked").Val(); n != 0 {
		t.Errorf("the stash has %d entries", n)
	}
	raw.ConfigSet(ctx, "maxmemory", "0")
	if err := c.Publish(ctx, transports.Publishing{RoutingKey: "q", Message: message("late")}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Receive(ctx); err != nil { // found by polling, since BLMOVE was refused
		t.Fatal(err)
	}
}

// A master that becomes a replica is a reason to reconnect, not to exit.
func TestDemotionIsADisconnect(t *testing.T) {
	addr := start(t)
	raw := client(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	tr, err := redisbroker.New(redisbroker.Config{URL: "redis://" + addr})
	if err != nil {
		t.Fatal(err)
	}
	c, err := tr.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k, err := c.Consume(ctx, []transports.Queue{{Name: "q"}}, 3)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { _, err := k.Receive(ctx); got <- err }()
	for !strings.Contains(raw.ClientList(ctx).Val(), "cmd=blmove") {
		if ctx.Err() != nil {
			t.Fatal("the consumer never waits")
		}
	}
	raw.Do(ctx, "REPLICAOF", "127.0.0.1", "1")
	if err := <-got; !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("Receive: %v, want ErrDisconnected", err)
	}
	<-c.Done()
}
