package resultbackendtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// states are all that are ever stored, and a custom one.
var states = []protocol.State{
	protocol.Started, protocol.Progress, protocol.Retry, protocol.Failure, protocol.Revoked, "UPLOADING (2/3)", protocol.Success,
}

func documents(b *bench) {
	huge, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	value := protocol.ObjectOf(
		protocol.Member{Key: "z", Value: []protocol.Value{nil, true, int64(-1), 3.0, 1e16, huge, "café \U0001F600 <&>"}},
		protocol.Member{Key: "a", Value: protocol.ObjectOf()},
		protocol.Member{Key: "status", Value: "SUCCESS"},
	)
	for i, r := range []protocol.Result{
		{Status: protocol.Success, Value: value, DateDone: done},
		{Status: protocol.Success, Value: nil, DateDone: done},
		{
			Status: protocol.Success, Value: math.Inf(1), DateDone: done, GroupID: "g", ParentID: "p",
			Children: []protocol.Value{[]protocol.Value{[]protocol.Value{"c", nil}, nil}},
		},
		{Status: protocol.Started, Value: protocol.ObjectOf(protocol.Member{Key: "pid", Value: int64(7)}, protocol.Member{Key: "hostname", Value: "w@h"})},
		{Status: protocol.Progress, Value: protocol.ObjectOf(protocol.Member{Key: "done", Value: int64(1)})},
		{Status: protocol.Retry, Exception: &protocol.Exception{Module: "builtins", Type: "OSError", Args: []protocol.Value{int64(2), "no"}}, Traceback: "tb"},
		{Status: protocol.Retry},
		{Status: protocol.Failure, Exception: &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{"boom", int64(42)}}, Traceback: "TB\n", DateDone: done},
		{Status: protocol.Revoked, Exception: &protocol.Exception{Module: "celery.exceptions", Type: "TaskRevokedError", Args: []protocol.Value{"revoked"}}, NoContext: true, DateDone: done},
		{Status: protocol.Success, Value: int64(1), DateDone: done, Extended: &protocol.Extended{
			Name: "t", Args: []protocol.Value{int64(1)}, Kwargs: protocol.ObjectOf(protocol.Member{Key: "k", Value: "v"}), Worker: "w@h", Retries: 2, Queue: "celery",
		}},
	} {
		r.TaskID = fmt.Sprintf("doc-%d", i)
		ch := b.Watch(b.T, r.TaskID)
		b.store(b.record(r))
		b.same(b.next(ch), r)
		if b.loader != nil {
			b.same(b.load(r.TaskID), r)
		}
	}
}

func announced(b *bench) {
	ch := b.Watch(b.T, "t")
	for _, s := range states {
		b.store(b.state("t", s, "x"))
	}
	for _, s := range states {
		if got := b.next(ch).Status; got != s {
			b.Errorf("announced %q, want %q", got, s)
		}
	}
	b.nothing(ch)
}

func missing(b *bench) {
	if _, err := b.loader.Load(b.ctx(), "nobody"); !errors.Is(err, resultbackend.ErrNotFound) {
		b.Errorf("Load: %v, want ErrNotFound", err)
	}
}

func successIsFinal(b *bench) {
	b.store(b.success("t", "first"))
	ch := b.Watch(b.T, "t")
	for _, s := range states {
		b.store(b.state("t", s, "second"))
		if r := b.load("t"); r.Status != protocol.Success || mark(r) != "first" {
			b.Errorf("after %s the record is %s of %q", s, r.Status, mark(r))
		}
	}
	b.nothing(ch)
}

func nothingElseIsFinal(b *bench) {
	for _, old := range states {
		if old == protocol.Success {
			continue
		}
		for _, s := range states {
			id := fmt.Sprintf("%s then %s", old, s)
			b.store(b.state(id, old, "first"))
			b.store(b.state(id, s, "second"))
			if r := b.load(id); r.Status != s || mark(r) != "second" {
				b.Errorf("%s: the record is %s of %q", id, r.Status, mark(r))
			}
		}
	}
}

func over(b *bench) {
	for _, wanted := range [][]protocol.State{
		{},
		{protocol.Pending},
		{protocol.Pending, protocol.Received, protocol.Retry, "REJECTED"}, // the revoke command
		{protocol.Started, protocol.Progress, "UPLOADING (2/3)"},
		{protocol.Success, protocol.Retry}, // SUCCESS is final nevertheless
	} {
		for i, old := range append([]protocol.State{protocol.Pending}, states...) {
			id := fmt.Sprintf("over %q, was %s", wanted, old)
			if i > 0 {
				b.store(b.state(id, old, "old"))
			}
			ch := b.Watch(b.T, id)
			r := b.state(id, protocol.Revoked, "new")
			r.Over = wanted
			b.store(r)
			want := slices.Contains(wanted, old) && old != protocol.Success
			got, err := b.loader.Load(b.ctx(), id)
			if stored := err == nil && mark(got) == "new"; stored != want {
				b.Errorf("%s: stored = %v, want %v", id, stored, want)
			}
			if err != nil && !(old == protocol.Pending && errors.Is(err, resultbackend.ErrNotFound)) {
				b.Errorf("%s: Load: %v", id, err)
			}
			if want {
				b.next(ch)
			}
			select {
			case r := <-ch:
				b.Errorf("%s: announced %s", id, text(b.T, r))
			default:
			}
		}
	}
}

