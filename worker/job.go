package worker

import (
	"strconv"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// A job is one delivery on its way through the worker. It is a baton: one goroutine holds it at a time,
// and handing it over ends the right to touch it.
type job struct {
	delivery *transports.Delivery
	task     *protocol.Task // nil until decoded
	handler  handlers.Handler
	entry    *entry // the ledger's line for it; nil before it is admitted
	received time.Time
	slots    int       // how many it holds
	wide     bool      // has as many as its handler asks for
	logged   bool      // "received" was logged
	warned   bool      // of its long wait
	token    bool      // has its turn by the rate limit
	turn     time.Time // of a job that was held for that turn: when it comes
	acked    bool      // early, when execution started
	done     bool      // its run succeeded
	marks    marks

	again     bool   // its handler sent it back, or had no time left
	suspected bool   // its earlier starts were looked at, if it came before
	apart     bool   // it must run alone among those like it
	alone     bool   // it holds intake.suspects
	counted   bool   // its start is counted
	starts    int    // that ended the process, as far as is known
	run       string // what its starts are counted under; "": they are not

	instead  *outcome // what the caller was told in place of the run's own outcome; nil: that
	retried  bool     // monitors know that it is retried
	unsafe   bool     // the effects could not be made safe: the message goes back
	unparked bool     // the broker did not park its message
	since    string   // the broker's instance before the effects were made; perform says more

	children []protocol.Value // result tuples of what the handler sent; complete when it has returned
}

// key names one run: a retry has the id of its task and a higher count.
func runKey(t *protocol.Task) string { return t.ID + "/" + strconv.Itoa(t.Retries) }

// lost reports whether the delivery has stopped being ours.
func (j *job) lost() bool {
	select {
	case <-j.delivery.Receipt.Lost():
		return true
	default:
		return false
	}
}

// ignored is the effective ignore_result: the message decides; when it does not say, handler or worker do.
func (j *job) ignored(cfg *Config) bool {
	if j.task.IgnoreResult != nil {
		return *j.task.IgnoreResult
	}
	return j.handler.Options().IgnoreResult || cfg.IgnoreResult
}

// storesErrors reports whether FAILURE, RETRY and REVOKED are stored.
func (j *job) storesErrors(cfg *Config) bool {
	return !j.ignored(cfg) || j.handler.Options().StoreErrors || cfg.StoreErrors
}

// killed hears of terminate.
func (j *job) killed() <-chan int {
	if j.entry == nil {
		return nil
	}
	return j.entry.kill
}

// limits are the time limits of this run: header, else remote control or handler, else worker, each for itself. 0
// is none.
func (j *job) limits(cfg *Config, l *timeLimits) (soft, hard time.Duration) {
	o := l.of(j.handler)
	first := func(ds ...time.Duration) time.Duration {
		for _, d := range ds {
			if d > 0 {
				return d
			}
		}
		return 0
	}
	return first(j.task.SoftLimit, o.soft, cfg.SoftLimit), first(j.task.HardLimit, o.hard, cfg.HardLimit)
}
