package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

func TestReadySaysWhyNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, nil, raw("t", func(context.Context) (any, error) { time.Sleep(10 * time.Second); return nil, nil }))
		want := func(when string, want error) {
			t.Helper()
			synctest.Wait()
			if got := r.w.Ready(); !errors.Is(got, want) {
				t.Errorf("%s: Ready = %v, want %v", when, got, want)
			}
		}
		want("consuming", nil)
		r.send(protocol.Task{ID: "1", Name: "t"})
		want("with every slot busy", nil)
		r.broker.Fail(membroker.Connect, -1, transports.ErrDisconnected)
		r.broker.Cut()
		want("while the broker is away, every slot busy", ErrNotConnected)
		if s := r.w.Stats(); s.Connected || s.Connects != 1 {
			t.Errorf("connected %v after %d connects, want false after 1", s.Connected, s.Connects)
		}
		r.broker.Fail(membroker.Connect, 0, nil)
		time.Sleep(time.Minute)
		want("when it is back", nil)
		if s := r.w.Stats(); !s.Connected || s.Connects != 2 {
			t.Errorf("connected %v after %d connects, want true after 2", s.Connected, s.Connects)
		}
		r.w.queues.cancel("q")
		want("when remote control has cancelled every queue", ErrNoQueues)
		if q := r.w.Queues(); len(q) != 0 {
			t.Errorf("Queues = %q", q)
		}
		r.w.queues.add(transports.Queue{Name: "q"})
		want("when a queue is back", nil)
		n := r.w.slots.shrink(1000)
		want("when remote control has taken every slot", ErrNoSlots)
		r.w.slots.stretch(n)
		want("when autoscaling may add slots", nil)
		r.w.slots.stretch(0)
		r.w.slots.grow(n)
		want("when the slots are back", nil)
		r.send(protocol.Task{ID: "2", Name: "t"})
		synctest.Wait()
		r.w.Stop()
		want("while the last task ends", ErrStopping)
		if got := r.w.Stats(); got.Active != 1 || !got.Stopping {
			t.Errorf("active %d, stopping %v; want the task still running", got.Active, got.Stopping)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		want("after the end", ErrStopping)
	})
}

func TestQueueSizeGoesToTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, nil, raw("t", func(context.Context) (any, error) { return nil, nil }))
		synctest.Wait()
		r.broker.Declare("other")
		r.broker.Send("other", message(t, protocol.Task{ID: "1", Name: "t"}))
		if s, err := r.w.QueueSize(t.Context(), "other"); err != nil || s.Ready != 1 {
			t.Errorf("QueueSize = %+v, %v; want 1 ready", s, err)
		}
		if _, err := r.w.QueueSize(t.Context(), "none"); !errors.Is(err, transports.ErrNoQueue) {
			t.Errorf("QueueSize of a missing queue: %v", err)
		}
		r.broker.Fail(membroker.Connect, -1, transports.ErrDisconnected)
		r.broker.Cut()
		synctest.Wait()
		if _, err := r.w.QueueSize(t.Context(), "other"); !errors.Is(err, transports.ErrDisconnected) {
			t.Errorf("QueueSize without a connection: %v", err)
		}
		r.broker.Fail(membroker.Connect, 0, nil)
	})
}
