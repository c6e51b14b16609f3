package rpcresult

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

const (
	replyWindow = 100             // replies on their way to us
	ackTimeout  = 5 * time.Second // of one of them
	redialBase  = 100 * time.Millisecond
	redialMax   = 10 * time.Second
	// maxExpected bounds the tasks whose replies are kept. Beyond it the oldest that nobody waits for are
	// forgotten; asking for one of these is an error, not an endless wait.
	maxExpected = 100_000
)

// replies is the reply queue of this process. The queue goes with its consumer, as Celery's does: what is
// sent while the connection is broken is lost.
type replies struct {
	transport transports.Transport
	queue     transports.Queue
	encoding  protocol.Encoding

	turn   chan struct{}      // capacity 1: held by who connects or closes; conn is changed under it
	life   context.Context    // ends at close
	end    context.CancelFunc // ends life
	reader sync.WaitGroup

	mu       sync.Mutex
	conn     transports.Conn      // nil: never connected, or closed
	expected map[string]*expected // by task id
	order    []string             // of expected, oldest first
}

// An expected result is one that Expect announced. All but ended is guarded by replies.mu.
type expected struct {
	last    protocol.Result
	known   bool          // last is there
	err     error         // the reply could not be read
	ended   chan struct{} // closed when nothing more will come
	waiting int
}

var _ resultbackend.Replies = (*replies)(nil)

// Replies is where results sent to this process arrive. It connects at the first Listen.
func (b *Backend) Replies() resultbackend.Replies { return b.replies }

func newReplies(t transports.Transport, expires time.Duration, e protocol.Encoding) *replies {
	name := rand.Text() // any name that no other process has
	r := &replies{
		transport: t, encoding: e, turn: make(chan struct{}, 1), expected: map[string]*expected{},
		queue: transports.Queue{
			Name: name, Create: true, Unbound: true, AutoDelete: true,
			Arguments: protocol.ObjectOf(protocol.Member{Key: "x-expires", Value: expires.Milliseconds()}),
		},
	}
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

// Listen connects and declares the queue, unless that has been done.
func (r *replies) Listen(ctx context.Context) (string, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return "", r.unavailable(ctx.Err())
	case <-r.life.Done():
		return "", r.closed()
	}
	if r.life.Err() != nil {
		return "", r.closed()
	}
	r.mu.Lock()
	conn := r.conn
	r.mu.Unlock()
	if conn != nil {
		select {
		case <-conn.Done():
		default:
			return r.queue.Name, nil
		}
	}
	network, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)()
	conn, err := r.transport.Connect(network)
	if err != nil {
		return "", r.unavailable(err)
	}
	consumer, err := conn.Consume(network, []transports.Queue{r.queue}, replyWindow)
	if err != nil {
		_ = conn.Close()
		return "", r.unavailable(err)
	}
	r.mu.Lock()
	r.conn = conn
	r.mu.Unlock()
	r.reader.Go(func() { r.read(conn, consumer) })
	return r.queue.Name, nil
}

func (r *replies) unavailable(err error) error {
	return fmt.Errorf("rpcresult: reply queue: %w: %w", resultbackend.ErrUnavailable, err)
}

func (r *replies) closed() error {
	return fmt.Errorf("rpcresult: closed: %w", resultbackend.ErrUnavailable)
}

// read takes replies until the connection breaks, and then sees to the next one.
func (r *replies) read(conn transports.Conn, consumer transports.Consumer) {
	for {
		d, err := consumer.Receive(r.life)
		if err != nil {
			break
		}
		if d.Malformed == nil {
			r.arrived(d.Message)
		}
		ctx, cancel := context.WithTimeout(r.life, ackTimeout)
		_ = d.Receipt.Ack(ctx) // if it is lost the reply comes again
		cancel()
	}
	_ = conn.Close()
	for wait := redialBase; r.life.Err() == nil; wait = min(2*wait, redialMax) {
		if _, err := r.Listen(r.life); err == nil {
			return
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-r.life.Done():
			pause.Stop()
		}
	}
}

func (r *replies) arrived(m protocol.Message) {
	content := m.Properties.ContentType
	if r.encoding.Serializer == "auth" {
		content = "auth" // what is not signed is refused
	}
	res, err := protocol.DecodeResult(content, m.Body, protocol.Limits{Seal: r.encoding.Seal})
	id := res.TaskID
	if id == "" {
		id = m.Properties.CorrelationID
		res.TaskID = id
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.expected[id]
	if e == nil || e.err != nil || e.known && e.last.Status.Ready() {
		return // nobody here sent it, or it has ended before
	}
	if e.err = err; err == nil {
		e.last, e.known = res, true
	}
	if err != nil || res.Status.Ready() {
		close(e.ended)
	}
}

// Expect keeps what comes for the task.
func (r *replies) Expect(taskID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.expected[taskID] != nil {
		return
	}
	for range len(r.order) {
		if len(r.order) < maxExpected {
			break
		}
		oldest := r.order[0]
		r.order = r.order[1:]
		if r.expected[oldest].waiting > 0 {
			r.order = append(r.order, oldest)
			continue
		}
		delete(r.expected, oldest)
	}
	r.expected[taskID] = &expected{ended: make(chan struct{})}
	r.order = append(r.order, taskID)
}

// Load is the last state that was received.
func (r *replies) Load(ctx context.Context, taskID string) (protocol.Result, error) {
	if err := ctx.Err(); err != nil {
		return protocol.Result{}, r.unavailable(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.expected[taskID]
	switch {
	case e == nil || e.err == nil && !e.known:
		return protocol.Result{}, fmt.Errorf("rpcresult: task %q: %w", taskID, resultbackend.ErrNotFound)
	case e.err != nil:
		return protocol.Result{}, e.err
	}
	return e.last, nil
}

// Wait blocks until the task's end was received. A task that this process did not send, or sent too long
// ago, is ErrNotFound.
func (r *replies) Wait(ctx context.Context, taskID string) (protocol.Result, error) {
	e := r.enter(taskID, +1)
	if e == nil {
		return protocol.Result{}, fmt.Errorf("rpcresult: task %q was not sent by this process, or is forgotten: %w", taskID, resultbackend.ErrNotFound)
	}
	defer r.enter(taskID, -1)
	select {
	case <-e.ended:
		return r.Load(ctx, taskID)
	case <-ctx.Done():
		return protocol.Result{}, fmt.Errorf("rpcresult: waiting for task %q: %w", taskID, ctx.Err())
	case <-r.life.Done():
		return protocol.Result{}, r.closed()
	}
}

func (r *replies) enter(taskID string, n int) *expected {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.expected[taskID]
	if e != nil {
		e.waiting += n
	}
	return e
}

// close ends the connection, and the queue with it.
func (r *replies) close() error {
	r.end()
	r.turn <- struct{}{} // whoever connects gives up now
	r.mu.Lock()
	conn := r.conn
	r.conn = nil
	r.mu.Unlock()
	<-r.turn
	r.reader.Wait()
	if conn == nil {
		return nil
	}
	return conn.Close()
}
