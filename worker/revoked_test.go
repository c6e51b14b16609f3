package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRevokedIsBounded: by number, where the oldest are forgotten, and by age; by default Celery's 50,000 and three
// hours. Who is revoked again is young again.
func TestRevokedIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	r := newRevoked(3, time.Hour)
	for i, id := range []string{"a", "b", "c", "a", "d"} {
		r.add(id, now.Add(time.Duration(i)*time.Second))
	}
	if diff := cmp.Diff([]string{"c", "a", "d"}, r.list(now.Add(time.Minute))); diff != "" {
		t.Errorf("of five with room for three (-want +got):\n%s", diff)
	}
	if r.has("b", now.Add(time.Minute)) {
		t.Error("b is still revoked")
	}
	late := now.Add(time.Hour + 3500*time.Millisecond) // c came at two seconds, a at three, d at four
	if diff := cmp.Diff([]string{"d"}, r.list(late)); diff != "" {
		t.Errorf("after an hour (-want +got):\n%s", diff)
	}
	if r.has("a", late) || !r.has("d", late) {
		t.Error("has disagrees with list")
	}
	many := newRevoked(revokedMax, revokedFor)
	var ids []string
	for i := range 60_000 {
		ids = append(ids, fmt.Sprint(i))
	}
	many.merge(ids, now)
	if got := many.list(now.Add(3*time.Hour - time.Second)); len(got) != 50_000 || got[0] != "10000" {
		t.Errorf("%d ids of 60,000 are kept, from %s on, want 50,000 from 10000 on", len(got), got[0])
	}
	if got := many.list(now.Add(3*time.Hour + time.Second)); len(got) != 0 {
		t.Errorf("%d ids are kept after three hours", len(got))
	}
}
