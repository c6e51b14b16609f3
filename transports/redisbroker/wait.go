package redisbroker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	waitKeys  = 16 // up to here every list is waited on, beyond only those of step 0
	waitMost  = 64 // and of those as many; the others are found by the take of each second
	pollLeast = 20 * time.Millisecond
	pollMost  = time.Second
	pollAgain = 30 * time.Second // after a refused BLMOVE it is tried again
)

// idleness is how long nothing was found.
type idleness struct {
	poll, back, empty time.Duration
}

// next doubles d between least and most.
func grow(d *time.Duration, least, most time.Duration) time.Duration {
	*d = min(max(*d*2, least), most)
	return *d
}

func (i *idleness) refused() time.Duration {
	return grow(&i.back, 250*time.Millisecond, 2*time.Second)
}

// wait returns when a take may find something: a list has a message, the queues have changed, a second
// has gone by. BLMOVE from a list to its own end waits without taking.
func (k *consumer) wait(idle *idleness) {
	k.c.t.mu.Lock()
	polling := time.Now().Before(k.pollTill)
	woken := k.woken
	k.woken = false
	k.c.t.mu.Unlock()
	if polling {
		k.pause(grow(&idle.poll, pollLeast, pollMost))
		return
	}
	if woken { // somebody else was faster; not so fast again
		k.pause(grow(&idle.empty, 2*time.Millisecond, 50*time.Millisecond))
	} else {
		idle.empty = 0
	}
	k.arm()
	k.pause(block + 100*time.Millisecond)
}

// pause sleeps until d has passed or something wakes the consumer.
func (k *consumer) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.wake:
	case <-k.stop:
	case <-k.c.done:
	}
}

// drained notes that a take has left nothing: what comes now comes after it. It reports whether arm leaves out no list, so that
// nothing can come unseen. That a BLMOVE saw what has just been taken does not count any more.
func (k *consumer) drained() bool {
	k.c.t.mu.Lock()
	defer k.c.t.mu.Unlock()
	k.dry, k.woken = true, false
	return len(k.cycle)*len(k.c.t.set.steps) <= waitKeys && !time.Now().Before(k.pollTill)
}

// arm starts a BLMOVE on each list that has none.
func (k *consumer) arm() {
	t := k.c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.over() != nil {
		return
	}
	steps := t.set.steps
	if len(k.cycle)*len(steps) > waitKeys {
		steps = steps[:1]
	}
	for _, step := range steps {
		for _, name := range k.cycle {
			key := t.set.list(name, step)
			if k.inflight[key] || len(k.inflight) >= waitMost {
				continue
			}
			k.inflight[key] = true
			k.c.wg.Go(func() { k.blockOn(key, name) })
		}
	}
}

// blockOn waits on one list for as long as somebody waits for a message: what ends after a second without one begins
// again by itself, and no take is made for that.
func (k *consumer) blockOn(key, queue string) {
	for again := true; again; {
		ctx, cancel := context.WithTimeout(context.Background(), block+blockGrace)
		err := k.c.block.BLMove(ctx, key, key, "RIGHT", "RIGHT", block).Err()
		cancel()
		if f := fateOf(err); f == gone || f == unknown {
			k.c.waitFailed("wait", err)
		}
		k.c.t.mu.Lock()
		again = errors.Is(err, redis.Nil) && k.waiting && k.over() == nil && slices.Contains(k.cycle, queue)
		if !again {
			delete(k.inflight, key)
		}
		switch {
		case err == nil:
			k.woken = true
		case !errors.Is(err, redis.Nil):
			k.pollTill = time.Now().Add(pollAgain) // no memory, no permission, no such command
		}
		k.c.t.mu.Unlock()
	}
	signal(k.wake)
}
