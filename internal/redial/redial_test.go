package redial_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/internal/redial"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

func TestManyCallersShareOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := membroker.New()
		broker.Delay(membroker.Connect, time.Second)
		l := redial.New(broker)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := l.Conn(t.Context()); err != nil {
					t.Errorf("Conn: %v", err)
				}
			})
		}
		wg.Wait()
		if n := broker.Conns(); n != 1 {
			t.Errorf("%d connections", n)
		}
		if err := l.Close(); err != nil || broker.Conns() != 0 {
			t.Errorf("Close: %v, with %d connections left", err, broker.Conns())
		}
	})
}

func TestABrokenConnectionIsDialledAgain(t *testing.T) {
	t.Parallel()
	broker := membroker.New()
	l := redial.New(broker)
	first, err := l.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if same, err := l.Conn(t.Context()); same != first || err != nil {
		t.Errorf("a living connection is dialled again: %v", err)
	}
	broker.Cut()
	broker.Fail(membroker.Connect, 1, transports.ErrDisconnected)
	if _, err := l.Conn(t.Context()); !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("Conn: %v, want Connect's error", err)
	}
	if second, err := l.Conn(t.Context()); second == first || err != nil {
		t.Errorf("the broken connection is given out: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestWaitingForTheDialEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := membroker.New()
		broker.Delay(membroker.Connect, time.Hour)
		l := redial.New(broker)
		dialler := make(chan error, 1)
		go func() {
			_, err := l.Conn(t.Context())
			dialler <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Conn(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Conn: %v, want DeadlineExceeded", err)
		}
		start := time.Now()
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-dialler; err == nil || time.Since(start) > time.Second {
			t.Errorf("the dial ended with %v after %v", err, time.Since(start))
		}
		for range 2 {
			if _, err := l.Conn(t.Context()); !errors.Is(err, redial.ErrClosed) {
				t.Errorf("Conn: %v, want ErrClosed", err)
			}
			if err := l.Close(); err != nil {
				t.Errorf("Close again: %v", err)
			}
		}
	})
}
