package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"syscall"

	"github.com/stalkworker/stalk/worker"
)

// An exitError ends the process with a code of its own. What it says is printed as it is.
type exitError struct {
	code int
	text string
}

func (e exitError) Error() string { return e.text }

// ExitCode is for a program that mounts our commands.
func (e exitError) ExitCode() int { return e.code }

// errRestart asks for the same command line again, in this process.
var errRestart = errors.New("command: restart")

// supervise runs the worker until a signal, an order from afar or ctx ends it, as signals.go says.
func supervise(ctx context.Context, cfg worker.Config, p process, web *front) error {
	w, err := worker.New(cfg)
	if err != nil {
		return usageError{err} // it dials nothing: what it refuses is what it was told
	}
	defer web.serve(w)() // until Run has returned: probes are answered during the whole shutdown
	l := newLadder(p.env("REMAP_SIGTERM") == "SIGQUIT", strings.Join(p.args, " "))
	signals, unwatch := p.watch()
	defer unwatch()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }() // waited for below, unless it is given up
	consuming, stopping, ending := w.Reached(worker.Consuming), w.Reached(worker.Stopping), w.Reached(worker.Ending)
	say := func(text string) {
		if text != "" {
			fmt.Fprintf(p.stdout, "\n%s\n", text)
		}
	}
	var then string // once tasks are ended
	var told string // to systemd, of the end
	ends := func() {
		if stopping != nil {
			return
		}
		state := "STOPPING=1"
		if l.again { // systemd would kill after a while who says that he stops, and does not
			state = "RELOADING=1"
		}
		if state != told {
			told = state
			p.notify(cfg.Logger, state)
		}
	}
	for over := false; !over; {
		select {
		case sig := <-signals:
			number, ok := sig.(syscall.Signal)
			if !ok {
				continue
			}
			r := l.on(number)
			for _, text := range r.said {
				say(text)
			}
			switch r.action {
			case warm, restart:
				w.Stop()
			case cold:
				then = r.then
				w.StopCold()
			case cancel:
				w.StopNow()
			case quit:
				then = ""
				w.Quit()
			case abandon:
				return exitError{1, "stalk: ended at once, with what was not settled"}
			case dump:
				cfg.Logger.Warn("stacks of all goroutines\n" + stacks())
			case nothing:
			}
			ends()
		case <-consuming:
			consuming = nil
			select {
			case <-w.Reached(worker.Stopping): // a worker that ends before it consumes has skipped that
			default:
				p.notify(cfg.Logger, "READY=1")
			}
		case <-stopping:
			stopping = nil
			l.stop(0) // unless a signal was first: remote control, or ctx
			ends()
		case <-ending:
			ending = nil
			say(then)
			then = ""
		case err = <-ended:
			over = true
		}
	}
	say(then)
	if errors.Is(err, worker.ErrGrace) && l.chilled() {
		cfg.Logger.Warn("tasks were cut short; their messages are back in their queues", "err", err)
		err = nil
	}
	if cfg.Results != nil {
		err = errors.Join(err, cfg.Results.Close())
	}
	switch {
	case err != nil:
		return err
	case l.again:
		return errRestart
	case l.code != 0:
		return exitError{code: l.code}
	}
	return nil
}

// stacks are those of all goroutines, up to a bound. The world stands still meanwhile: a few milliseconds for
// thousands of goroutines.
func stacks() string {
	for size := 1 << 16; ; size *= 4 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size || size >= 1<<24 {
			return string(buf[:n])
		}
	}
}

// notify tells systemd how we are, where it asked for that.
func (p process) notify(log *slog.Logger, state string) {
	if err := sdNotify(p.env("NOTIFY_SOCKET"), state); err != nil {
		log.Warn("systemd is not told "+state, "err", err)
	}
}
