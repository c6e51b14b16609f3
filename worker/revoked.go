package worker

import (
	"slices"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// Celery's CELERY_WORKER_REVOKES_MAX and CELERY_WORKER_REVOKE_EXPIRES.
const (
	revokedMax = 50000
	revokedFor = 10800 * time.Second
)

// Celery's CELERY_WORKER_SUCCESSFUL_MAX and CELERY_WORKER_SUCCESSFUL_EXPIRES.
const (
	successesMax = 1000
	successesFor = 10800 * time.Second
)

// revoked is the bounded set of ids that must not run: expired ones join it by themselves. Beside it stand the
// stamps that mark a task as revoked.
type revoked struct {
	*idSet

	mu     sync.Mutex
	stamps map[string][]protocol.Value // revoked values by the name of the stamp
	count  int                         // of all of them
}

func newRevoked(limit int, ttl time.Duration) *revoked {
	return &revoked{idSet: newIDSet(limit, ttl)}
}

// merge adds the ids of another node, stamped with our own clock.
func (r *revoked) merge(ids []string, now time.Time) {
	if len(ids) > revokedMax { // the last are the newest
		ids = ids[len(ids)-revokedMax:]
	}
	for _, id := range ids {
		r.add(id, now)
	}
}

// stampsMax bounds the revoked stamps, which nothing removes; Celery has no bound.
const stampsMax = 10000

// addStamps adds values of a stamp. It reports false when there are too many.
func (r *revoked) addStamps(name string, values []protocol.Value) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stamps == nil {
		r.stamps = map[string][]protocol.Value{}
	}
	for _, v := range values {
		switch v.(type) {
		case string, bool, int64, float64:
		default:
			continue // no stamp that could be compared
		}
		if slices.Contains(r.stamps[name], v) {
			continue
		}
		if r.count >= stampsMax {
			return false
		}
		r.stamps[name] = append(r.stamps[name], v)
		r.count++
	}
	return true
}

// note adds the id of a task with a revoked stamp. Every stamp that the task declares is looked at; null is none.
func (r *revoked) note(t *protocol.Task, now time.Time) bool {
	if !r.stamped(t) {
		return false
	}
	r.add(t.ID, now)
	return true
}

func (r *revoked) stamped(t *protocol.Task) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == 0 {
		return false
	}
	for _, name := range t.StampNames {
		revoked := r.stamps[name]
		value, _ := t.Stamps.Get(name)
		for _, v := range protocol.MaybeList(value) {
			switch v.(type) {
			case string, bool, int64, float64:
				if slices.Contains(revoked, v) {
					return true
				}
			}
		}
	}
	return false
}
