package isolate

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// BenchmarkIsolated is one task in a warm child, beside BenchmarkInProcess: the difference is what isolation costs.
func BenchmarkIsolated(b *testing.B)  { benchmark(b, true) }
func BenchmarkInProcess(b *testing.B) { benchmark(b, false) }

func benchmark(b *testing.B, isolated bool) {
	for _, size := range []int{10, 100_000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			h := handlerNamed(b, "echo")
			if isolated {
				p := New(Config{})
				defer p.Close()
				h = p.Wrap(h)
			}
			args := []protocol.Value{strings.Repeat("x", size), int64(1)}
			t := &protocol.Task{ID: "id", Name: "echo", Args: args, Kwargs: &protocol.Object{}}
			ctx := handlers.NewContext(context.Background(), handlers.Info{ID: "id", Name: "echo", Args: args, Kwargs: t.Kwargs}, &host{})
			invoke := h.Invoke()
			if _, err := invoke(ctx, t); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := invoke(ctx, t); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStart is a child from nothing to its first result.
func BenchmarkStart(b *testing.B) {
	h := handlerNamed(b, "pid")
	for b.Loop() {
		p := New(Config{})
		if _, err := p.Wrap(h).Invoke()(context.Background(), &protocol.Task{Name: "pid"}); err != nil {
			b.Fatal(err)
		}
		p.Close()
	}
}

// BenchmarkIdleMemory tells what an idle child of this binary holds.
func BenchmarkIdleMemory(b *testing.B) {
	p := New(Config{})
	defer p.Close()
	h := p.Wrap(handlerNamed(b, "pid"))
	for b.Loop() {
		if _, err := h.Invoke()(context.Background(), &protocol.Task{Name: "pid"}); err != nil {
			b.Fatal(err)
		}
	}
	for _, pid := range p.PIDs() {
		n, _ := residentMemory(strconv.Itoa(pid))
		b.ReportMetric(float64(n)/(1<<20), "MiB-resident")
		break
	}
}
