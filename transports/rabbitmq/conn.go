package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/stalkworker/stalk/transports"
)

// closeTimeout bounds the closing handshake of a connection, past which the socket is just closed, and of a consumer.
const closeTimeout = 2 * time.Second

// A conn is a consuming and a publishing AMQP connection. When one breaks the other is closed.
type conn struct {
	t         *Transport
	user      string
	consumes  *amqp.Connection
	consuming *socket    // of consumes
	pub       *publisher // owns the publishing connection
	done      chan struct{}
	life      context.Context // ends with done; what background goroutines wait under
	end       context.CancelFunc
	wg        sync.WaitGroup

	mu    sync.Mutex
	err   error // why done is closed
	ended bool  // done is closed; wg takes no more
}

var (
	_ transports.Conn    = (*conn)(nil)
	_ transports.Delayer = (*conn)(nil)
)

func (t *Transport) connect(ctx context.Context, a address) (transports.Conn, error) {
	a = a.withDefaults(t.tls != nil)
	consumes, consuming, err := t.open(ctx, a, "consuming")
	if err != nil {
		return nil, err
	}
	publishes, publishing, err := t.open(ctx, a, "publishing")
	if err != nil {
		_ = consumes.CloseDeadline(time.Now().Add(closeTimeout))
		return nil, err
	}
	c := &conn{t: t, user: a.user, consumes: consumes, consuming: consuming, done: make(chan struct{})}
	c.life, c.end = context.WithCancel(context.Background())
	c.pub = newPublisher(c, publishes, publishing)
	for _, ac := range []*amqp.Connection{consumes, publishes} {
		closed := ac.NotifyClose(make(chan *amqp.Error, 1))
		c.start(func() { c.watch(closed) })
	}
	blocked := publishes.NotifyBlocked(make(chan amqp.Blocking, 8))
	c.start(func() { c.pub.watchAlarm(blocked) })
	return c, nil
}

// start runs f as a goroutine that Close waits for; not at all when the Conn has ended.
func (c *conn) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.wg.Go(f)
	return true
}

// watch ends the conn when one of its connections closes.
func (c *conn) watch(closed <-chan *amqp.Error) {
	cause, ok := <-closed
	if !ok {
		cause = amqp.ErrClosed
	}
	if strings.Contains(cause.Reason, featureShared) {
		c.t.noShared.Store(true)
		c.finish(fmt.Errorf("%w; from now on mailboxes are exclusive, as with control_queue_exclusive: true, and other queues that are "+
			"neither durable nor exclusive are not made", mapConnectionLoss(cause)))
		return
	}
	c.finish(mapConnectionLoss(cause))
}

// featureShared is RabbitMQ's name for queues that are neither durable nor exclusive. From 4.0 on its owner may forbid
// them; whoever declares one then loses the whole connection.
const featureShared = "transient_nonexcl_queues"

func mapConnectionLoss(cause *amqp.Error) error {
	return fmt.Errorf("rabbitmq: %w: %v", transports.ErrDisconnected, cause)
}

// finish closes done and both connections, once.
func (c *conn) finish(err error) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	c.ended, c.err = true, err
	c.mu.Unlock()
	close(c.done)
	c.end()
	var wg sync.WaitGroup
	for _, ac := range []*amqp.Connection{c.consumes, c.pub.ac} {
		wg.Go(func() { _ = ac.CloseDeadline(time.Now().Add(closeTimeout)) }) // one is often closed already
	}
	wg.Wait()
}

func (c *conn) Done() <-chan struct{} { return c.done }

func (c *conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *conn) Close() error {
	c.finish(nil)
	c.wg.Wait()
	return nil
}

// lost is why nothing works any more; nil while the Conn lives.
func (c *conn) lost() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case c.ended:
		return fmt.Errorf("rabbitmq: connection closed: %w", transports.ErrDisconnected)
	case c.consumes.IsClosed() || c.pub.ac.IsClosed(): // watch will know in a moment
		return fmt.Errorf("rabbitmq: connection closing: %w", transports.ErrDisconnected)
	}
	return nil
}

// notify tells the owner what is being retried.
func (c *conn) notify(queue string, err error) {
	if c.t.cfg.Notify != nil {
		c.t.cfg.Notify(queue, err)
	}
}

// scratch runs f on a channel of its own, so that an error closes nothing else. It blocks without a
// context: the driver's calls end when the connection does, and heartbeats see to that.
func scratch(ac *amqp.Connection, f func(*amqp.Channel) error) error {
	ch, err := ac.Channel()
	if err != nil {
		return err
	}
	err = f(ch)
	if !ch.IsClosed() {
		err = errors.Join(err, ch.Close())
	}
	return err
}

// A trouble says once what keeps failing.
type trouble struct {
	c     *conn
	queue string
	last  int // reply code told last; 0: none
}

// tell is told the outcome of each attempt. The loss of the whole connection is not its business.
func (t *trouble) tell(err error) {
	if t.c.lost() != nil {
		return
	}
	now := code(err)
	if now == 0 && err != nil {
		now = -1
	}
	if now != t.last {
		t.last = now
		t.c.notify(t.queue, mapped("queue "+t.queue, err))
	}
}
