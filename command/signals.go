package command

import "syscall"

// This file is what Celery's worker does about signals (celery/apps/worker.py), as a machine without side effects.
// There each signal's handler installs the handlers of the next one; the machine's state is which are installed.

// An action is what a signal asks of the worker.
type action int

const (
	nothing action = iota
	warm           // take no more, let tasks finish
	cold           // give them worker_soft_shutdown_timeout, then end them
	cancel         // end them now
	quit           // end now, wait for nothing
	abandon        // end the process
	restart        // warm, then run the same command line again
	dump           // log the stacks of all goroutines
)

// A reaction is an action and what is said: said at once, and then once the worker ends its tasks.
type reaction struct {
	action action
	said   []string
	then   string
}

// The texts of Celery, on standard output.
const (
	warmText    = "worker: Warm shutdown (MainProcess)"
	coldText    = "worker: Cold shutdown (MainProcess)"
	againText   = "worker: Hitting Ctrl+C again will initiate cold shutdown, terminating all running tasks!"
	endTaskText = "worker: Hitting Ctrl+C again will terminate all running tasks!"
	waitText    = "Waiting gracefully for cold shutdown to complete..."
)

// A level is what INT and QUIT do next.
type level int

const (
	polite  level = iota // INT: warm
	armed                // cold; QUIT begins here
	pushing              // what runs is told to stop
	forcing              // nothing is waited for any more
	gone
)

// A ladder is the state: what each signal does next, and the exit code, which the first order to stop decides.
// INT ends with 1, all else with 0.
type ladder struct {
	remap   bool   // REMAP_SIGTERM=SIGQUIT: TERM is QUIT
	command string // of the text about a restart

	interrupt, quit level // of INT, and of QUIT (and TERM where it is that)
	stopping        bool
	again           bool // a restart is what the end is for
	code            int
}

func newLadder(remap bool, command string) *ladder {
	return &ladder{remap: remap, command: command, quit: armed}
}

// on is the answer to a signal.
func (l *ladder) on(sig syscall.Signal) reaction {
	switch {
	case sig == sigDump:
		return reaction{action: dump}
	case sig == syscall.SIGHUP:
		// Celery restarts even when it was told to end before. Who orders an end means it: systemd sends HUP
		// after TERM where it is set to.
		if l.stopping && !l.again {
			return reaction{}
		}
		l.stop(0)
		l.again = true
		return reaction{restart, []string{"Restarting celery worker (" + l.command + ")"}, ""}
	}
	l.again = false
	switch {
	case sig == syscall.SIGTERM && !l.remap:
		l.stop(0)
		return reaction{warm, []string{warmText}, ""}
	case sig == syscall.SIGINT && l.interrupt == polite:
		l.stop(1)
		l.interrupt = armed
		return reaction{warm, []string{againText, warmText}, ""}
	}
	l.stop(0)
	at := l.quit
	switch sig {
	case syscall.SIGINT:
		at = l.interrupt
	case syscall.SIGTERM:
		at = min(at, pushing) // so that an impatient supervisor forces nothing
	}
	switch at {
	case armed:
		l.interrupt, l.quit = pushing, pushing
		if sig == syscall.SIGINT {
			return reaction{cold, []string{endTaskText}, ""}
		}
		return reaction{cold, []string{endTaskText}, coldText}
	case pushing:
		if sig != syscall.SIGTERM {
			l.interrupt, l.quit = forcing, forcing
		}
		return reaction{cancel, []string{waitText, coldText}, ""}
	case forcing:
		l.interrupt, l.quit = gone, gone
		return reaction{action: quit}
	}
	return reaction{action: abandon}
}

// stop notes the exit code; the first order decides.
func (l *ladder) stop(code int) {
	if !l.stopping {
		l.stopping, l.code = true, code
	}
}

// chilled reports whether tasks may be cut short: a signal asked for it.
func (l *ladder) chilled() bool { return l.quit > armed }
