package command

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/transports/membroker"
	"github.com/stalkworker/stalk/worker"
)

// elsewhere is a listener that says that it listens on an address of the network.
type elsewhere struct{ net.Listener }

func (elsewhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9808} }

func TestWhatOthersCanReachIsWarnedOf(t *testing.T) {
	registry, err := handlers.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(worker.Config{Transport: membroker.New(), Handlers: registry})
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, tt := range []struct {
		name  string
		front front
		want  []string
	}{
		{"this machine only", front{metrics: listen(), pprof: listen()}, nil},
		{"health and metrics", front{metrics: elsewhere{listen()}, pprof: listen()}, []string{"health and metrics can be reached from other machines"}},
		{"both", front{metrics: elsewhere{listen()}, pprof: elsewhere{listen()}}, []string{"health and metrics can be", "the profiler can be"}},
	} {
		var log bytes.Buffer
		tt.front.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		tt.front.serve(w)()
		if n := strings.Count(log.String(), "level=WARN"); n != len(tt.want) {
			t.Errorf("%s: %d warnings, want %d:\n%s", tt.name, n, len(tt.want), &log)
		}
		for _, line := range tt.want {
			if !strings.Contains(log.String(), line) {
				t.Errorf("%s: no %q in\n%s", tt.name, line, &log)
			}
		}
	}
}