func manySuccesses(b *bench) {
	b.onlyOne(func(id, mark string) resultbackend.Record { return b.success(id, mark) })
}

func manyOver(b *bench) {
	b.onlyOne(func(id, mark string) resultbackend.Record {
		r := b.state(id, protocol.Revoked, mark)
		r.Over = []protocol.State{protocol.Pending}
		return r
	})
}

// onlyOne stores many records at once, of which one may win.
func (b *bench) onlyOne(record func(id, mark string) resultbackend.Record) {
	for round := range 10 {
		id := fmt.Sprintf("race-%d", round)
		ch := b.Watch(b.T, id)
		var wg sync.WaitGroup
		for n := range 8 {
			r := record(id, fmt.Sprint(n))
			wg.Go(func() {
				if err := b.Store(b.ctx(), r); err != nil {
					b.Errorf("Store: %v", err)
				}
			})
		}
		wg.Wait()
		b.same(b.next(ch), b.load(id))
		select {
		case r := <-ch:
			b.Errorf("announced a second one: %s", text(b.T, r))
		case <-time.After(b.quiet() / 10):
		}
	}
}

func storm(b *bench) {
	for round := range 5 {
		id := fmt.Sprintf("storm-%d", round)
		var wg sync.WaitGroup
		for n := range 8 {
			r := b.state(id, states[n%(len(states)-1)], fmt.Sprint(n))
			if n == 3 {
				r = b.success(id, "won")
			}
			wg.Go(func() {
				if err := b.Store(b.ctx(), r); err != nil {
					b.Errorf("Store: %v", err)
				}
			})
		}
		wg.Wait()
		if r := b.load(id); r.Status != protocol.Success {
			b.Errorf("the record is %s, want SUCCESS", r.Status)
		}
	}
}

func unwritable(b *bench) {
	ch := b.Watch(b.T, "t")
	err := b.Store(b.ctx(), b.success("t", struct{ X int }{1}))
	if _, ok := errors.AsType[*protocol.EncodeError](err); !ok {
		b.Errorf("Store of what no serializer knows: %v, want an EncodeError", err)
	}
	b.nothing(ch)
	if b.loader != nil {
		missing(b)
	}
	b.store(b.success("t", "good"))
	b.next(ch)
}

func away(b *bench) {
	if b.Away == nil {
		b.Skip("this factory cannot make the store go away")
	}
	b.store(b.success("before", "x"))
	b.Backend.Away(true)
	if err := b.Store(b.ctx(), b.success("during", "x")); !errors.Is(err, resultbackend.ErrUnavailable) {
		b.Errorf("Store while away: %v, want ErrUnavailable", err)
	}
	if b.loader != nil {
		if _, err := b.loader.Load(b.ctx(), "before"); !errors.Is(err, resultbackend.ErrUnavailable) {
			b.Errorf("Load while away: %v, want ErrUnavailable", err)
		}
	}
	b.Backend.Away(false)
	deadline := time.Now().Add(b.patience())
	for { // the same Store works again, if not at the first attempt
		err := b.Store(b.ctx(), b.success("after", "x"))
		if err == nil {
			break
		}
		if !errors.Is(err, resultbackend.ErrUnavailable) || time.Now().After(deadline) {
			b.Fatalf("Store after the store came back: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if b.loader != nil {
		b.load("after")
	}
}

func overContext(b *bench) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	got := make(chan error, 1)
	go func() { got <- b.Store(ctx, b.success("t", "x")) }()
	select {
	case err := <-got:
		if err == nil {
			b.Error("Store succeeded")
		}
	case <-time.After(b.patience() / 2):
		b.Fatal("Store does not return")
	}
}

func closed(b *bench) {
	if s := b.String(); s == "" || strings.Contains(s, "secret") {
		b.Errorf("String = %q", s)
	}
	b.store(b.success("t", "x"))
	for range 2 {
		if err := b.Close(); err != nil {
			b.Errorf("Close: %v", err)
		}
	}
	if err := b.Store(b.ctx(), b.success("t", "x")); !errors.Is(err, resultbackend.ErrUnavailable) {
		b.Errorf("Store after Close: %v, want ErrUnavailable", err)
	}
}

func together(b *bench) {
	const tasks = 60
	chs := make([]<-chan protocol.Result, tasks)
	for i := range chs {
		chs[i] = b.Watch(b.T, fmt.Sprint("t", i))
	}
	var wg sync.WaitGroup
	for i := range chs {
		wg.Go(func() {
			id := fmt.Sprint("t", i)
			for _, r := range []resultbackend.Record{b.state(id, protocol.Started, id), b.success(id, id)} {
				if err := b.Store(b.ctx(), r); err != nil {
					b.Errorf("Store: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for i, ch := range chs {
		for _, want := range []protocol.State{protocol.Started, protocol.Success} {
			if r := b.next(ch); r.Status != want || mark(r) != fmt.Sprint("t", i) {
				b.Errorf("task %d: announced %s of %q, want %s", i, r.Status, mark(r), want)
			}
		}
	}
}
