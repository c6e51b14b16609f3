package faultproxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
)

// echo is a server that sends back what it reads.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *faultproxy.Proxy) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c, bufio.NewReader(c)
}

func say(t *testing.T, c net.Conn, r *bufio.Reader, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatalf("Write: %v", err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v; want %q", got, err, text)
	}
}

// hungUp wants a new connection to end at once, perhaps while it is made.
func hungUp(t *testing.T, p *faultproxy.Proxy) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a new connection: %v, want it ended", err)
	}
}

func TestCut(t *testing.T) {
	p := faultproxy.New(t, echo(t))
	c, r := dial(t, p)
	say(t, c, r, "hello")
	if n := p.Conns(); n != 1 {
		t.Errorf("Conns() = %d, want 1", n)
	}
	p.Cut()
	if _, err := r.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after Cut: %v, want a reset", err)
	}
	c, r = dial(t, p)
	say(t, c, r, "again")
}

func TestRefuse(t *testing.T) {
	p := faultproxy.New(t, echo(t))
	c, r := dial(t, p)
	say(t, c, r, "hello")
	p.Refuse(true)
	if _, err := r.ReadByte(); err == nil {
		t.Error("the connection lives")
	}
	hungUp(t, p)
	p.Refuse(false)
	c, r = dial(t, p)
	say(t, c, r, "again")
}

func TestFreeze(t *testing.T) {
	for _, d := range []faultproxy.Direction{faultproxy.Both, faultproxy.ToServer, faultproxy.ToClient} {
		p := faultproxy.New(t, echo(t))
		c, r := dial(t, p)
		say(t, c, r, "hello")
		p.Freeze(d)
		if _, err := c.Write([]byte("later")); err != nil {
			t.Fatalf("Write: %v", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := r.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("frozen %d: %v, want silence", d, err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		p.Thaw()
		got := make([]byte, 5)
		if _, err := io.ReadFull(r, got); err != nil || string(got) != "later" {
			t.Errorf("after Thaw: %q, %v", got, err)
		}
	}
}

func TestCutAfter(t *testing.T) {
	p := faultproxy.New(t, echo(t))
	c, r := dial(t, p)
	say(t, c, r, "hello")
	p.CutAfter(faultproxy.ToClient, 3)
	if _, err := c.Write([]byte("half a frame")); err != nil {
		t.Fatalf("Write: %v", err)
	}
	got, err := io.ReadAll(r)
	if string(got) != "hal" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q, %v; want hal and a reset", got, err)
	}
	c, r = dial(t, p)
	say(t, c, r, "once only")
}

func TestSlowAndTarget(t *testing.T) {
	p := faultproxy.New(t, "127.0.0.1:1")
	hungUp(t, p)
	p.Target(echo(t))
	c, r := dial(t, p)
	p.Slow(1000, 0)
	began := time.Now()
	say(t, c, r, string(make([]byte, 200))) // both ways
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("400 bytes at 1,000 a second took %v", took)
	}
	p.Slow(0, 0)
	say(t, c, r, string(make([]byte, 100_000)))
}

func TestPiecesAndInject(t *testing.T) {
	p := faultproxy.New(t, echo(t))
	p.Pieces(3)
	c, r := dial(t, p)
	say(t, c, r, "in pieces")
	p.Inject(t, 0, faultproxy.ToClient, []byte("injected"))
	got := make([]byte, len("injected"))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "injected" {
		t.Fatalf("read %q, %v", got, err)
	}
	p.Inject(t, 0, faultproxy.ToServer, []byte("to the server")) // which echoes it
	got = make([]byte, len("to the server"))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "to the server" {
		t.Fatalf("read %q, %v", got, err)
	}
}
