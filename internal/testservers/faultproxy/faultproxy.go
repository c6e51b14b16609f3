// Package faultproxy is a TCP proxy for tests that breaks connections in the ways networks and servers do: cut,
// frozen, slow, half a frame. It listens on loopback, and ends with its test.
package faultproxy

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// A Direction is one way through the proxy. The zero Direction means both.
type Direction int

// The two ways.
const (
	Both     Direction = iota
	ToServer           // what the client writes
	ToClient           // what the server writes
)

// A Proxy stands between clients and one server. Its methods may be called by several goroutines at a time, and
// take effect at once on the connections that there are and on later ones.
type Proxy struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	target  string
	conns   map[*pair]struct{}
	served  []*pair // every connection there was, in order
	refuse  bool
	frozen  [3]bool       // by Direction; Both unused
	rate    int           // bytes a second in each direction; 0: no limit
	delay   time.Duration // before each piece
	most    int           // bytes in one piece; 0: as they come
	cutIn   [3]int        // bytes that may still pass, of all connections together; counts when armed
	armed   [3]bool
	changed chan struct{} // closed and replaced when something above changes
	closed  bool
}

// A pair is one client's connection and the one to the server made for it.
type pair struct{ client, server net.Conn }

// New starts a proxy for the server at target (host:port). It ends with the test.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("faultproxy: %v", err)
	}
	p := &Proxy{listener: l, target: target, conns: map[*pair]struct{}{}, changed: make(chan struct{})}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.set(func() { p.closed = true })
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Addr is the address that stands for the server's.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Through is rawURL with the proxy's address in place of the server's.
func (p *Proxy) Through(t testing.TB, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatalf("faultproxy: %v", err)
	}
	u.Host = p.Addr()
	return u.String()
}

// Conns is how many connections are open.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Cut resets every connection (RST, not FIN). New ones are served.
func (p *Proxy) Cut() {
	p.set(func() {
		for c := range p.conns {
			c.reset()
		}
		clear(p.conns)
	})
}

// Refuse cuts every connection and hangs up on new ones, until Refuse(false).
func (p *Proxy) Refuse(on bool) {
	p.set(func() { p.refuse = on })
	if on {
		p.Cut()
	}
}

// Freeze lets no byte pass in direction d, until Thaw: connections stay open and new ones are taken, as with a host that is
// stopped or a firewall that forgot us. What is written meanwhile arrives after Thaw.
func (p *Proxy) Freeze(d Direction) {
	p.set(func() {
		for _, w := range ways(d) {
			p.frozen[w] = true
		}
	})
}

// Thaw ends Freeze.
func (p *Proxy) Thaw() { p.set(func() { p.frozen = [3]bool{} }) }

// Slow lets at most so many bytes a second pass in each direction of each connection, each piece of them delayed. Zeros
// end it.
func (p *Proxy) Slow(bytesPerSecond int, delay time.Duration) {
	p.set(func() { p.rate, p.delay = bytesPerSecond, delay })
}

// CutAfter lets n more bytes pass in direction d (not Both), counted over all connections, and then cuts every connection,
// once: half a frame.
func (p *Proxy) CutAfter(d Direction, n int) {
	p.set(func() { p.armed[d], p.cutIn[d] = true, n })
}

// Pieces passes at most n bytes on at a time, so that frames are split anywhere. 0 ends it.
func (p *Proxy) Pieces(n int) { p.set(func() { p.most = n }) }

// Inject writes bytes that nobody sent to one end of the n-th connection that was ever served, counted from 0: to its
// client (ToClient) or to the server. Nothing else may be on its way in that direction.
func (p *Proxy) Inject(t testing.TB, n int, d Direction, b []byte) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if n >= len(p.served) {
		t.Fatalf("faultproxy: there were %d connections, want one with number %d", len(p.served), n)
	}
	to := p.served[n].client
	if d == ToServer {
		to = p.served[n].server
	}
	if _, err := to.Write(b); err != nil {
		t.Fatalf("faultproxy: %v", err)
	}
}

// Target sends later connections to another server, as a failover behind one address does.
func (p *Proxy) Target(addr string) { p.set(func() { p.target = addr }) }

func ways(d Direction) []Direction {
	if d == Both {
		return []Direction{ToServer, ToClient}
	}
	return []Direction{d}
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	target, refuse := p.target, p.refuse
	p.mu.Unlock()
	c := &pair{client: client}
	if refuse {
		c.reset()
		return
	}
	server, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		c.reset()
		return
	}
	c.server = server
	p.mu.Lock()
	late := p.refuse || p.closed
	if !late {
		p.conns[c] = struct{}{}
		p.served = append(p.served, c)
	}
	p.mu.Unlock()
	if late {
		c.reset()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(c, server, client, ToServer) })
	wg.Go(func() { p.copy(c, client, server, ToClient) })
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	client.Close()
	server.Close()
}

// copy passes bytes one way until a side ends, and then ends both: neither protocol half-closes.
func (p *Proxy) copy(c *pair, to, from net.Conn, d Direction) {
	defer func() { to.Close(); from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.pass(c, to, buf[:n], d) {
			return
		}
		if err != nil {
			if err != io.EOF {
				c.reset()
			}
			return
		}
	}
}

// pass writes one piece under the faults of the moment. It reports false when the connection is over.
func (p *Proxy) pass(c *pair, to net.Conn, piece []byte, d Direction) bool {
	for len(piece) > 0 {
		p.mu.Lock()
		frozen, rate, delay, most, changed, closed := p.frozen[d], p.rate, p.delay, p.most, p.changed, p.closed
		_, open := p.conns[c]
		n := len(piece)
		cut := false
		if !frozen {
			if rate > 0 {
				n = min(n, max(1, rate/20))
			}
			if most > 0 {
				n = min(n, most)
			}
			if p.armed[d] {
				n = min(n, p.cutIn[d])
				p.cutIn[d] -= n
				if cut = p.cutIn[d] == 0; cut {
					p.armed[d] = false
				}
			}
		}
		p.mu.Unlock()
		switch {
		case closed || !open:
			return false
		case frozen:
			<-changed
			continue
		}
		if rate > 0 {
			delay += time.Duration(n) * time.Second / time.Duration(rate)
		}
		if delay > 0 {
			time.Sleep(delay)
		}
		if _, err := to.Write(piece[:n]); err != nil {
			return false
		}
		if cut {
			// What was let through is to arrive: a reset would throw away what the kernel still holds.
			time.Sleep(10 * time.Millisecond)
			p.Cut()
			return false
		}
		piece = piece[n:]
	}
	return true
}

// reset ends both sides with RST.
func (c *pair) reset() {
	for _, conn := range []net.Conn{c.client, c.server} {
		if conn == nil {
			continue
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
}
