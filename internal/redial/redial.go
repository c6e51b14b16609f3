// Package redial keeps one connection to a broker for those who only publish now and then: it is dialled
// when first needed, and again when it is needed and was found broken. Nothing runs in between.
//
// The worker does not use it: it must know at once when its connection breaks, and dials for ever.
package redial

import (
	"context"
	"errors"
	"sync"

	"github.com/stalkworker/stalk/transports"
)

// ErrClosed: the Line was closed.
var ErrClosed = errors.New("redial: closed")

// A Line is the connection. It is safe for concurrent use; New makes one.
type Line struct {
	transport transports.Transport

	dialling chan struct{}      // capacity 1: held by who dials or closes; conn is replaced under it
	life     context.Context    // ends at Close
	end      context.CancelFunc // ends life

	mu   sync.Mutex
	conn transports.Conn // guarded by mu; nil before the first Conn and after Close
}

// New returns a Line, which connects at the first Conn.
func New(t transports.Transport) *Line {
	l := &Line{transport: t, dialling: make(chan struct{}, 1)}
	l.life, l.end = context.WithCancel(context.Background())
	return l
}

// Conn returns the living connection, or dials one, once. Of many callers one dials, the others wait. An
// error is ErrClosed, that of ctx, or that of Connect.
func (l *Line) Conn(ctx context.Context) (transports.Conn, error) {
	if err := l.Over(ctx); err != nil {
		return nil, err
	}
	if conn := l.living(); conn != nil {
		return conn, nil
	}
	select {
	case l.dialling <- struct{}{}:
		defer func() { <-l.dialling }()
	case <-ctx.Done():
		return nil, l.Over(ctx)
	case <-l.life.Done():
		return nil, l.Over(ctx)
	}
	if err := l.Over(ctx); err != nil {
		return nil, err
	}
	if conn := l.living(); conn != nil { // somebody else dialled meanwhile
		return conn, nil
	}
	if old := l.swap(nil); old != nil {
		_ = old.Close() // it is broken: only its goroutines are waited for
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.life, cancel)()
	conn, err := l.transport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	l.swap(conn)
	return conn, nil
}

// living is the connection unless it is broken.
func (l *Line) living() transports.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil
	}
	select {
	case <-l.conn.Done():
		return nil
	default:
		return l.conn
	}
}

func (l *Line) swap(conn transports.Conn) (old transports.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, l.conn = l.conn, conn
	return old
}

// Over is ErrClosed when the Line was closed, or the error of ctx.
func (l *Line) Over(ctx context.Context) error {
	if l.life.Err() != nil {
		return ErrClosed
	}
	return ctx.Err()
}

// Close ends the connection and waits for it. A Conn under way gives up. It may be called again.
func (l *Line) Close() error {
	l.end()
	l.dialling <- struct{}{} // whoever dials gives up now
	defer func() { <-l.dialling }()
	conn := l.swap(nil)
	if conn == nil {
		return nil
	}
	if err := conn.Close(); err != nil && !errors.Is(err, transports.ErrDisconnected) {
		return err
	}
	return nil
}
