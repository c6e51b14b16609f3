package command

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestSystemdIsToldWhereItAsks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skip(err) // no such sockets here
	}
	defer server.Close()
	if err := sdNotify(path, "READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	server.SetReadDeadline(time.Now().Add(60 * time.Second)) //nolint:errcheck // the read tells
	n, err := server.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("systemd hears %q, %v", buf[:n], err)
	}
	if err := sdNotify("", "READY=1"); err != nil {
		t.Errorf("without a socket: %v", err)
	}
	if err := sdNotify(path+".none", "READY=1"); err == nil {
		t.Error("a socket that is not there is no error")
	}
}

func TestASystemdThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skip(err) // no such sockets here
	}
	defer server.Close()
	full := make(chan error, 1)
	go func() {
		for range 5000 {
			if err := sdNotify(path, "READY=1"); err != nil {
				full <- err
				return
			}
		}
		full <- nil
	}()
	select {
	case err := <-full:
		if err == nil {
			t.Skip("the socket takes everything")
		}
	case <-time.After(60 * time.Second):
		t.Fatal("sdNotify hangs")
	}
}
