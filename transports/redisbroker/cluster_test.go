package redisbroker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/redisbroker"
)

// A node of a Redis Cluster that serves nothing, that serves all, or that does not let us look at it: it is named for
// what it is each time, and nobody dials it again.
func TestANodeOfARedisClusterIsRefusedAndNamed(t *testing.T) {
	t.Parallel()
	addr := start(t, "--cluster-enabled", "yes", "--user", "default", "on", "nopass", "~*", "&*", "+@all",
		"--user", "blind", "on", "nopass", "~*", "&*", "+@all", "-info")
	ask := func(args ...string) {
		t.Helper()
		if _, err := testservers.Ask(t.Context(), addr, "", args...); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(url string) {
		t.Helper()
		tr, err := redisbroker.New(redisbroker.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = tr.Connect(ctx)
		if !errors.Is(err, transports.ErrUnfit) || !errors.Is(err, transports.ErrCredentials) || !strings.Contains(err.Error(), "Redis Cluster") {
			t.Errorf("%s: %v, want that it is a node of a Redis Cluster", url, err)
		}
	}
	refused("redis://" + addr) // CLUSTERDOWN: no slots are served
	refused("redis://blind:@" + addr)
	ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		info, err := testservers.Ask(t.Context(), addr, "", "CLUSTER", "INFO")
		if err == nil && strings.Contains(strings.Join(info, "\n"), "cluster_state:ok") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the cluster is not formed: %q, %v", info, err)
		}
	}
	refused("redis://" + addr)
}
