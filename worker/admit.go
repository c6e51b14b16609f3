package worker

import (
	"time"

	"github.com/stalkworker/stalk/protocol"
)

type verdictKind int

const (
	start      verdictKind = iota // run it now
	hold                          // keep it until verdict.until
	revoke                        // REVOKED with verdict.reason
	refuse                        // FAILURE with verdict.refusal, then given up
	settled                       // its effects are safe, only its ack was lost: ack
	duplicated                    // the same run is going on here: wait for its end
	repeated                      // it has succeeded before (worker_deduplicate_successful_tasks): see to what follows, then ack
)

// A verdict is what becomes of a task message that could be read.
type verdict struct {
	kind    verdictKind
	until   time.Time
	reason  string
	refusal *protocol.Exception
}

// facts are what a verdict depends on besides the task itself.
type facts struct {
	known       bool // the name has a handler
	revoked     bool // the id is in the revoked set
	redelivered bool
	settled     bool // this run was settled here, but its ack was lost
	running     bool // this run is held or running here
}

// farthest is how far an eta may lie ahead. Celery's clock overflows somewhere beyond (spec: the ETA
// that overflows is FAILURE OverflowError).
const farthest = 100 * 365 * 24 * time.Hour

// decide is the whole of admission. The order is Celery's: unknown name, revoked or expired, eta.
func decide(now time.Time, t *protocol.Task, f facts) verdict {
	switch {
	case f.redelivered && f.settled:
		return verdict{kind: settled}
	case f.redelivered && f.running:
		return verdict{kind: duplicated}
	case !f.known:
		return verdict{kind: refuse, refusal: protocol.NotRegistered(t.Name)}
	case f.revoked:
		return verdict{kind: revoke, reason: "revoked"}
	case !t.Expires.IsZero() && now.After(t.Expires):
		return verdict{kind: revoke, reason: "expired"}
	case t.ETA.Sub(now) > farthest:
		return verdict{kind: refuse, refusal: protocol.NewException("OverflowError", "eta "+t.ETA.UTC().Format(time.RFC3339)+" is too far away")}
	case t.ETA.After(now):
		return verdict{kind: hold, until: t.ETA}
	}
	return verdict{kind: start}
}
