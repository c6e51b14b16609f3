package redisresult_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

// A password that is changed while results are stored: they wait, and are stored once it is the old one again.
func TestAPasswordThatChangesDelaysResults(t *testing.T) {
	server := testservers.Redis(t)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer admin.Close()
	set := func(rules ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "app"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("on", ">pw", "~*", "&*", "+@all")
	b, err := redisresult.New(redisresult.Config{URL: strings.Replace(server.URL, "redis://", "redis://app:pw@", 1) + "/1"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Store(t.Context(), record("before", protocol.Success)); err != nil {
		t.Fatal(err)
	}
	set("resetpass", ">other")
	admin.ClientKillByFilter(t.Context(), "USER", "app")
	deadline := time.Now().Add(3 * time.Second)
	for i := 0; time.Now().Before(deadline); i++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		began := time.Now()
		if err := b.Store(ctx, record("meanwhile", protocol.Success)); !errors.Is(err, resultbackend.ErrUnavailable) {
			t.Fatalf("Store %d: %v after %v, want ErrUnavailable", i, err, time.Since(began))
		}
		cancel()
		if took := time.Since(began); took > 30*time.Second {
			t.Fatalf("Store %d took %v", i, took)
		}
		time.Sleep(20 * time.Millisecond)
	}
	set(">pw")
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := b.Store(ctx, record("meanwhile", protocol.Success))
		cancel()
		if err == nil {
			t.Logf("stored %v after the password was right again", time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("Store: %v", err)
		}
	}
}
