package redisbroker_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
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
		p := faultproxy.New(t, addr)
		n := 0
		return transporttest.Broker{
			Transport: func() transports.Transport {
				return transport(t, fmt.Sprintf("redis://:%s@%s/%d", password, p.Addr(), db), map[string]any{"global_keyprefix": prefix})
			},
			Name:        func() string { n++; return fmt.Sprintf("q%d", n) },
			Order:       transporttest.LowFirst,
			Leases:      true,
			AnyQueue:    true,
			HeaderOrder: true,
			Cut:         p.Cut,
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
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
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
