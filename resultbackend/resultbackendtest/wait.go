package resultbackendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// An ending is what one Wait returned.
type ending struct {
	r   protocol.Result
	err error
}

func (b *bench) waiter() resultbackend.Waiter {
	w, ok := b.Backend.Backend.(resultbackend.Waiter)
	if !ok {
		b.Skip("nobody can wait here")
	}
	return w
}

// wait starts waiting.
func (b *bench) wait(ctx context.Context, id string) <-chan ending {
	w, ch := b.waiter(), make(chan ending, 1)
	go func() {
		r, err := w.Wait(ctx, id)
		ch <- ending{r, err}
	}()
	return ch
}

func (b *bench) ended(ch <-chan ending) ending {
	b.Helper()
	select {
	case e := <-ch:
		return e
	case <-time.After(2 * b.patience()):
		b.Fatal("Wait does not return")
		return ending{}
	}
}

func (b *bench) waiting(ch <-chan ending) {
	b.Helper()
	select {
	case e := <-ch:
		b.Fatalf("Wait returned %v, %v; want it to wait", e.r.Status, e.err)
	case <-time.After(b.quiet()):
	}
}

func waitEnds(b *bench) {
	for _, end := range []protocol.State{protocol.Success, protocol.Failure, protocol.Revoked} {
		id := "t-" + string(end)
		ch := b.wait(b.ctx(), id)
		b.waiting(ch)
		for _, s := range states {
			if !s.Ready() {
				b.store(b.state(id, s, "x"))
			}
		}
		b.waiting(ch)
		want := b.state(id, end, "end")
		b.store(want)
		got := b.ended(ch)
		if got.err != nil {
			b.Fatalf("Wait: %v", got.err)
		}
		b.same(got.r, want.Result)
	}
}

func waitThere(b *bench) {
	want := b.state("t", protocol.Failure, "x")
	b.store(want)
	for range 3 {
		got := b.ended(b.wait(b.ctx(), "t"))
		if got.err != nil {
			b.Fatalf("Wait: %v", got.err)
		}
		b.same(got.r, want.Result)
	}
}

func waitMany(b *bench) {
	const tasks, each = 50, 3
	var all []<-chan ending
	for range each {
		for i := range tasks {
			all = append(all, b.wait(b.ctx(), fmt.Sprint("t", i)))
		}
	}
	b.waiting(all[0])
	for i := range tasks {
		b.store(b.success(fmt.Sprint("t", i), int64(i)))
	}
	for i, ch := range all {
		if got := b.ended(ch); got.err != nil || got.r.Value != int64(i%tasks) {
			b.Errorf("task %d: %v, %v", i%tasks, got.r.Value, got.err)
		}
	}
}

func waitRace(b *bench) {
	w := b.waiter()
	for i := range 100 {
		id := fmt.Sprint("t", i)
		var store sync.WaitGroup
		store.Go(func() { b.store(b.success(id, "x")) })
		if r, err := w.Wait(b.ctx(), id); err != nil || r.Status != protocol.Success {
			b.Errorf("Wait: %v, %v", r.Status, err)
		}
		store.Wait()
	}
}

func waitOver(b *bench) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	mine, others := b.wait(ctx, "t"), b.wait(b.ctx(), "t")
	b.waiting(mine)
	cancel()
	if got := b.ended(mine); !errors.Is(got.err, context.Canceled) {
		b.Errorf("Wait: %v, want it to wrap context.Canceled", got.err)
	}
	b.waiting(others)
	b.store(b.success("t", "x"))
	if got := b.ended(others); got.err != nil {
		b.Errorf("the other Wait: %v", got.err)
	}
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if got := b.ended(b.wait(short, "never")); !errors.Is(got.err, context.DeadlineExceeded) {
		b.Errorf("Wait: %v, want it to wrap context.DeadlineExceeded", got.err)
	}
}

func waitClosed(b *bench) {
	ch := b.wait(b.ctx(), "t")
	b.waiting(ch)
	if err := b.Close(); err != nil {
		b.Errorf("Close: %v", err)
	}
	for range 2 {
		if got := b.ended(ch); !errors.Is(got.err, resultbackend.ErrUnavailable) {
			b.Errorf("Wait: %v, want ErrUnavailable", got.err)
		}
		ch = b.wait(b.ctx(), "t")
	}
}

// waitAway: a Wait may end with ErrUnavailable and is then started again, as a client does.
func waitAway(b *bench) {
	w := b.waiter()
	if b.Away == nil {
		b.Skip("this factory cannot make the store go away")
	}
	patient := func(id string) <-chan ending {
		ch := make(chan ending, 1)
		ctx := b.ctx()
		go func() {
			for {
				r, err := w.Wait(ctx, id)
				if !errors.Is(err, resultbackend.ErrUnavailable) || ctx.Err() != nil {
					ch <- ending{r, err}
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
		return ch
	}
	before := patient("t")
	b.waiting(before)
	b.Backend.Away(true)
	during := patient("u")
	b.waiting(during)
	b.Backend.Away(false)
	for _, id := range []string{"t", "u"} {
		for deadline := time.Now().Add(b.patience()); ; time.Sleep(10 * time.Millisecond) {
			err := b.Store(b.ctx(), b.success(id, id))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				b.Fatalf("Store after the store came back: %v", err)
			}
		}
	}
	for id, ch := range map[string]<-chan ending{"t": before, "u": during} {
		if got := b.ended(ch); got.err != nil || got.r.Value != id {
			b.Errorf("task %s: %v, %v", id, got.r.Value, got.err)
		}
	}
}

func forgotten(b *bench) {
	f, ok := b.Backend.Backend.(resultbackend.Forgetter)
	if !ok {
		b.Skip("nothing can be forgotten here")
	}
	b.store(b.success("t", "x"))
	for range 2 { // what is not there is no error
		if err := f.Forget(b.ctx(), "t"); err != nil {
			b.Errorf("Forget: %v", err)
		}
	}
	if _, err := b.loader.Load(b.ctx(), "t"); !errors.Is(err, resultbackend.ErrNotFound) {
		b.Errorf("Load: %v, want ErrNotFound", err)
	}
	b.store(b.state("t", protocol.Failure, "again")) // even SUCCESS is forgotten
	if r := b.load("t"); r.Status != protocol.Failure {
		b.Errorf("stored %s, want FAILURE", r.Status)
	}
}
