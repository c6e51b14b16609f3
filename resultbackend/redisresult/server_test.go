package redisresult_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

// realURL is the server for tests that need a real one.
func realURL(t testing.TB) string {
	t.Helper()
	u := os.Getenv("CELERY_REDIS_URL")
	if u == "" {
		if os.Getenv("INTEROP") == "required" {
			t.Fatal("CELERY_REDIS_URL is not set")
		}
		t.Skip("CELERY_REDIS_URL is not set")
	}
	return u
}

// miniURL is a server in this process.
func miniURL(t *testing.T) string {
	t.Helper()
	return "redis://" + miniredis.RunT(t).Addr() + "/0"
}

// servers are the in-process server and, when there is one, the real one.
func servers(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("miniredis", func(t *testing.T) { test(t, miniURL(t)) })
	t.Run("redis", func(t *testing.T) { test(t, realURL(t)) })
}

// open makes a Backend whose keys no other test has, and a client that looks at the same database.
func open(t testing.TB, rawURL string, cfg redisresult.Config) (*redisresult.Backend, *redis.Client, string) {
	t.Helper()
	prefix, _ := cfg.Options["global_keyprefix"].(string)
	if prefix == "" {
		prefix = unique()
		options := map[string]any{"global_keyprefix": prefix}
		for k, v := range cfg.Options {
			options[k] = v
		}
		cfg.Options = options
	}
	cfg.URL = rawURL
	b, err := redisresult.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { b.Close() })
	opts, err := redis.ParseURL(rawURL)
	if err != nil {
		t.Fatalf("ParseURL: %v", err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		keys := client.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			client.Del(ctx, keys.Val())
		}
		client.Close()
	})
	return b, client, prefix + "celery-task-meta-"
}

// unique is a global_keyprefix.
func unique() string { return fmt.Sprintf("res-%d-%d:", os.Getpid(), time.Now().UnixNano()) }

// watch hears what is published for the task, as a waiting client does.
func watch(t *testing.T, client *redis.Client, channel string) <-chan protocol.Result {
	t.Helper()
	sub := client.Subscribe(t.Context(), channel)
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	out := make(chan protocol.Result, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			m, err := sub.ReceiveMessage(context.Background())
			if err != nil {
				return
			}
			r, err := protocol.DecodeResult("json", []byte(m.Payload), protocol.Limits{})
			if err != nil {
				t.Errorf("published %q: %v", m.Payload, err)
				return
			}
			out <- r
		}
	})
	t.Cleanup(func() { sub.Close(); wg.Wait() })
	return out
}

func hostOf(t *testing.T, rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}
