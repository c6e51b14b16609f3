package interop_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
)

// A node of a Redis Cluster where a Redis should be: the worker ends at its start, and says why.
func TestARedisClusterIsNamedAtTheStart(t *testing.T) {
	need(t)
	t.Parallel()
	if celeryInstead {
		t.Skip("Celery does not look, and fails with each command")
	}
	cluster, plain := testservers.Redis(t, "--cluster-enabled", "yes"), testservers.Redis(t)
	for what, s := range map[string]setup{
		"broker":       {name: "redis", broker: cluster.URL, backend: plain.URL},
		"result store": {name: "redis", broker: plain.URL, backend: cluster.URL},
	} {
		w := s.startStalk(t, unique("cluster"))
		if code := w.wait(2 * time.Minute); code != 1 {
			t.Errorf("%s: ended with %d, want 1", what, code)
		}
		if said := string(w.output()); !strings.Contains(said, "node of a Redis Cluster") || strings.Contains(said, "ready.") {
			t.Errorf("%s: it said\n%s", what, said)
		}
	}
}
