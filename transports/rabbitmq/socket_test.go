package rabbitmq

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A wire is the other end of a socket under test: it notes each write, and holds them up while it is shut.
type wire struct {
	net.Conn // nil: what is not implemented is not called
	in       io.Reader

	mu     sync.Mutex
	cond   *sync.Cond
	shut   bool
	writes [][]byte
	began  int // writes, also those held up
	err    error
	closed bool
}

func newWire(in []byte) *wire {
	w := &wire{in: bytes.NewReader(in)}
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *wire) Read(p []byte) (int, error) { return w.in.Read(p) }

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began++
	w.cond.Broadcast()
	for w.shut && !w.closed {
		w.cond.Wait()
	}
	if w.closed {
		return 0, net.ErrClosed
	}
	if w.err != nil {
		return 0, w.err
	}
	w.writes = append(w.writes, bytes.Clone(p))
	return len(p), nil
}

func (w *wire) Close() error {
	w.set(func() { w.closed = true })
	return nil
}

func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

func (w *wire) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	w.cond.Broadcast()
}

// held waits until the nth write has begun.
func (w *wire) held(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.began < n {
		w.cond.Wait()
	}
}

// A bin keeps what a line receives.
type bin struct {
	mu      sync.Mutex
	got     []content
	tags    []uint64
	again   []bool
	returns []string
}

func (b *bin) deliver(d content, tag uint64, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got, b.tags, b.again = append(b.got, d), append(b.tags, tag), append(b.again, again)
}

func (b *bin) returned(d content, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got, b.returns = append(b.got, d), append(b.returns, why)
}

// driverMethod is a method frame as the driver writes it.
func driverMethod(channel uint16, m method, rest ...byte) []byte {
	f := frame(typeMethod, append([]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}, rest...))
	f[1], f[2] = byte(channel>>8), byte(channel)
	return f
}

// tappedSocket is a socket whose channel 1 is a line. What has been written until then is forgotten.
func tappedSocket(t *testing.T, w *wire, b *bin) (*socket, *line) {
	t.Helper()
	s := newSocket(w)
	t.Cleanup(func() { _ = s.Close() })
	l, err := s.attach(basicQos, b, func() error {
		_, err := s.Write(append([]byte("AMQP\x00\x00\x09\x01"), driverMethod(1, basicQos, 0)...))
		return errors.Join(err, (&line{s: s}).flush())
	})
	if err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.writes = nil })
	return s, l
}

// hold makes deliveries with the tags 1 to n.
func (l *line) hold(n int) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for i := range n {
		l.tags = append(l.tags, tagged{tag: uint64(i + 1)})
	}
}

func ackFrame(tag uint64, multiple bool) []byte {
	bits := byte(0)
	if multiple {
		bits = 1
	}
	return appendSettling(nil, 1, basicAck, tag, bits)
}

