package worker

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

// BenchmarkTask is what the worker itself costs for one small task: broker and result store are in memory, and the
// store takes as long as a server's answer does.
func BenchmarkTask(b *testing.B) {
	for _, took := range []time.Duration{0, 300 * time.Microsecond} {
		b.Run(fmt.Sprintf("store=%v", took), func(b *testing.B) {
			reg, err := handlers.NewRegistry(handlers.Func("bench.add", func(_ context.Context, in struct{ X, Y int }) (int, error) {
				return in.X + in.Y, nil
			}))
			if err != nil {
				b.Fatal(err)
			}
			broker := membroker.New()
			broker.Declare("q")
			for i := range b.N {
				task := protocol.Task{ID: fmt.Sprintf("%036d", i), Name: "bench.add", Args: []protocol.Value{int64(1), int64(2)}, Kwargs: &protocol.Object{}}
				m, err := task.Encode(protocol.Encoding{}, time.Now())
				if err != nil {
					b.Fatal(err)
				}
				broker.Send("q", m)
			}
			store := &slowStore{took: took, want: int64(b.N), all: make(chan struct{})}
			w, err := New(Config{
				Transport: broker, Handlers: reg, Results: store, Queues: []transports.Queue{{Name: "q"}},
				Concurrency: 2, Events: Events{NoHeartbeat: true, NoMingle: true, NoGossip: true},
			})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			b.ReportAllocs()
			b.ResetTimer()
			before := cpuTime(b)
			go func() { ended <- w.Run(ctx) }()
			<-store.all
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op") // holds beside a busy neighbor, too
			cancel()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// A slowStore answers after a while and keeps nothing.
type slowStore struct {
	resultbackend.Backend
	took       time.Duration
	want, have int64
	all        chan struct{}
}

func (s *slowStore) Store(context.Context, resultbackend.Record) error {
	if s.took > 0 {
		time.Sleep(s.took)
	}
	if atomic.AddInt64(&s.have, 1) == s.want {
		close(s.all)
	}
	return nil
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
