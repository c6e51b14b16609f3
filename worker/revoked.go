package worker

import (
	"container/list"
	"sync"
	"time"
)

// Celery's CELERY_WORKER_REVOKES_MAX and CELERY_WORKER_REVOKE_EXPIRES.
const (
	revokedMax = 50000
	revokedFor = 10800 * time.Second
)

// revoked is the bounded set of ids that must not run: expired ones join it by themselves.
type revoked struct {
	max int
	ttl time.Duration

	mu  sync.Mutex
	ids map[string]*list.Element
	age *list.List // of revocation, oldest first
}

type revocation struct {
	id string
	at time.Time
}

func newRevoked(limit int, ttl time.Duration) *revoked {
	return &revoked{max: limit, ttl: ttl, ids: map[string]*list.Element{}, age: list.New()}
}

func (r *revoked) add(id string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.ids[id]; e != nil {
		r.age.Remove(e)
	}
	r.ids[id] = r.age.PushBack(revocation{id, now})
	for r.age.Len() > r.max {
		r.drop(r.age.Front())
	}
}

func (r *revoked) has(id string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.age.Front(); e != nil && now.Sub(e.Value.(revocation).at) > r.ttl; e = r.age.Front() {
		r.drop(e)
	}
	return r.ids[id] != nil
}

// list is the ids, oldest first.
func (r *revoked) list(now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]string, 0, r.age.Len())
	for e := r.age.Front(); e != nil; e = e.Next() {
		if v := e.Value.(revocation); now.Sub(v.at) <= r.ttl {
			ids = append(ids, v.id)
		}
	}
	return ids
}

// drop forgets e; the caller holds mu.
func (r *revoked) drop(e *list.Element) {
	r.age.Remove(e)
	delete(r.ids, e.Value.(revocation).id)
}
