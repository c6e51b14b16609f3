package resultbackendtest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// A bench is one case at work.
type bench struct {
	*testing.T
	Backend
	loader resultbackend.Loader // nil: nothing can be loaded
}

// done is a fixed time, so that documents can be compared.
var done = time.Date(2026, 11, 21, 6, 51, 42, 429_996_000, time.UTC)

func (b *bench) success(id string, v protocol.Value) resultbackend.Record {
	return b.record(protocol.Result{TaskID: id, Status: protocol.Success, Value: v, DateDone: done})
}

// state is a record of that state whose result tells who wrote it.
func (b *bench) state(id string, s protocol.State, mark string) resultbackend.Record {
	r := protocol.Result{TaskID: id, Status: s, Value: mark}
	if s.Exceptional() {
		r.Value, r.Exception = nil, &protocol.Exception{Module: "builtins", Type: "ValueError", Args: []protocol.Value{mark}}
	}
	if s.Ready() {
		r.DateDone = done
	}
	return b.record(r)
}

func (b *bench) record(r protocol.Result) resultbackend.Record {
	to := b.ReplyTo
	to.CorrelationID = r.TaskID
	return resultbackend.Record{Result: r, ReplyTo: to}
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), b.patience())
	b.Cleanup(cancel)
	return ctx
}

func (b *bench) store(r resultbackend.Record) {
	b.Helper()
	if err := b.Store(b.ctx(), r); err != nil {
		b.Fatalf("Store(%s): %v", r.Result.Status, err)
	}
}

func (b *bench) load(id string) protocol.Result {
	b.Helper()
	r, err := b.loader.Load(b.ctx(), id)
	if err != nil {
		b.Fatalf("Load: %v", err)
	}
	return r
}

// next is the next announced document, which must come.
func (b *bench) next(ch <-chan protocol.Result) protocol.Result {
	b.Helper()
	select {
	case r := <-ch:
		return r
	case <-time.After(b.patience()):
		b.Fatalf("nothing was announced within %v", b.patience())
		return protocol.Result{}
	}
}

// nothing checks that no document is announced.
func (b *bench) nothing(ch <-chan protocol.Result) {
	b.Helper()
	select {
	case r := <-ch:
		b.Errorf("announced %s, want nothing", text(b.T, r))
	case <-time.After(b.quiet()):
	}
}

// same compares two results as the documents that Python reads.
func (b *bench) same(got, want protocol.Result) {
	b.Helper()
	if diff := cmp.Diff(text(b.T, want), text(b.T, got)); diff != "" {
		b.Errorf("document (-want +got):\n%s", diff)
	}
}

// text is r as Celery writes it.
func text(t *testing.T, r protocol.Result) string {
	t.Helper()
	data, err := r.Encode(protocol.Encoding{})
	if err != nil {
		t.Fatalf("Encode: %v", err)
	}
	return string(data)
}

// mark is what state put into the record.
func mark(r protocol.Result) string {
	v := r.Value
	if r.Exception != nil && len(r.Exception.Args) == 1 {
		v = r.Exception.Args[0]
	}
	s, _ := v.(string)
	return s
}
