package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stalkworker/stalk/transports"
)

// link holds the live connection. It is the one place that dials: for ever, with backoff and jitter,
// unless the broker refuses our credentials at the very first dial.
type link struct {
	transport transports.Transport
	log       *slog.Logger
	connects  atomic.Int64 // connections made

	mu   sync.Mutex
	conn transports.Conn // nil while there is none
	up   chan struct{}   // closed while conn is not nil
}

func newLink(t transports.Transport, log *slog.Logger) *link {
	return &link{transport: t, log: log, up: make(chan struct{})}
}

const (
	dialTimeout = 10 * time.Second
	dialMax     = 30 * time.Second
)

// run dials until ctx is done and offers each connection once on conns while wanted lasts. It closes
// the last connection before it returns.
func (l *link) run(ctx, wanted context.Context, conns chan<- transports.Conn) error {
	first, attempt := true, 0
	for ctx.Err() == nil {
		conn, err := l.dial(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if first && errors.Is(err, transports.ErrCredentials) {
				return fmt.Errorf("worker: %s: %w", l.transport, err)
			}
			wait := jitter(backoff(attempt, 100*time.Millisecond, dialMax))
			attempt++
			l.log.Error(fmt.Sprintf("consumer: Cannot connect to %s: %v.\nTrying again in %.2f seconds... (%d)", l.transport, err, wait.Seconds(), attempt))
			if !sleep(ctx, wait) {
				return nil
			}
			continue
		}
		first, attempt = false, 0
		l.log.Info(fmt.Sprintf("Connected to %s", l.transport))
		l.set(conn)
		select {
		case conns <- conn:
		case <-wanted.Done():
		case <-conn.Done():
		}
		select {
		case <-conn.Done():
			l.set(nil)
			if ctx.Err() == nil {
				l.log.Warn(fmt.Sprintf("consumer: Connection to broker lost. Trying to re-establish the connection... (%v)", conn.Err()))
			}
		case <-ctx.Done():
			l.set(nil)
		}
		if err := conn.Close(); err != nil {
			l.log.Debug("closing the broken connection", "err", err)
		}
	}
	return nil
}

func (l *link) dial(ctx context.Context) (transports.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return l.transport.Connect(ctx)
}

func (l *link) set(c transports.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c != nil:
		l.conn = c
		l.connects.Add(1)
		close(l.up)
	case l.conn != nil:
		l.conn = nil
		l.up = make(chan struct{})
	}
}

func (l *link) current() (transports.Conn, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn, l.up
}

// Publish hands p to the live connection, waiting for one if need be. One attempt.
func (l *link) Publish(ctx context.Context, p transports.Publishing) error {
	for {
		conn, up := l.current()
		if conn != nil {
			return conn.Publish(ctx, p)
		}
		select {
		case <-up:
		case <-ctx.Done():
			return fmt.Errorf("worker: publish: %w", transports.ErrDisconnected)
		}
	}
}

// backoff doubles from base with each attempt, up to limit.
func backoff(attempt int, base, limit time.Duration) time.Duration {
	d := base << min(attempt, 20)
	return min(d, limit)
}

// jitter draws from [d/2, d], so that many workers do not dial in step.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

// sleep waits for d and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
