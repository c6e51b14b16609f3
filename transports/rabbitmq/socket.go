package rabbitmq

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// The driver makes a connection, its channels and whatever is declared. What there are many of goes past it, through
// the same socket: deliveries, acknowledgements, publishes and their confirms (see line). The driver takes tens of
// microseconds and hundreds of allocations for each of them, and one system call.
//
// What is written meets in one buffer, the driver's frames and ours, and one goroutine writes it: what comes while it
// writes goes out together with the next write. It first lets everybody run who can; that is a matter of microseconds,
// and nobody waits for a frame that is not there yet.

const (
	// writeTimeout bounds one write to the socket. Without it a broker that has stopped reading would hold every
	// goroutine that publishes or acknowledges, and Close.
	writeTimeout = 10 * time.Second
	// writeMost is how much one write takes: what is slow, but not stuck, must not be taken for stuck.
	writeMost = 64 << 10
	// pendingMost is how much may wait to be written before more is taken. One message may go beyond it.
	pendingMost = 1 << 20
	// keptBuffer is the size from which on a buffer is not kept for later.
	keptBuffer = 256 << 10
	// closeFlush bounds what the end of a socket waits for what has not been written.
	closeFlush = 500 * time.Millisecond
)

// errGone: nothing can be written any more.
var errGone = errors.New("the channel or the connection is closed")

// A socket is the network connection as the driver sees it.
type socket struct {
	net.Conn
	in    frameReader               // used by the driver's reader alone
	limit atomic.Pointer[time.Time] // deadline set by the driver; nil or zero: none
	by    atomic.Pointer[time.Time] // the write deadline that was set last; nil: look again
	wake  chan struct{}             // capacity 1: something is pending
	ended chan struct{}             // closed when the writer has ended
	claim chan struct{}             // capacity 1: held by attach

	mu      sync.Mutex
	out     frameWriter   // what the driver writes
	pending []byte        // whole frames
	spare   []byte        // what pending was before
	batch   *batch        // that pending and dirty will be; nil: nobody waits for it
	dirty   []*line       // those with acknowledgements to be written
	room    chan struct{} // closed when pending has been taken; nil: nobody waits for that
	lines   map[uint16]*line
	want    method // that attach waits for; 0: none
	seen    *line  // of the channel it was written on
	sink    sink   // of a new one
	closing bool
	err     error // of the write that failed
}

// A batch is what is written at once.
type batch struct {
	done chan struct{}
	err  error // once done is closed
}

func newSocket(c net.Conn) *socket {
	s := &socket{
		Conn: c, wake: make(chan struct{}, 1), ended: make(chan struct{}), claim: make(chan struct{}, 1), lines: map[uint16]*line{},
	}
	s.in = frameReader{r: c, tap: s}
	s.out = frameWriter{greeting: protocolHeader, emit: s.emit}
	go s.write()
	return s
}

// Read is the driver's. It returns nothing of what is ours.
func (s *socket) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	if err != nil {
		s.mu.Lock()
		if s.err != nil { // that is why the socket is closed
			err = s.err
		}
		s.mu.Unlock()
	}
	return n, err
}

// Write is the driver's. It returns when p will be written, or when nothing will be any more.
func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admit(nil); err != nil {
		return 0, err
	}
	s.settle() // what was acknowledged before a channel is closed, is so
	s.out.write(p)
	s.signal()
	return len(p), nil
}

// emit takes a whole frame of the driver's. The caller holds mu.
func (s *socket) emit(frame []byte) {
	if m, channel := methodOf(frame); m != 0 {
		s.watch(m, channel)
	}
	s.pending = append(s.pending, frame...)
}

// watch follows what the driver does to its channels. The caller holds mu.
func (s *socket) watch(m method, channel uint16) {
	switch m {
	case s.want:
		if s.lines[channel] == nil {
			s.lines[channel] = &line{s: s, id: channel, open: true, sink: s.sink}
		}
		s.seen = s.lines[channel]
	case channelClose, channelCloseOK:
		if l := s.lines[channel]; l != nil {
			l.open = false
		}
	case connectionClose, connectionCloseOK:
		for _, l := range s.lines {
			l.open = false
		}
	case channelOpen: // the number is used again
		delete(s.lines, channel)
	}
}

