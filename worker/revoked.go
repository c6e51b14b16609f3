package worker

import (
	"container/list"
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

// revoked is the bounded set of ids that must not run: expired ones join it by themselves.
type revoked struct {
	max int
	ttl time.Duration

	mu  sync.Mutex
	ids map[string]*list.Element
	age *list.List // of revocation, oldest first

	stamps map[string][]protocol.Value // revoked values by the name of the stamp
	count  int                         // of all of them
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
