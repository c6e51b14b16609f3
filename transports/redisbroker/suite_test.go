package redisbroker_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/redisbroker"
	"github.com/stalkworker/stalk/transports/transporttest"
)

// Not parallel: the suite looks for goroutines left behind.
func TestSuiteOnMiniredis(t *testing.T) {
	transporttest.Run(t, factory(miniredisProcess(t), "", 0))
}

// TestMain also is the miniredis that miniredisProcess starts: in our own process its goroutines would
// look like leaks of ours.
func TestMain(m *testing.M) {
	if os.Getenv("REDISBROKER_TEST_MINIREDIS") == "" {
		os.Exit(m.Run())
	}
	s := miniredis.NewMiniRedis()
	if err := s.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
}

func miniredisProcess(t *testing.T) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "REDISBROKER_TEST_MINIREDIS=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestSuiteOnRedis(t *testing.T) {
	addr, password, db := server(t)
	transporttest.Run(t, factory(addr, password, db))
}

func factory(addr, password string, db int) transporttest.Factory {
	return func(t *testing.T) transporttest.Broker {
		prefix := prefixOn(t, addr, password, db)
		p := newProxy(t, addr)
		n := 0
		return transporttest.Broker{
			Transport: func() transports.Transport {
				return transport(t, fmt.Sprintf("redis://:%s@%s/%d", password, p.addr(), db), map[string]any{"global_keyprefix": prefix})
			},
			Name:        func() string { n++; return fmt.Sprintf("q%d", n) },
			Order:       transporttest.LowFirst,
			Leases:      true,
			AnyQueue:    true,
			HeaderOrder: true,
			Cut:         p.cut,
		}
	}
}

func transport(t testing.TB, url string, options map[string]any) *redisbroker.Transport {
	t.Helper()
	tr, err := redisbroker.New(redisbroker.Config{URL: strings.Replace(url, ":@", "", 1), Options: options})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// server is the Redis of CELERY_REDIS_URL.
func server(t testing.TB) (addr, password string, db int) {
	t.Helper()
	url := os.Getenv("CELERY_REDIS_URL")
	if url == "" {
		if os.Getenv("INTEROP") == "required" {
			t.Fatal("CELERY_REDIS_URL is not set and INTEROP=required")
		}
		t.Skip("CELERY_REDIS_URL is not set")
	}
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatalf("CELERY_REDIS_URL: %v", err)
	}
	return o.Addr, o.Password, o.DB
}

// prefixOn is a key prefix of the test's own; its keys are deleted at the end.
func prefixOn(t testing.TB, addr, password string, db int) string {
	t.Helper()
	prefix := "test-" + rand.Text()[:10] + ":"
	t.Cleanup(func() {
		c := redis.NewClient(&redis.Options{Addr: addr, Password: password, DB: db, Protocol: 2, DisableIdentity: true})
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var cursor uint64
		for {
			keys, next, err := c.Scan(ctx, cursor, prefix+"*", 500).Result()
			if err != nil {
				return // the server is gone, and the keys with it
			}
			if len(keys) > 0 {
				c.Del(ctx, keys...)
			}
			if cursor = next; cursor == 0 {
				return
			}
		}
	})
	return prefix
}

// A proxy passes connections on and can cut them all.
type proxy struct {
	l  net.Listener
	to string
	wg sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	over  bool

	silent atomic.Bool // what the server says is thrown away
}

func (p *proxy) mute()   { p.silent.Store(true) }
func (p *proxy) unmute() { p.silent.Store(false) }

// A muffler drops what the server says while the proxy is mute.
type muffler struct {
	net.Conn
	p *proxy
}

func (m muffler) Write(b []byte) (int, error) {
	if m.p.silent.Load() {
		return len(b), nil
	}
	return m.Conn.Write(b)
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		if p.over {
			_ = in.Close()
			_ = out.Close()
		} else {
			p.conns[in], p.conns[out] = struct{}{}, struct{}{}
		}
		p.mu.Unlock()
		p.wg.Go(func() { p.pipe(in, out) })
		p.wg.Go(func() { p.pipe(out, muffler{in, p}) })
	}
}

func (p *proxy) pipe(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = from.Close()
	_ = to.Close()
	p.mu.Lock()
	delete(p.conns, from)
	p.mu.Unlock()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}
