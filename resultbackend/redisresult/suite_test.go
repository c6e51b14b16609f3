package redisresult_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
	"github.com/stalkworker/stalk/resultbackend/resultbackendtest"
)

// Not parallel: the suite looks for goroutines left behind.
func TestSuite(t *testing.T) {
	servers(t, func(t *testing.T, url string) { suite(t, url, func(*redisresult.Backend) {}) })
}

func TestSuiteByWatch(t *testing.T) {
	servers(t, func(t *testing.T, url string) { suite(t, url, (*redisresult.Backend).ForbidScripts) })
}

func suite(t *testing.T, url string, prepare func(*redisresult.Backend)) {
	resultbackendtest.Run(t, func(t *testing.T) resultbackendtest.Backend {
		p := faultproxy.New(t, hostOf(t, url))
		b, _, key := open(t, p.Through(t, url), redisresult.Config{})
		prepare(b)
		opts, err := redis.ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		client := redis.NewClient(opts)
		t.Cleanup(func() { client.Close() })
		return resultbackendtest.Backend{
			Backend: b,
			Watch:   func(t *testing.T, id string) <-chan protocol.Result { return watch(t, client, key+id) },
			Away:    p.Refuse,
		}
	})
}

// A user who may not run scripts gets the same by WATCH, found out by the first refusal.
func TestScriptsForbidden(t *testing.T) {
	url := realURL(t)
	_, admin, _ := open(t, url, redisresult.Config{})
	user := fmt.Sprintf("noscript-%d", os.Getpid())
	if err := admin.Do(t.Context(), "ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", "-@scripting").Err(); err != nil {
		t.Fatalf("ACL SETUSER: %v", err)
	}
	t.Cleanup(func() { // t.Context has ended by then
		if err := admin.Do(context.Background(), "ACL", "DELUSER", user).Err(); err != nil {
			t.Errorf("ACL DELUSER: %v", err)
		}
	})
	opts, _ := redis.ParseURL(url)
	restricted := fmt.Sprintf("redis://%s:pw@%s/%d", user, opts.Addr, opts.DB)
	b, client, key := open(t, restricted, redisresult.Config{})
	ch := watch(t, client, key+"t")
	for _, s := range []protocol.State{protocol.Started, protocol.Success, protocol.Failure} {
		if err := b.Store(t.Context(), record("t", s)); err != nil {
			t.Fatalf("Store(%s): %v", s, err)
		}
	}
	if b.Scripted() {
		t.Error("scripts are still tried")
	}
	if r, err := b.Load(t.Context(), "t"); err != nil || r.Status != protocol.Success {
		t.Errorf("Load = %s, %v; want SUCCESS", r.Status, err)
	}
	for _, want := range []protocol.State{protocol.Started, protocol.Success} {
		if got := (<-ch).Status; got != want {
			t.Errorf("published %s, want %s", got, want)
		}
	}
}
