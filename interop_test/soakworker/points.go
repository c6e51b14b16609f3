package main

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// The points at which the process can be made to kill itself. Each is passed when the thing has happened and the
// worker does not know it yet.
const (
	popped    = "popped"    // the broker's message is in this process
	recorded  = "recorded"  // STARTED is in the result store
	started   = "started"   // the handler is half done
	stored    = "stored"    // the final state is in the result store
	published = "published" // the broker has what follows: a step, a part, a body, a retry, an errback
	claimed   = "claimed"   // the chord is ours to complete
	finished  = "finished"  // the chord was completed
	acked     = "acked"     // the message is settled
	stopping  = "stopping"  // a warm shutdown is under way
)

// points kills the process at the point it is armed for.
type points struct {
	journal  *journal
	stop     func()          // asks for a warm shutdown
	stopping <-chan struct{} // closed once that has begun

	mu   sync.Mutex
	at   string // guarded by mu; "" while not armed
	left int    // guarded by mu; passes
}

func (p *points) arm(at string, passes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.left = at, passes
}

// pass is called at each point.
func (p *points) pass(at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.at == at:
		if p.left--; p.left <= 0 {
			p.die()
		}
	case p.at == stopping && p.stop != nil:
		if p.left--; p.left == 0 {
			p.stop()
			// What is given back and settled now passes by below; an idle worker may have nothing left to pass.
			time.AfterFunc(300*time.Millisecond, func() {
				p.mu.Lock()
				p.die()
			})
		}
		select {
		case <-p.stopping:
			if p.left <= -2 { // not at the first, so that some have gone back
				p.die()
			}
		default:
		}
	}
}

// die ends the process as the kernel's memory killer would. It does not return, with mu held.
func (p *points) die() {
	p.journal.write("K", fmt.Sprint(os.Getpid()), p.at)
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {}
}

// A journal is a file to which every process of the soak appends whole lines. It is outside of both brokers, and
// what was written stays when the process is killed.
type journal struct{ file *os.File }

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("soakworker: SOAK_LEDGER: %w", err)
	}
	return &journal{f}, nil
}

func (j *journal) write(words ...string) {
	line := make([]byte, 0, 128)
	for i, w := range words {
		if i > 0 {
			line = append(line, ' ')
		}
		line = append(line, w...)
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}
