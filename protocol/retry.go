package protocol

import (
	"cmp"
	"slices"
	"time"
)

// Retried returns the task that a retry publishes: same id, one retry more, the eta given (zero: none) and
// the expires it came with. Compression and serializer are not carried (Encode's Encoding decides), nor are
// the headers of the delivery (x-death, redelivered). ignoreResult is the value that held for this run; the
// next one gets it explicitly. The receiver is not changed; argument values and signatures are shared.
func (t *Task) Retried(eta time.Time, ignoreResult bool) *Task {
	next := *t
	next.Retries++
	next.ETA = eta
	next.IgnoreResult = &ignoreResult
	next.RootID = cmp.Or(t.RootID, t.ID)
	next.ParentID = cmp.Or(t.ParentID, t.ID) // Celery publishes the retry from inside the task
	next.ArgsRepr, next.KwargsRepr = "", ""  // made anew by Encode
	next.Protocol = 2
	next.Args = slices.Clone(t.Args)
	next.Kwargs = t.Kwargs.Clone()
	next.Custom = &Object{}
	for _, member := range t.Custom.Members() {
		if !notRetried[member.Key] {
			next.Custom.Set(member.Key, member.Value)
		}
	}
	return &next
}
