package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// A checked store says what it is told to, or nothing until its caller gives up.
type checked struct {
	*memresult.Backend
	err   error
	hangs bool
}

func (c checked) Check(ctx context.Context) error {
	if c.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return c.err
}

func TestAStoreThatWillNeverDoEndsRunBeforeAnythingIsTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := membroker.New()
		b.Declare("q")
		reg, err := handlers.NewRegistry(handlers.Func("f", func(context.Context, nothing) (int, error) { return 1, nil }))
		if err != nil {
			t.Fatal(err)
		}
		w, err := New(Config{
			Transport: b, Handlers: reg, Queues: []transports.Queue{{Name: "q"}},
			Results: checked{Backend: memresult.New(), err: fmt.Errorf("test: %w", resultbackend.ErrUnfit)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Run(t.Context()); !errors.Is(err, resultbackend.ErrUnfit) {
			t.Errorf("Run = %v, want ErrUnfit", err)
		}
		if n := w.link.connects.Load(); n != 0 {
			t.Errorf("%d connections were made", n)
		}
	})
}

func TestAStoreThatCannotBeLookedAtIsNoReasonNotToStart(t *testing.T) {
	for name, err := range map[string]error{"away": resultbackend.ErrUnavailable, "silent": nil} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := startRig(t, func(c *Config) {
					c.Results = checked{Backend: c.Results.(*memresult.Backend), err: err, hangs: err == nil}
				}, handlers.Func("f", func(context.Context, nothing) (int, error) { return 1, nil }))
				r.send(protocol.Task{ID: "a", Name: "f"})
				pass(2 * checkTimeout)
				r.wantState("a", protocol.Success)
			})
		})
	}
}
