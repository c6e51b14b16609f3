package worker

import (
	"context"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func TestDecideInCelerysOrder(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ok := facts{known: true}
	with := func(change func(*facts)) facts {
		f := ok
		change(&f)
		return f
	}
	for _, tt := range []struct {
		name  string
		task  protocol.Task
		facts facts
		want  verdictKind
	}{
		{"a plain task starts", protocol.Task{}, ok, start},
		{"an unknown name is refused, not dropped", protocol.Task{Name: "x"}, with(func(f *facts) { f.known = false }), refuse},
		{"an unknown name is refused even when expired", protocol.Task{Expires: now.Add(-1)}, with(func(f *facts) { f.known = false }), refuse},
		{"revoked before expired", protocol.Task{Expires: now.Add(-1)}, with(func(f *facts) { f.revoked = true }), revoke},
		{"expired is strictly past", protocol.Task{Expires: now}, ok, start},
		{"expired", protocol.Task{Expires: now.Add(-time.Microsecond)}, ok, revoke},
		{"expired before its eta", protocol.Task{Expires: now.Add(-1), ETA: now.Add(time.Hour)}, ok, revoke},
		{"a future eta is held", protocol.Task{ETA: now.Add(time.Millisecond)}, ok, hold},
		{"a past eta starts at once", protocol.Task{ETA: now.Add(-time.Hour)}, ok, start},
		{"an eta beyond the clock is refused", protocol.Task{ETA: now.Add(200 * 365 * 24 * time.Hour)}, ok, refuse},
		{"a copy of a settled run is acked", protocol.Task{}, with(func(f *facts) { f.redelivered, f.settled = true, true }), settled},
		{"a second message of that id is not", protocol.Task{}, with(func(f *facts) { f.settled = true }), start},
		{"a copy of a running run waits", protocol.Task{}, with(func(f *facts) { f.redelivered, f.running = true, true }), duplicated},
		{"a second message of a running id runs", protocol.Task{}, with(func(f *facts) { f.running = true }), start},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := decide(now, &tt.task, tt.facts)
			if v.kind != tt.want {
				t.Errorf("decide = %v, want %v", v.kind, tt.want)
			}
			if told := v.kind == refuse; told != (v.refusal != nil) {
				t.Errorf("the caller is told %v", v.refusal)
			}
		})
	}
}

func TestLimitsOfMessageHandlerAndWorker(t *testing.T) {
	h := handlers.Func("x", func(context.Context, nothing) (int, error) { return 0, nil })
	second := time.Second
	for _, tt := range []struct {
		name       string
		task       protocol.Task
		options    handlers.Options
		cfg        Config
		soft, hard time.Duration
	}{
		{"none", protocol.Task{}, handlers.Options{}, Config{}, 0, 0},
		{"the worker's", protocol.Task{}, handlers.Options{}, Config{SoftLimit: 1 * second, HardLimit: 2 * second}, 1 * second, 2 * second},
		{"the handler's over the worker's", protocol.Task{}, handlers.Options{SoftLimit: 3 * second}, Config{SoftLimit: 1 * second, HardLimit: 2 * second}, 3 * second, 2 * second},
		{"the message's over all, each for itself", protocol.Task{HardLimit: 9 * second}, handlers.Options{SoftLimit: 3 * second, HardLimit: 4 * second}, Config{HardLimit: 2 * second}, 3 * second, 9 * second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j := &job{task: &tt.task, handler: h.With(tt.options), delivery: &transports.Delivery{}}
			if soft, hard := j.limits(&tt.cfg, newTimeLimits()); soft != tt.soft || hard != tt.hard {
				t.Errorf("limits = %v, %v; want %v, %v", soft, hard, tt.soft, tt.hard)
			}
		})
	}
}
