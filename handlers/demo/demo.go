// Package demo holds the tasks of `stalk worker --demo`: things to try a setup with. Each means what the
// Python one-liner of the same name would, errors included; the tests compare with a record of real Python.
//
// It is for trying out, and an example of handlers; nothing else in the project depends on what it does.
package demo

import (
	"context"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// Handlers are the demo tasks. The slice is the caller's.
func Handlers() []handlers.Handler {
	unlimited := -1
	return []handlers.Handler{
		handlers.Func("demo.add", add),
		handlers.Raw("demo.echo", echo),
		handlers.Func("demo.sleep", sleep),
		handlers.Func("demo.burn", burn),
		handlers.Func("demo.fail", fail),
		handlers.Func("demo.retry", retry).With(handlers.Options{Retry: handlers.RetryPolicy{Max: &unlimited}}),
		handlers.Func("demo.progress", progress),
	}
}

// Fields are protocol.Value where the task takes whatever Python's operator takes and gives it back as it came.

type addIn struct {
	X protocol.Value `json:"x"`
	Y protocol.Value `json:"y" default:"1"`
}

func add(_ context.Context, in addIn) (protocol.Value, error) { return plus(in.X, in.Y) }

func echo(_ context.Context, args []protocol.Value, kwargs *protocol.Object) (any, error) {
	return protocol.ObjectOf(protocol.Member{Key: "args", Value: args}, protocol.Member{Key: "kwargs", Value: kwargs}), nil
}

type secondsIn struct {
	Seconds protocol.Value `json:"seconds" default:"1"`
}

func sleep(ctx context.Context, in secondsIn) (protocol.Value, error) {
	return in.Seconds, pause(ctx, in.Seconds)
}

func burn(ctx context.Context, in secondsIn) (protocol.Value, error) {
	// One clock for start and end, and the float sum that Python's `time.monotonic() + seconds` is.
	start := time.Now()
	end, err := plus(0.0, in.Seconds)
	if err != nil {
		return nil, err
	}
	seconds, ok := end.(float64)
	if !ok {
		return nil, typeError("unsupported operand type(s) for +: 'float' and %s", quoted(in.Seconds))
	}
	for time.Since(start).Seconds() < seconds {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		spin()
	}
	return in.Seconds, nil
}

// spin keeps the CPU busy for some microseconds.
func spin() {
	x := uint64(time.Now().UnixNano()) | 1
	for range 10_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	if x == 0 { // never: xorshift has no way to zero; the compiler does not know and keeps the loop
		panic("demo: xorshift reached zero")
	}
}

type retryIn struct {
	Times     protocol.Value `json:"times" default:"1"`
	Countdown protocol.Value `json:"countdown" default:"0"`
}

func retry(ctx context.Context, in retryIn) (int, error) {
	info, _ := handlers.InfoFrom(ctx)
	times, ok := real(in.Times)
	if !ok {
		return 0, typeError("'<' not supported between instances of 'int' and %s", quoted(in.Times))
	}
	if !(float64(info.Retries) < times) {
		return info.Retries, nil
	}
	in1, err := countdown(in.Countdown)
	if err != nil {
		return 0, err
	}
	return 0, handlers.Retry(nil, in1)
}

type progressIn struct {
	Steps   protocol.Value `json:"steps" default:"5"`
	Seconds protocol.Value `json:"seconds" default:"0.1"`
}

func progress(ctx context.Context, in progressIn) (protocol.Value, error) {
	steps, err := index(in.Steps)
	if err != nil {
		return nil, err
	}
	for i := int64(0); i < steps; i++ {
		done := protocol.ObjectOf(protocol.Member{Key: "done", Value: i}, protocol.Member{Key: "total", Value: in.Steps})
		if err := handlers.Progress(ctx, done); err != nil {
			return nil, err
		}
		if err := pause(ctx, in.Seconds); err != nil {
			return nil, err
		}
	}
	return in.Steps, nil
}

// pause is time.sleep that ends with the context.
func pause(ctx context.Context, seconds protocol.Value) error {
	d, err := sleepTime(seconds)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
