package interop_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
)

// TestASlowResultStoreSlowsNobodyElse: results that are on their way hold no slot. While the store says nothing at all tasks that
// store nothing run by the hundred, and when it answers again, or slowly, every result is there.
func TestASlowResultStoreSlowsNobodyElse(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("a process of Celery's worker waits for its result to be stored")
		}
		u, err := url.Parse(s.backend)
		if err != nil {
			t.Fatal(err)
		}
		proxy := faultproxy.New(t, u.Host)
		behind := s
		behind.backend = proxy.Through(t, s.backend)
		queue := unique("slowstore")
		p := s.python(t, queue)
		w := behind.stalk(t, queue, "-c", "2")
		p.run(`assert add.apply_async((1, 2), queue=Q).get(timeout=60) == 3`)

		proxy.Freeze(faultproxy.ToServer)
		stored := p.strings(`value = [add.apply_async((i, 1), queue=Q).id for i in range(4)]`)
		w.waitLogs("succeeded in", 1+4)
		p.run(`for i in range(100): add.apply_async((i, 1), queue=Q, ignore_result=True)`)
		w.waitLogs("succeeded in", 1+4+100)
		p.run(`assert {AsyncResult(i).state for i in ids} == {"PENDING"}`, map[string]any{"ids": stored})
		proxy.Thaw()
		s.results(t, queue, stored, `[1, 2, 3, 4]`)

		proxy.Slow(0, 500*time.Millisecond)
		began := time.Now()
		stored = p.strings(`value = [add.apply_async((i, 1), queue=Q).id for i in range(30)]`)
		s.results(t, queue, stored, `[i + 1 for i in range(30)]`)
		t.Logf("30 results of a store that takes a second for each call: %v", time.Since(began).Round(time.Millisecond))
		w.stop()
	})
}
