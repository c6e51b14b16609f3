package interop_test

import (
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// A proxy stands between a worker and its broker, so that their connection can be cut.
type proxy struct {
	target string
	lis    net.Listener

	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu
	down  bool              // guarded by mu: who comes is sent away
}

// through returns the setup whose workers reach the broker through a proxy; Python clients do not.
func (s setup) through(t *testing.T) (setup, *proxy) {
	t.Helper()
	u, err := url.Parse(s.broker)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: u.Host, lis: lis, conns: map[net.Conn]bool{}}
	go p.run() // ends with lis
	t.Cleanup(func() { lis.Close(); p.cut() })
	s.broker = strings.Replace(s.broker, u.Host, lis.Addr().String(), 1)
	return s, p
}

func (p *proxy) run() {
	for {
		in, err := p.lis.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil || !p.add(in, out) {
			in.Close()
			continue
		}
		for from, to := range map[net.Conn]net.Conn{in: out, out: in} {
			go func() { // ends with either connection
				io.Copy(to, from) //nolint:errcheck // how it ends does not matter
				from.Close()
				to.Close()
			}()
		}
	}
}

func (p *proxy) add(in, out net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		out.Close()
		return false
	}
	p.conns[in], p.conns[out] = true, true
	return true
}

// cut breaks every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

// stop cuts, and sends away who comes until start.
func (p *proxy) stop() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}
