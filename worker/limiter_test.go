package worker

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// An order and a task that is held at that moment may give new turns at the same time. No turn is given away twice.
func TestTurnsAreNotGivenAwayTwice(t *testing.T) {
	now := time.Now()
	for range 200 {
		l, c := &limiter{buckets: map[string]*bucket{}, texts: map[string]protocol.Value{}}, newCalendar()
		const waiting = 20
		for i := range waiting {
			c.hold(&job{task: &protocol.Task{ID: fmt.Sprint(i), Name: "t"}, delivery: &transports.Delivery{}}, now.Add(time.Hour), false, 0)
		}
		l.set("t", 1.0/60, "1/m")
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() { retime(l, c, "t", now) })
		}
		both.Wait()
		if at, _ := l.turn("t", now); at.Sub(now) != waiting*time.Minute {
			t.Fatalf("the turn after %d of a minute each is %v away", waiting, at.Sub(now))
		}
	}
}
