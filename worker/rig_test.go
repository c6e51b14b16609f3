package worker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// A rig is a worker between an in-memory broker and an in-memory store. Use it inside a synctest bubble.
type rig struct {
	t       *testing.T
	broker  *membroker.Broker
	results *memresult.Backend
	w       *Worker
	cancel  context.CancelFunc
	log     *logBuffer
	ended   bool
	end     chan error
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a worker with one slot over the handlers; change may alter its Config.
func startRig(t *testing.T, change func(*Config), hs ...handlers.Handler) *rig {
	t.Helper()
	reg, err := handlers.NewRegistry(hs...)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, broker: membroker.New(), results: memresult.New(), log: &logBuffer{}, end: make(chan error, 1)}
	r.broker.Declare("q")
	cfg := Config{
		Transport: r.broker, Handlers: reg, Results: r.results, Queues: []transports.Queue{{Name: "q", Create: true}},
		Concurrency: 1, Node: "w1@test", Events: Events{NoHeartbeat: true, NoMingle: true, NoGossip: true}, Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	r.w, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.end <- r.w.Run(ctx) }()
	t.Cleanup(func() { r.stop() })
	return r
}

// stop asks for a warm shutdown and waits for Run.
func (r *rig) stop() error {
	if r.ended {
		return nil
	}
	r.ended = true
	r.cancel()
	err := <-r.end
	if n := r.w.Stats().Unsettled; n != 0 && err == nil {
		r.t.Errorf("after a clean end %d deliveries count as unsettled: a path forgets meter.gone", n)
	}
	return err
}

// a task message for the rig.
func message(t *testing.T, task protocol.Task) protocol.Message {
	t.Helper()
	if task.Args == nil {
		task.Args = []protocol.Value{}
	}
	if task.Kwargs == nil {
		task.Kwargs = &protocol.Object{}
	}
	m, err := task.Encode(protocol.Encoding{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m.RoutingKey = "q"
	return m
}

func (r *rig) send(task protocol.Task) {
	r.t.Helper()
	r.broker.Send("q", message(r.t, task))
}

// result is the stored document; the test fails when there is none.
func (r *rig) result(id string) protocol.Result {
	r.t.Helper()
	res, err := r.results.Load(r.t.Context(), id)
	if err != nil {
		r.t.Fatalf("result of %s: %v\nlog:\n%s", id, err, r.log)
	}
	return res
}

func (r *rig) wantState(id string, want protocol.State) protocol.Result {
	r.t.Helper()
	res := r.result(id)
	if res.Status != want {
		r.t.Fatalf("state of %s = %s, want %s (%v)\nlog:\n%s", id, res.Status, want, res.Exception, r.log)
	}
	return res
}

func (r *rig) wantException(id, class string) *protocol.Exception {
	r.t.Helper()
	res := r.wantState(id, protocol.Failure)
	if res.Exception == nil || res.Exception.Type != class {
		r.t.Fatalf("exception of %s = %v, want %s", id, res.Exception, class)
	}
	return res.Exception
}

func (r *rig) wantQueue(queue string, ready, unsettled int) {
	r.t.Helper()
	synctest.Wait()
	if a, b := r.broker.Ready(queue), r.broker.Unsettled(queue); a != ready || b != unsettled {
		r.t.Fatalf("queue %s holds %d ready and %d unsettled messages, want %d and %d\nlog:\n%s", queue, a, b, ready, unsettled, r.log)
	}
}

func (r *rig) wantLog(part string) {
	r.t.Helper()
	if !strings.Contains(r.log.String(), part) {
		r.t.Fatalf("the log does not say %q:\n%s", part, r.log)
	}
}

type nothing struct{}

// double is the plainest of tasks.
func double(_ context.Context, in struct {
	X int `json:"x"`
},
) (int, error) {
	return 2 * in.X, nil
}

func args(vs ...protocol.Value) []protocol.Value { return vs }

// sleeper waits until its context ends or d has passed.
func sleeper(d time.Duration) func(context.Context, nothing) (string, error) {
	return func(ctx context.Context, _ nothing) (string, error) {
		select {
		case <-time.After(d):
			return "slept", nil
		case <-ctx.Done():
			return "", fmt.Errorf("sleeper: %w", ctx.Err())
		}
	}
}

// pass lets fake time go by until everybody is blocked again; what they wrote may then be read.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
