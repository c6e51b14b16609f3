package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

// locked is a broker that knows nobody.
type locked struct{}

func (locked) String() string { return "locked://" }
func (locked) Connect(context.Context) (transports.Conn, error) {
	return nil, fmt.Errorf("no: %w", transports.ErrCredentials)
}

func TestAWorkerThatNeverConsumedIsNotReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skip(err) // no such sockets here
	}
	defer server.Close()
	reg, err := handlers.NewRegistry(handlers.Func("hello", hello))
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan []string, 1)
	go func() { // ends with LAST, or with the socket
		var all []string
		for buf := make([]byte, 64); ; {
			n, err := server.Read(buf)
			if got := string(buf[:n]); err != nil || got == "LAST" {
				heard <- all
				return
			}
			all = append(all, string(buf[:n]))
		}
	}()
	var out output
	for range 20 { // what is looked at first is chance
		err = supervise(t.Context(), worker.Config{Transport: locked{}, Handlers: reg}, process{stdout: &out, stderr: &out, environ: []string{"NOTIFY_SOCKET=" + path}}, nil)
		if !errors.Is(err, transports.ErrCredentials) {
			t.Fatalf("the worker ended with %v", err)
		}
	}
	if err := sdNotify(path, "LAST"); err != nil {
		t.Fatal(err)
	}
	if all := <-heard; slices.Contains(all, "READY=1") {
		t.Errorf("systemd hears %q", all)
	}
}
