package worker

import (
	"errors"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A Phase is a point in the life of a Run.
type Phase int

// The phases of a Run, in order. One that is skipped counts as reached when Run returns.
const (
	Consuming Phase = iota // taking messages for the first time
	Stopping               // takes no more; running tasks may finish
	Ending                 // tasks that still run are told to stop, or none is left
	phases
)

// stages are what a Worker is asked to do about its end, and how far it has come.
type stages struct {
	warm  once // Stop
	cold  once // StopCold
	now   once // StopNow
	quit  once // Quit
	phase [phases]once
}

// once is a channel that is closed at most once, by anybody. The zero value is not usable.
type once struct {
	done  chan struct{}
	guard *sync.Once
}

func newOnce() once    { return once{make(chan struct{}), new(sync.Once)} }
func (o *once) close() { o.guard.Do(func() { close(o.done) }) }
func (s *stages) ended() { // Run returns
	for i := range s.phase {
		s.phase[i].close()
	}
}

func newStages() *stages {
	s := &stages{warm: newOnce(), cold: newOnce(), now: newOnce(), quit: newOnce()}
	for i := range s.phase {
		s.phase[i] = newOnce()
	}
	return s
}

// Reached is closed once Run has come to p.
func (w *Worker) Reached(p Phase) <-chan struct{} { return w.stages.phase[p].done }

// Stop asks Run for a warm shutdown, as the end of its context does: no more tasks are taken, what has not started
// goes back to its queue at once, running tasks may finish. It may be called at any time, more than once, and does
// not block; so may the other ways to stop.
func (w *Worker) Stop() { w.stages.warm.close() }

// StopCold asks for a cold shutdown: as Stop, but running tasks may finish only for Config.SoftShutdown; then they
// are told to stop and their messages go back.
func (w *Worker) StopCold() {
	w.stages.cold.close()
	w.Stop()
}

// StopNow is StopCold without its patience.
func (w *Worker) StopNow() {
	w.stages.now.close()
	w.Stop()
}

// Quit is StopNow that waits for nothing: what is not settled goes back with the connection.
func (w *Worker) Quit() {
	w.stages.quit.close()
	w.StopNow()
}

// ErrGrace is what Run returns, wrapped with their names, when tasks were cut short at shutdown. Their
// messages are back with the broker.
var ErrGrace = errors.New("worker: tasks were cut short by the shutdown")

// A patience is how long a shutdown still waits for handlers: for Config.Grace, and once it is to be cold for
// Config.SoftShutdown.
type patience struct {
	w     *Worker
	cold  <-chan struct{} // nil once it was seen
	soft  <-chan time.Time
	whole bool // the soft wait lasts its whole time
}

// chill begins the soft wait, if there is one: Celery has none where no task runs, unless it is asked to.
func (p *patience) chill() (wait bool) {
	cfg := &p.w.cfg
	p.cold = nil
	if cfg.SoftShutdown <= 0 || !cfg.SoftShutdownOnIdle && p.w.stats.active.Load() == 0 {
		return false
	}
	p.w.log.Warn("Initiating Soft Shutdown, terminating in " + protocol.Repr(cfg.SoftShutdown.Seconds()) + " seconds")
	p.soft, p.whole = time.After(cfg.SoftShutdown), cfg.SoftShutdownOnIdle
	return true
}
