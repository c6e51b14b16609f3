package worker

import (
	"context"
	"fmt"
	"sync"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// A budget is the memory that running tasks may reserve together, counted in kibibytes as slots are: whoever waits is served in
// order. nil is no budget.
type budget struct{ kib *slots }

func newBudget(bytes int64) *budget {
	if bytes <= 0 {
		return nil
	}
	return &budget{newSlots(int(min(kib(bytes), kibMax)))}
}

// kibMax is what counts as all the memory there is: a pebibyte, or what an int holds.
const kibMax = min(1<<40, int64(^uint(0)>>1))

// kib is bytes rounded up.
func kib(bytes int64) int64 { return bytes>>10 + min(bytes&1023, 1) }

// size is how many bytes there are, and how many are reserved.
func (b *budget) size() (all, reserved int64) {
	if b == nil {
		return 0, 0
	}
	limit, used := b.kib.size()
	return int64(limit) << 10, int64(used) << 10
}

// A reservation is one task's part of the budget. Its methods may be called from many goroutines; nil reserves nothing.
type reservation struct {
	budget *budget

	mu     sync.Mutex
	ended  bool            // guarded by mu
	life   context.Context // ends with the handler. It, finish and turn are made by the first change: most tasks make none
	finish context.CancelCauseFunc
	turn   chan struct{} // capacity 1: held while it changes
	kib    int           // guarded by turn
}

func (b *budget) reservation() *reservation {
	if b == nil {
		return nil
	}
	return &reservation{budget: b}
}

// open makes what changes need, unless the handler has returned.
func (r *reservation) open() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return errOver
	}
	if r.turn == nil {
		r.turn = make(chan struct{}, 1)
		r.life, r.finish = context.WithCancelCause(context.Background())
	}
	return nil
}

// change replaces what is reserved by so many bytes; see handlers.Reserve.
func (r *reservation) change(ctx context.Context, bytes int64) error {
	if r == nil {
		return nil
	}
	if all, _ := r.budget.size(); bytes > all {
		return &overBudget{bytes: bytes, all: all}
	}
	if err := r.open(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.life, func() { cancel(errOver) })()
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-r.turn }()
	want := int(kib(bytes))
	switch {
	case r.life.Err() != nil:
		return errOver
	case want <= r.kib:
		r.budget.kib.giveBack(r.kib - want)
		r.kib = want
	default:
		if r.kib = r.budget.kib.exchange(ctx, r.kib, want); r.kib == 0 {
			return context.Cause(ctx)
		}
	}
	return nil
}

// end gives everything back, for good: the handler has returned. A goroutine of the handler's that waits in change is sent away.
func (r *reservation) end() {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.ended = true
	used := r.turn != nil
	r.mu.Unlock()
	if !used {
		return
	}
	r.finish(nil)
	r.turn <- struct{}{}
	r.budget.kib.giveBack(r.kib)
	r.kib = 0
	<-r.turn
}

// overBudget is a reservation that cannot ever be had.
type overBudget struct{ bytes, all int64 }

func (e *overBudget) Error() string {
	return fmt.Sprintf("the task needs about %s of memory, more than the %s that all tasks of this worker may have together", mebibytes(e.bytes), mebibytes(e.all))
}

// Is makes it a handlers.ErrBudget.
func (e *overBudget) Is(target error) bool { return target == handlers.ErrBudget }

// As lets the caller see Python's name for it.
func (e *overBudget) As(target any) bool {
	p, ok := target.(**protocol.Exception)
	if ok {
		*p = protocol.NewException("MemoryError", e.Error())
	}
	return ok
}

func mebibytes(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", kib(n))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