// attach returns the line of the channel on which the driver writes m while do runs. Only one channel at a time may
// do so: m is written nowhere else in this package.
func (s *socket) attach(m method, to sink, do func() error) (*line, error) {
	s.claim <- struct{}{}
	defer func() { <-s.claim }()
	s.mu.Lock()
	s.want, s.seen, s.sink = m, nil, to
	s.mu.Unlock()
	err := do()
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.seen
	s.want, s.seen, s.sink = 0, nil, nil
	if l == nil {
		return nil, errors.Join(err, errGone)
	}
	return l, err
}

// admit waits until there is room for more, or until stop is closed. The caller holds mu, which is given up meanwhile.
func (s *socket) admit(stop <-chan struct{}) error {
	for {
		switch {
		case s.err != nil:
			return s.err
		case s.closing:
			return net.ErrClosed
		case len(s.pending) < pendingMost:
			return nil
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-stop:
			s.mu.Lock()
			return errGone
		}
		s.mu.Lock()
	}
}

// settle turns what is to be acknowledged into frames. The caller holds mu.
func (s *socket) settle() {
	for i, l := range s.dirty {
		s.pending = l.appendAcks(s.pending)
		s.dirty[i] = nil
	}
	s.dirty = s.dirty[:0]
}

// current is the batch that is collected. The caller holds mu.
func (s *socket) current() *batch {
	if s.batch == nil {
		s.batch = &batch{done: make(chan struct{})}
	}
	return s.batch
}

func (s *socket) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// write writes until the socket is closed or broken.
func (s *socket) write() {
	defer close(s.ended)
	for range s.wake {
		for {
			runtime.Gosched() // whoever has something to write writes it together with this
			frames, b, over := s.take()
			if b == nil && len(frames) == 0 {
				if over {
					return
				}
				break
			}
			err := s.put(frames)
			if err != nil {
				s.fail(err)
			}
			s.done(frames, b, err)
			if err != nil {
				return
			}
		}
	}
}

// take is what is to be written now. over: there will be nothing more.
func (s *socket) take() (frames []byte, b *batch, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	frames, b = s.pending, s.batch
	s.pending, s.spare, s.batch = s.spare[:0], nil, nil
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	return frames, b, s.closing
}

// put writes frames.
func (s *socket) put(frames []byte) error {
	for len(frames) > 0 {
		s.bound()
		n, err := s.Conn.Write(frames[:min(len(frames), writeMost)])
		if err != nil {
			return err
		}
		frames = frames[n:]
	}
	return nil
}

// bound sets the deadline of the next write, unless one of about the same time is set.
func (s *socket) bound() {
	now := time.Now()
	by := now.Add(writeTimeout)
	if limit := s.limit.Load(); limit != nil && !limit.IsZero() && limit.Before(by) {
		by = *limit
	} else if last := s.by.Load(); last != nil && by.Sub(*last) < writeTimeout/10 {
		return
	}
	s.by.Store(&by)
	_ = s.Conn.SetWriteDeadline(by) // if it cannot be set the write fails too
}

// done tells those who wait for b, and keeps the buffer.
func (s *socket) done(frames []byte, b *batch, err error) {
	if b != nil {
		b.err = err
		close(b.done)
	}
	if cap(frames) <= keptBuffer {
		s.mu.Lock()
		s.spare = frames[:0]
		s.mu.Unlock()
	}
}

// fail ends the socket after a write that failed: some of it may have been written. The driver's reader notices.
func (s *socket) fail(err error) {
	s.mu.Lock()
	s.err = err
	b := s.batch
	s.batch, s.pending, s.dirty = nil, nil, nil
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
	s.mu.Unlock()
	if b != nil {
		b.err = err
		close(b.done)
	}
	_ = s.Conn.Close()
}

// SetDeadline is how the driver bounds its handshakes.
func (s *socket) SetDeadline(t time.Time) error {
	s.limit.Store(&t)
	s.by.Store(nil)
	return s.Conn.SetDeadline(t)
}

// Close writes what is pending, if that does not take long, and returns when nobody uses the connection any more.
func (s *socket) Close() error {
	s.mu.Lock()
	again := s.closing
	s.closing = true
	for _, l := range s.lines {
		l.open = false
	}
	s.mu.Unlock()
	if !again {
		by := time.Now().Add(closeFlush)
		s.limit.Store(&by)
		_ = s.Conn.SetWriteDeadline(by)
		s.signal()
	}
	<-s.ended
	return s.Conn.Close()
}

var _ io.ReadWriteCloser = (*socket)(nil)
