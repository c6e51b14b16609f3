package redisbroker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/redisbroker"
)

// start runs a redis-server of the test's own and waits until it answers. port 0 is given for none.
func start(t *testing.T, lines ...string) (addr string) {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("INTEROP") == "required" {
			t.Fatal("redis-server is not in PATH and INTEROP=required")
		}
		t.Skip("redis-server is not in PATH")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	_ = l.Close()
	dir := t.TempDir()
	conf := filepath.Join(dir, "redis.conf")
	text := "bind 127.0.0.1\nsave \"\"\ndir " + dir + "\n"
	for _, line := range lines {
		text += strings.ReplaceAll(line, "PORT", port) + "\n"
	}
	if !strings.Contains(text, "\nport ") {
		text += "port " + port + "\n"
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{conf}
	if strings.Contains(text, "sentinel monitor") {
		args = append(args, "--sentinel")
	}
	cmd := exec.Command(bin, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("redis-server does not listen on %s", addr)
		}
	}
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
	addr := start(t, "requirepass right", "user app on >secret ~* &* +@all")
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
	addr := start(t, "unixsocket "+path)
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
	dir := t.TempDir()
	cert, key := selfSigned(t, dir)
	addr := start(t, "port 0", "tls-port PORT", "tls-cert-file "+cert, "tls-key-file "+key, "tls-ca-cert-file "+cert, "tls-auth-clients no")
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

func selfSigned(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestSentinelNamesTheMaster(t *testing.T) {
	master := start(t)
	host, port, _ := net.SplitHostPort(master)
	sentinel := start(t, fmt.Sprintf("sentinel monitor mymaster %s %s 1", host, port))
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

// An ACL without scripts: everything works, and somebody is told the price.
func TestWithoutScripts(t *testing.T) {
	addr := start(t, "user default on nopass ~* &* +@all -@scripting")
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
	addr := start(t, "user default on nopass ~* &* +@all", "user app on >x ~* &* +@all -hset")
	raw := client(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	raw.LPush(ctx, "q", envelope("x", "", "q", 0))
	tr, err := redisbroker.New(redisbroker.Config{URL: "redis://app:x@" + addr})
	if err != nil {
		t.Fatal(err)
	}
	c, err := tr.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k, err := c.Consume(ctx, []transports.Queue{{Name: "q"}}, 1)
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
	if n := raw.LLen(ctx, "q").Val(); n != 1 {
		t.Errorf("the queue holds %d messages, want 1", n)
	}
	raw.Do(ctx, "ACL", "SETUSER", "app", "+hset")
	k, err = c.Consume(ctx, []transports.Queue{{Name: "q"}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Receive(ctx); err != nil {
		t.Errorf("permitted again: %v", err)
	}
}

// Under maxmemory what waits can be drained; only publishing is refused.
func TestOutOfMemory(t *testing.T) {
	addr := start(t, "maxmemory-policy noeviction")
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
