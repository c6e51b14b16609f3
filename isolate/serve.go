package isolate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// What a child finds in its environment, and takes out of it: what a handler starts is no child of ours.
const (
	childVariable = "STALK_CHILD"      // the version of the frames
	noteVariable  = "STALK_CHILD_NOTE" // Config.Note
	version       = "1"
)

// The pipes of a child.
const (
	childReads  = 3
	childWrites = 4
)

var (
	// childNow is what the environment said at the start: who asks later finds the variables gone.
	childNow = sync.OnceValue(func() bool { return os.Getenv(childVariable) != "" })

	// ready: Serve was called, so this program can make children of itself. It is a fact of the process, as its arguments.
	ready atomic.Bool
)

// Child reports whether this process was started by a Pool, to run handlers for it.
func Child() bool { return childNow() }

// Ready reports whether Serve was called in this process, which is then no child.
func Ready() bool { return ready.Load() }

// Serve lets a program run its isolated handlers in child processes of itself. Call it in main, as soon as the registry
// is built and before anything that there must be only once: a port, a pidfile, a worker. A child is started with
// the arguments of the program.
//
//	if isolate.Serve(registry) {
//		return
//	}
//
// In a child it serves the worker that started it, and returns true when that worker has no more use for it, or is gone:
// main must then return. Otherwise it returns false at once.
func Serve(reg *handlers.Registry) (served bool) {
	return ServeFunc(func(string) (*handlers.Registry, error) { return reg, nil })
}

// ServeFunc is Serve for a program whose registry takes time to build or depends on Config.Note, which build is given. It is
// called in a child only.
func ServeFunc(build func(note string) (*handlers.Registry, error)) (served bool) {
	if !Child() {
		ready.Store(true)
		return false
	}
	if err := serve(build); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return true
}

// serve is the life of a child.
func serve(build func(note string) (*handlers.Registry, error)) error {
	note, spoken := os.Getenv(noteVariable), os.Getenv(childVariable)
	_ = os.Unsetenv(childVariable)
	_ = os.Unsetenv(noteVariable)
	in, out := os.NewFile(childReads, "tasks"), os.NewFile(childWrites, "results")
	for _, f := range []*os.File{in, out} {
		if info, err := f.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
			return fmt.Errorf("isolate: %s is set in the environment, but no worker has started this process; unset it", childVariable)
		}
		closeOnExec(f) // what a handler starts must not hold our pipes open
	}
	s := &server{wire: &wire{w: out}, runs: make(chan call, 1), signals: holdSignals(), limit: debug.SetMemoryLimit(-1), idle: time.AfterFunc(idleWait, tidy)}
	offerToKiller()
	var failed string
	if spoken != version {
		failed = fmt.Sprintf("isolate: the worker speaks version %s and its child %s: the program file was replaced", spoken, version)
	}
	reg, err := build(note)
	if err != nil {
		failed = err.Error()
	}
	s.reg = reg
	if err := s.wire.send(frameHello, protocol.ObjectOf(protocol.Member{Key: "err", Value: failed})); err != nil || failed != "" {
		return nil // the worker was told, or is gone
	}
	gone := make(chan error, 1)
	go func() { gone <- s.listen(bufio.NewReader(in)) }() // ends with the process
	for {
		select {
		case c := <-s.runs:
			r, ctx, end := s.begin(c)
			ended := make(chan *protocol.Object, 1)
			go r.handle(ctx, ended) // of its own, so that the worker's end is heard meanwhile, and may call Goexit
			select {
			case out := <-ended:
				end()
				s.finish(r, out)
			case err := <-gone:
				return err
			}
		case err := <-gone:
			return err
		}
	}
}

// holdSignals keeps away from the child what is meant for the worker: a service manager sends SIGTERM to all processes of a
// service, and running tasks may finish then.
func holdSignals() chan os.Signal {
	c := make(chan os.Signal, 1) // nobody reads it
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	return c
}

// A server is the child's side.
type server struct {
	wire    *wire
	reg     *handlers.Registry
	runs    chan call // capacity 1: the worker sends the next one after a result
	signals chan os.Signal
	idle    *time.Timer
	limit   int64 // the memory limit of a run that has none of its own

	mu  sync.Mutex
	now *run // guarded by mu; nil between runs
}

// listen reads what the worker sends, until it is gone.
func (s *server) listen(in *bufio.Reader) error {
	for {
		f, err := receive(in)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		switch f.kind {
		case frameCall:
			s.runs <- unpackCall(f.body)
		case frameCancel:
			s.end(f.body)
		case frameReply:
			if r := s.current(number(f.body, "run")); r != nil {
				r.replied(f.body)
			}
		default:
			return errDamaged
		}
	}
}

func (s *server) current(number int64) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil && s.now.call.run == number {
		return s.now
	}
	return nil
}

// end ends the context of the run, and with a signal the process: then the signal does what it does to any.
func (s *server) end(o *protocol.Object) {
	cause, _ := o.Get("cause")
	if r := s.current(number(o, "run")); r != nil {
		r.cancel(unpackCause(cause))
	}
	if n := syscall.Signal(number(o, "signal")); n > 0 {
		signal.Stop(s.signals)
		_ = raise(n)
	}
}

// unpackCause is the cause of a context's end: one of the errors of package handlers as itself, where it is no more than that.
func unpackCause(v protocol.Value) error {
	err := unpackError(v)
	for _, s := range sentinels {
		if err != nil && err.Error() == s.err.Error() {
			return s.err
		}
	}
	return err
}
