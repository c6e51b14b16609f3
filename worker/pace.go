package worker

import (
	"sync"
	"time"
)

// A pace says how many messages per slot the worker holds unsettled. Celery's worker_prefetch_multiplier is right for tasks that
// take long: what lies here another worker could run. For tasks that take less than a round trip it is what makes a worker slow:
// nothing shares a call. So while tasks are short, and more of them are under way than run, the pace grows, by doubling, to as much as
// is run in aheadFor, and shrinks with tasks that take longer. It falls back to the multiplier at once when one takes stallAfter, or all slots have been busy for so long.
// What nobody has begun by then the transport gives back. Large messages and results keep it narrow, too: more than the multiplier it is
// only while all that it allows would be less than aheadBytes. It is safe for concurrent use.
type pace struct {
	least, most int // per slot; the same when somebody has said how many there are to be

	mu    sync.Mutex
	each  int           // from least to most
	mean  time.Duration // of the last runs, the latest weigh most
	size  int           // bytes of their messages and results, in the same way
	calm  time.Time     // does not grow before
	pause time.Duration // how long the next calm is
}

const (
	aheadFor   = 20 * time.Millisecond
	aheadMost  = 64       // per slot
	aheadBytes = 16 << 20 // in all; grows to half of it only, so that it does not go up and down
	stallAfter = 100 * time.Millisecond
	calmBase   = time.Second // of a pace that has fallen back; doubles each time, so that long tasks among short ones end the ups and downs
	calmMax    = time.Minute
	meanWeight = 16 // a run counts so many times less than all before
)

// newPace makes the pace for a prefetch multiplier: negative is without limit, and needs no more.
func newPace(least, most int) *pace {
	p := &pace{least: least, most: max(least, most), each: least, pause: calmBase}
	if least < 1 {
		p.most = least
		return p
	}
	p.mean = aheadFor / time.Duration(least)
	return p
}

// ran counts a run that has ended, of a message and result of so many bytes, in one of so many slots. crowded: more tasks are under
// way than there are slots, so that calls could be shared; who has one task at a time to do needs no window.
func (p *pace) ran(took time.Duration, bytes, slots int, crowded bool) {
	if p.least == p.most {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size += (bytes - p.size) / meanWeight
	if took >= stallAfter {
		if p.each > p.least {
			p.fall()
		}
		return
	}
	p.mean += (took - p.mean) / meanWeight
	all := max(p.size, 1) * max(slots, 1) * p.each
	switch fits := aheadFor / max(p.mean, 1); {
	case all > aheadBytes && p.each > p.least:
		p.each = max(p.least, p.each/2)
		p.calm = time.Now().Add(calmBase)
	case fits < time.Duration(p.each/2) && p.each > p.least: // by more than the few that another process held up
		p.each = max(p.least, p.each/2)
	case crowded && fits >= time.Duration(2*p.each) && 2*p.each <= p.most && 2*all <= aheadBytes/2:
		if !time.Now().Before(p.calm) {
			p.each *= 2
		}
	}
}

// stalled: all slots have been busy for stallAfter.
func (p *pace) stalled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.each > p.least {
		p.fall()
	}
}

// fall goes back to the multiplier. The caller holds mu.
func (p *pace) fall() {
	p.each = p.least
	p.mean = aheadFor / time.Duration(p.least)
	now := time.Now()
	if now.Sub(p.calm) > calmMax { // it was well for long
		p.pause = calmBase
	}
	p.calm = now.Add(p.pause)
	p.pause = min(2*p.pause, calmMax)
}

// perSlot is how many messages each slot may have unsettled now.
func (p *pace) perSlot() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.each
}

// ahead reports whether that is more than the multiplier.
func (p *pace) ahead() bool { return p.perSlot() > p.least }
