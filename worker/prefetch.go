package worker

import "math/bits"

// prefetchMost is the largest prefetch that AMQP can say. Celery turns the limit off above it; here it is the limit, but for
// what is held for its eta: what nobody runs yet waits better in the queue than in our memory, and what is due must not wait behind
// what is not. windowMost is the limit for all.
const (
	prefetchMost = 65535
	windowMost   = 1 << 20
)

// prefetchCount is how many unsettled messages we ask for, as Celery counts: each per slot, and one for every task
// held for its eta, which may wait for days; but for their sake no more than limit, so that once they fill it nothing
// is taken until one is due. 0 means without limit, for all of them but held. A negative each, too, is without limit.
func prefetchCount(slots, each, held, limit int) int {
	if each < 0 {
		return 0
	}
	n := max(1, slots*each)
	if held > 0 {
		if limit > 0 {
			held = max(0, min(held, limit-n))
		}
		n += held
	}
	return n
}

// windowFor is the same for the transport: bounded, and in steps where thousands are held, for each step costs a call.
func windowFor(slots, each, held, limit int) int {
	if step := 1 << max(0, bits.Len(uint(held))-5); held > 0 { // up to a sixteenth more
		held = (held + step - 1) / step * step
	}
	own := prefetchCount(slots, each, 0, limit)
	if own == 0 || own > prefetchMost {
		own = prefetchMost
	}
	if limit > 0 {
		held = max(0, min(held, limit-own))
	}
	return min(own+held, windowMost)
}
