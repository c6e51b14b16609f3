package isolate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// A run is one task in the child. It is the handler's Host.
type run struct {
	server *server
	call   call
	cancel context.CancelCauseFunc
	room   chan struct{} // requests on their way

	mu      sync.Mutex
	waiting map[int64]chan *protocol.Object // replies, by request; nil once the run is over
	last    int64
}

var (
	_ handlers.Host     = (*run)(nil)
	_ handlers.Reserver = (*run)(nil)
)

// requestsMax bounds the requests of one run that wait for their replies.
const requestsMax = 16

// begin makes a call the current run. end ends its context.
func (s *server) begin(c call) (r *run, ctx context.Context, end func()) {
	s.idle.Stop()
	r = &run{server: s, call: c, waiting: map[int64]chan *protocol.Object{}, room: make(chan struct{}, requestsMax)}
	ctx, r.cancel = context.WithCancelCause(context.Background())
	timed := context.CancelFunc(func() {})
	if !c.deadline.IsZero() {
		ctx, timed = context.WithDeadline(ctx, c.deadline)
	}
	if c.inTask {
		var host handlers.Host
		if c.host {
			host = r
		}
		ctx = handlers.NewContext(ctx, c.info, host)
	}
	if c.memory > 0 {
		debug.SetMemoryLimit(c.memory)
	} else {
		debug.SetMemoryLimit(s.limit)
	}
	s.mu.Lock()
	s.now = r
	s.mu.Unlock()
	_ = s.wire.send(frameBegun, protocol.ObjectOf(protocol.Member{Key: "run", Value: c.run})) // else the worker is gone
	return r, ctx, func() { timed(); r.cancel(nil) }
}

// finish sends how the run ended. What the handler left running can report and send no more.
func (s *server) finish(r *run, out *protocol.Object) {
	r.mu.Lock()
	for _, c := range r.waiting {
		close(c)
	}
	r.waiting = nil
	r.mu.Unlock()
	s.mu.Lock()
	s.now = nil
	s.mu.Unlock()
	number, peak := protocol.Member{Key: "run", Value: r.call.run}, protocol.Member{Key: "peak"}
	if r.call.peak {
		peak.Value = peakMemory()
	}
	out.Set(number.Key, number.Value)
	out.Set(peak.Key, peak.Value)
	if err := s.wire.send(frameResult, out); err != nil {
		// Too large to cross: the task fails with that. Or the worker is gone, which listen notices.
		_ = s.wire.send(frameResult, protocol.ObjectOf(number, peak, protocol.Member{Key: "err", Value: packError(protocol.EncodeErr(err), handlers.Options{})}))
	}
	s.idle.Reset(idleWait)
}

const (
	idleWait = time.Second // a child without a task for so long is idle
	tidyFrom = 64 << 20    // resident bytes from which it then gives memory back to the system
)

// tidy lets an idle child keep what it will need, not what its largest task needed.
func tidy() {
	if n, ok := residentMemory("self"); ok && n > tidyFrom {
		debug.FreeOSMemory()
	}
}

// handle calls the handler and packs what came of it. Nothing that the handler's author wrote gets around that, but the
// end of the process.
func (r *run) handle(ctx context.Context, ended chan<- *protocol.Object) {
	var out *protocol.Object
	defer func() {
		if out == nil {
			v := recover() // nil for runtime.Goexit too: then the handler ended without a result
			if v == nil {
				v = errors.New("handler called runtime.Goexit")
			}
			out = packPanic(v)
		}
		ended <- out
	}()
	h, known := r.server.reg.Lookup(r.call.task.Name)
	if !known {
		out = protocol.ObjectOf(protocol.Member{Key: "err", Value: packError(protocol.NotRegistered(r.call.task.Name), handlers.Options{})})
		return
	}
	value, err := h.Invoke()(ctx, r.call.task)
	packed := &protocol.Object{}
	if err != nil {
		packed.Set("err", packResult(err, context.Cause(ctx), h.Options()))
	} else if v, err := protocol.FromGo(value); err != nil {
		packed.Set("err", packError(protocol.EncodeErr(err), handlers.Options{}))
	} else {
		packed.Set("value", v)
	}
	out = packed
}

