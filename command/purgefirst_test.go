package command

import (
	"context"
	"errors"
	"testing"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
	"github.com/stalkworker/stalk/worker"
)

func TestPurgeEmptiesTheWorkersQueuesOnly(t *testing.T) {
	b := membroker.New()
	b.Declare("a", "b", "other")
	var log, out output
	purge := func() error {
		queues := []transports.Queue{{Name: "a"}, {Name: "b"}, {Name: "missing"}}
		return purgeFirst(t.Context(), worker.Config{Transport: b, Queues: queues}, newLog(&log, 0), process{stdout: &out})
	}
	for _, q := range []string{"a", "b", "b", "other"} {
		b.Send(q, protocol.Message{Body: []byte("x")})
	}
	if err := purge(); err != nil {
		t.Fatal(err)
	}
	b.Send("a", protocol.Message{Body: []byte("x")})
	if err := errors.Join(purge(), purge()); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "purge: Erased 3 messages from the queue.\n\npurge: Erased 1 message from the queue.\n\n"; got != want {
		t.Errorf("printed %q", got)
	}
	if b.Ready("a")+b.Ready("b") != 0 || b.Ready("other") != 1 {
		t.Errorf("left: a %d, b %d, other %d", b.Ready("a"), b.Ready("b"), b.Ready("other"))
	}
	b.Fail(membroker.Connect, -1, transports.ErrDisconnected)
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- purgeFirst(ctx, worker.Config{Transport: b}, newLog(&log, 0), process{stdout: &out}) }()
	log.wait(t, `ERROR/MainProcess\] purge: Connection error: .* Trying again in 2.00 seconds\.\.\.`)
	cancel()
	if err := <-end; !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("without a broker: %v", err)
	}
	no := worker.Config{Transport: b, Connection: worker.Connection{NoRetry: true}}
	if err := purgeFirst(t.Context(), no, newLog(&log, 0), process{stdout: &out}); !errors.Is(err, transports.ErrDisconnected) {
		t.Errorf("without a broker and without a second attempt: %v", err)
	}
}