func TestAcknowledgementsAreMerged(t *testing.T) {
	one := func(tag uint64) []byte { return ackFrame(tag, false) }
	upTo := func(tag uint64) []byte { return ackFrame(tag, true) }
	for _, tt := range []struct {
		name   string
		rounds [][]uint64 // asked for in one write each
		want   [][]byte   // what each writes
	}{
		{"a lone one is single", [][]uint64{{1}}, [][]byte{one(1)}},
		{"from the lowest on", [][]uint64{{1, 2, 3}}, [][]byte{upTo(3)}},
		{"in whatever order", [][]uint64{{3, 1, 2}}, [][]byte{upTo(3)}},
		{"not beyond one that is not done", [][]uint64{{1, 2, 4}}, [][]byte{append(upTo(2), one(4)...)}},
		{"none without the lowest", [][]uint64{{2, 3}}, [][]byte{append(one(2), one(3)...)}},
		{"the lowest comes late", [][]uint64{{2, 3}, {1}}, [][]byte{append(one(2), one(3)...), one(1)}},
		{"across what is settled", [][]uint64{{2}, {1, 3, 4}}, [][]byte{one(2), upTo(4)}},
		{"all, one by one", [][]uint64{{6}, {5}, {4}, {3}, {2}, {1}}, [][]byte{one(6), one(5), one(4), one(3), one(2), one(1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(nil)
			s, l := tappedSocket(t, w, &bin{})
			l.hold(6)
			for _, round := range tt.rounds {
				s.mu.Lock() // all of a round are asked for before anything is written
				for _, tag := range round {
					at, ok := l.find(tag)
					if !ok {
						t.Fatalf("%d is not held", tag)
					}
					l.ask(at, tag)
				}
				if err := s.written(); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, w.writes); diff != "" {
				t.Error(diff)
			}
			for _, round := range tt.rounds {
				for _, tag := range round {
					if err := l.ack(tag); !errors.Is(err, errGone) {
						t.Errorf("%d twice: %v", tag, err)
					}
				}
			}
		})
	}
}

// One that takes long in front costs nothing for those behind it.
func TestSettledDeliveriesAreForgotten(t *testing.T) {
	_, l := tappedSocket(t, newWire(nil), &bin{})
	for tag := uint64(1); tag <= 1000; tag++ {
		l.s.mu.Lock()
		l.tags = append(l.tags, tagged{tag: tag})
		l.s.mu.Unlock()
		var err error
		switch {
		case tag == 1:
		case tag%3 == 0:
			err = l.reject(basicNack, tag, true)
		default:
			err = l.ack(tag)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.tags); n > 130 {
		t.Errorf("%d deliveries are remembered, one is held", n)
	}
	if err := l.ack(1); err != nil {
		t.Error(err)
	}
}

// What comes while a write is under way goes out with the next one, the driver's frames and ours.
func TestWritesMeet(t *testing.T) {
	w := newWire(nil)
	s, l := tappedSocket(t, w, &bin{})
	l.hold(20)
	w.set(func() { w.shut, w.began = true, 0 })
	if _, err := s.Write(driverMethod(2, channelOpen, 0)); err != nil {
		t.Fatal(err)
	}
	w.held(1)
	var acks sync.WaitGroup
	for tag := uint64(1); tag <= 20; tag++ {
		acks.Go(func() {
			if err := l.ack(tag); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all are asked for", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(l.asked) == 20
	})
	if _, err := s.Write(driverMethod(1, channelClose, 0)); err != nil {
		t.Fatal(err)
	}
	if err := l.ack(21); !errors.Is(err, errGone) {
		t.Errorf("on a channel that is being closed: %v", err)
	}
	w.set(func() { w.shut = false })
	acks.Wait()
	want := [][]byte{driverMethod(2, channelOpen, 0), append(ackFrame(20, true), driverMethod(1, channelClose, 0)...)}
	if diff := cmp.Diff(want, w.writes); diff != "" {
		t.Error(diff)
	}
}

func TestAFailedWriteEndsTheSocket(t *testing.T) {
	w := newWire(nil)
	s, l := tappedSocket(t, w, &bin{})
	l.hold(3)
	broken := errors.New("broken")
	w.set(func() { w.shut, w.err, w.began = true, broken, 0 })
	errs := make(chan error, 3)
	go func() { errs <- l.ack(1) }()
	w.held(1)
	go func() { errs <- l.ack(2) }() // for the next write, which will not be
	go func() { errs <- l.reject(basicReject, 3, true) }()
	eventually(t, "all wait", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(l.asked) == 1 && len(s.pending) > 0
	})
	w.set(func() { w.shut = false })
	for range 3 {
		if err := <-errs; !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
	<-s.ended
	if err := l.ack(3); err == nil {
		t.Error("acknowledged on a broken socket")
	}
	if _, err := s.Write(driverMethod(1, channelClose)); !errors.Is(err, broken) {
		t.Errorf("Write: %v", err)
	}
	if _, err := s.Read(make([]byte, 10)); !errors.Is(err, broken) {
		t.Errorf("Read: %v", err)
	}
	if _, err := l.publish(nil, &outgoing{}, frameMax); !errors.Is(err, broken) {
		t.Errorf("publish: %v", err)
	}
}

// A broker that reads nothing is not offered more and more.
func TestABrokerThatDoesNotRead(t *testing.T) {
	w := newWire(nil)
	s, l := tappedSocket(t, w, &bin{})
	w.set(func() { w.shut = true })
	o := &outgoing{key: "q", message: amqp.Publishing{Body: make([]byte, 100_000)}}
	stop := make(chan struct{})
	close(stop)
	n := 0
	for ; n < 100; n++ {
		if _, err := l.publish(stop, o, frameMax); err != nil {
			break
		}
	}
	if n < 10 || n > 30 {
		t.Errorf("%d messages of 100 kB were taken", n)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := l.publish(nil, o, frameMax)
		waiting <- err
	}()
	w.set(func() { w.shut = false })
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	w.set(func() { w.shut = true })
	_, _ = s.Write(driverMethod(3, channelOpen))
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	w.set(func() { w.closed = true }) // as its deadline does
	<-closed
	if _, err := s.Write(driverMethod(3, channelOpen)); err == nil {
		t.Error("Write after Close")
	}
}

func TestClosingWritesWhatIsPending(t *testing.T) {
	w := newWire(nil)
	s, _ := tappedSocket(t, w, &bin{})
	for range 100 {
		if _, err := s.Write(driverMethod(0, connectionCloseOK)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := len(bytes.Join(w.writes, nil)); n != 100*len(driverMethod(0, connectionCloseOK)) {
		t.Errorf("%d octets were written", n)
	}
	if err := s.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
}