// packPanic is a panic with the frames that led to it. Call it from the deferred function.
func packPanic(v any) *protocol.Object {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs)])
	var packed []protocol.Value
	for {
		f, more := frames.Next()
		packed = append(packed, []protocol.Value{f.Function, f.File, int64(f.Line)})
		if !more {
			break
		}
	}
	return protocol.ObjectOf(protocol.Member{Key: "panic", Value: fmt.Sprint(v)}, protocol.Member{Key: "frames", Value: packed})
}

var errOver = errors.New("isolate: the task is over; it can no longer report or send")

// ask sends a request to the worker and waits for its reply. The worker decides whether a task whose context has ended may
// still report.
func (r *run) ask(ctx context.Context, what string, members ...protocol.Member) (*protocol.Object, error) {
	r.room <- struct{}{}
	defer func() { <-r.room }()
	reply := make(chan *protocol.Object, 1)
	r.mu.Lock()
	if r.waiting == nil {
		r.mu.Unlock()
		return nil, errOver
	}
	r.last++
	id := r.last
	r.waiting[id] = reply
	r.mu.Unlock()
	o := protocol.ObjectOf(append(members, protocol.Member{Key: "run", Value: r.call.run}, protocol.Member{Key: "id", Value: id}, protocol.Member{Key: "what", Value: what})...)
	if err := r.server.wire.send(frameRequest, o); err != nil {
		r.mu.Lock()
		delete(r.waiting, id)
		r.mu.Unlock()
		return nil, err
	}
	answer, ok, err := r.await(ctx, reply)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errOver
	}
	failed, _ := answer.Get("err")
	return answer, unpackError(failed)
}

// await waits for the reply, or until the handler's own patience ends: a task at its soft limit may still say how far it came.
func (r *run) await(ctx context.Context, reply <-chan *protocol.Object) (answer *protocol.Object, ok bool, err error) {
	select {
	case answer, ok = <-reply:
		return answer, ok, nil
	case <-ctx.Done():
	}
	if errors.Is(context.Cause(ctx), handlers.ErrSoftLimit) {
		answer, ok = <-reply
		return answer, ok, nil
	}
	return nil, false, context.Cause(ctx)
}

func (r *run) replied(o *protocol.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := number(o, "id")
	if c := r.waiting[id]; c != nil {
		delete(r.waiting, id)
		c <- o // capacity 1, one reply
	}
}

// Report stores a state of the running task.
func (r *run) Report(ctx context.Context, s protocol.State, meta protocol.Value) error {
	_, err := r.ask(ctx, "report", protocol.Member{Key: "state", Value: string(s)}, protocol.Member{Key: "meta", Value: meta})
	return err
}

// Reserve takes a part of the worker's memory budget.
func (r *run) Reserve(ctx context.Context, bytes int64) error {
	_, err := r.ask(ctx, "reserve", protocol.Member{Key: "bytes", Value: bytes})
	return err
}

// Spawn sends the signature as a child of the running task.
func (r *run) Spawn(ctx context.Context, s handlers.Signature) (handlers.Sent, error) {
	return r.send(ctx, "spawn", s)
}

// AddToChord sends the signature as one more part of the running task's chord.
func (r *run) AddToChord(ctx context.Context, s handlers.Signature) (handlers.Sent, error) {
	return r.send(ctx, "chord", s)
}

func (r *run) send(ctx context.Context, what string, s handlers.Signature) (handlers.Sent, error) {
	if err := handlers.Check(s); err != nil {
		return handlers.Sent{}, err
	}
	o, err := r.ask(ctx, what, protocol.Member{Key: "signature", Value: packSignature(s)})
	if err != nil {
		return handlers.Sent{}, err
	}
	tuple, _ := o.Get("tuple")
	return handlers.Sent{ID: text(o, "sent"), Tuple: tuple}, nil
}

// Logger writes into the worker's log.
func (r *run) Logger() *slog.Logger { return slog.New(&recorder{run: r}) }
