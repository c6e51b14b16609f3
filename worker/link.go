package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// Connection says what becomes of a broker that cannot be reached. The zero Connection is Celery's default.
type Connection struct {
	RetryAtStart *bool         // broker_connection_retry_on_startup; nil: as NoRetry says
	NoRetry      bool          // broker_connection_retry is false: a lost connection ends Run
	Retries      int           // broker_connection_max_retries: attempts after a first one that failed; 0: 100, negative: without end
	Timeout      time.Duration // of one attempt; 0: 10 s
	FailRefused  bool          // broker_channel_error_retry is false: a queue that the broker refuses at the start ends Run; else it is asked for again and again
	CancelLost   bool          // worker_cancel_long_running_tasks_on_connection_loss: a running task is told to stop once its message is not ours any more
}

// ErrUnreachable is what Run returns, wrapped, when the broker was not reached as often as Config.Connection
// lets it try.
var ErrUnreachable = errors.New("worker: the broker cannot be reached")

// critical is Celery's CRITICAL.
const critical = slog.LevelError + 4

// link holds the live connection. It is the one place that dials: as often as Config.Connection says, with backoff
// and jitter, unless the broker refuses our credentials at the very first dial.
type link struct {
	transport transports.Transport
	log       *slog.Logger
	policy    Connection
	connects  atomic.Int64 // connections made

	mu   sync.Mutex
	conn transports.Conn // nil while there is none
	up   chan struct{}   // closed while conn is not nil
}

func newLink(t transports.Transport, log *slog.Logger, policy Connection) *link {
	return &link{transport: t, log: log, policy: policy, up: make(chan struct{})}
}

const (
	dialTimeout = 10 * time.Second
	dialMax     = 30 * time.Second
	knockEvery  = time.Second
)

// run dials until ctx is done and offers each connection once on conns while wanted lasts. It closes
// the last connection before it returns. Its error is why there will be no other one.
func (l *link) run(ctx, wanted context.Context, conns chan<- transports.Conn) error {
	first, attempt, short := true, 0, 0
	var conn transports.Conn // found while waiting for the next attempt
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for ctx.Err() == nil {
		var err error
		if conn == nil {
			conn, err = l.dial(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if first && errors.Is(err, transports.ErrCredentials) {
				return fmt.Errorf("worker: %s: %w", l.transport, err)
			}
			if l.refusesRetry(first) {
				return fmt.Errorf("%w: %s: %v", ErrUnreachable, l.transport, err)
			}
			attempt++
			most := l.policy.Retries
			if most > 0 && attempt > most {
				l.log.Log(ctx, critical, fmt.Sprintf("Unrecoverable error: OperationalError(%s)", protocol.Repr(err.Error())))
				return fmt.Errorf("%w: %s: %v", ErrUnreachable, l.transport, err)
			}
			of := "for ever"
			if most > 0 {
				of = strconv.Itoa(most)
			}
			wait := jitter(backoff(attempt-1, 100*time.Millisecond, dialMax))
			l.log.Error(fmt.Sprintf("consumer: Cannot connect to %s: %v.\nTrying again in %.2f seconds... (%d/%s)\n", l.transport, err, wait.Seconds(), attempt, of))
			conn = l.knock(ctx, wait, err)
			continue
		}
		first, attempt = false, 0
		born := time.Now()
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
			err = conn.Err()
		case <-ctx.Done():
			l.set(nil)
		}
		over := ctx.Err() != nil
		if !over && !l.policy.NoRetry {
			l.log.Warn(fmt.Sprintf("consumer: Connection to broker lost. Trying to re-establish the connection... (%v)", err))
		}
		if err := conn.Close(); err != nil {
			l.log.Debug("closing the broken connection", "err", err)
		}
		if !over && l.refusesRetry(false) {
			return fmt.Errorf("%w: %s: %v", ErrUnreachable, l.transport, err)
		}
		conn = nil
		// A server that takes us in and breaks with us at once, again and again, is not to be dialled in a hurry.
		if short++; time.Since(born) >= knockEvery {
			short = 0
		} else if !sleep(ctx, jitter(backoff(short-1, 50*time.Millisecond, knockEvery))) {
			return nil
		}
	}
	return nil
}

// knock waits for the next attempt that is counted and told of, and tries the door meanwhile: a broker that is back
// has us within a second, however long it was away. Somebody who refuses our credentials is left alone. nil when the
// wait is over without a connection.
func (l *link) knock(ctx context.Context, wait time.Duration, why error) transports.Conn {
	for until := time.Now().Add(wait); ; {
		left := time.Until(until)
		if errors.Is(why, transports.ErrCredentials) || left <= knockEvery {
			sleep(ctx, left)
			return nil
		}
		if !sleep(ctx, jitter(knockEvery)) {
			return nil
		}
		conn, err := l.dial(ctx)
		if err == nil {
			return conn
		}
		why = err
	}
}

// refusesRetry reports, in Celery's words, that there is to be no other attempt.
func (l *link) refusesRetry(atStart bool) bool {
	what, setting, retry := "re-establish", "broker_connection_retry", !l.policy.NoRetry
	if atStart {
		what = "establish"
		if own := l.policy.RetryAtStart; own != nil {
			setting, retry = "broker_connection_retry_on_startup", *own
		}
	}
	if !retry {
		l.log.Log(context.Background(), critical, fmt.Sprintf("Retrying to %s a connection to the message broker after a connection loss has been disabled (app.conf.%s=False). Shutting down...", what, setting))
	}
	return !retry
}

func (l *link) dial(ctx context.Context) (transports.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(l.policy.Timeout, dialTimeout))
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

// follow has listen listen on each connection in turn until ctx is done. What the broker refuses is asked for again
// after a pause, longer each time; refused hears of the first refusal. A connection that broke is none, and the link
// takes its own time over the next one.
func (l *link) follow(ctx context.Context, listen func(context.Context, transports.Conn) error, refused func(error)) {
	for attempt, told := 0, false; ctx.Err() == nil; {
		conn, up := l.current()
		if conn == nil {
			select {
			case <-up:
			case <-ctx.Done():
			}
			continue
		}
		began := time.Now()
		err := listen(ctx, conn)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > dialMax {
			attempt, told = 0, false
		}
		switch {
		case errors.Is(err, transports.ErrDisconnected):
			attempt = 0
		case !told:
			told = true // what follows is the same
			refused(err)
		}
		if !sleep(ctx, jitter(backoff(attempt, 100*time.Millisecond, dialMax))) {
			return
		}
		attempt++
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
