package redisresult_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/internal/testservers"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
)

func TestCheckTellsAStoreThatWillNeverDo(t *testing.T) {
	t.Parallel()
	check := func(url string) error {
		t.Helper()
		b, err := redisresult.New(redisresult.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		return b.Check(t.Context())
	}
	cluster := testservers.Redis(t, "--cluster-enabled", "yes")
	if err := check(cluster.URL); !errors.Is(err, resultbackend.ErrUnfit) || !strings.Contains(err.Error(), "Redis Cluster") {
		t.Errorf("a node of a cluster: %v, want ErrUnfit", err)
	}
	plain := testservers.Redis(t, "--user", "default", "on", "nopass", "~*", "&*", "+@all", "-info")
	if err := check(plain.URL); errors.Is(err, resultbackend.ErrUnfit) {
		t.Errorf("one that does not let us look: %v", err)
	}
	if err := plain.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := check(plain.URL); !errors.Is(err, resultbackend.ErrUnavailable) || errors.Is(err, resultbackend.ErrUnfit) {
		t.Errorf("one that is away: %v, want ErrUnavailable", err)
	}
}
