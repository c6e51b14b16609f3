package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// leastBindingLife is how long Kombu 5.7 keeps the table of an exchange whose queues all expire.
const leastBindingLife = time.Hour

// An inbox is a queue at a direct exchange that lives as long as its Subscription, as Kombu's client makes one
// for the answers to a control command: bound, popped without a record, and deleted with its binding at Close.
type inbox struct {
	c     *conn
	queue transports.Queue
	in    chan *protocol.Message // written by read
	stop  chan struct{}          // closed by Close
	once  sync.Once
}

var _ transports.Subscription = (*inbox)(nil)

func (c *conn) openInbox(ctx context.Context, f transports.Fanout) (*inbox, error) {
	if f.Exchange == "" || f.Queue == "" || f.RoutingKey == "" {
		return nil, errors.New("redisbroker: a reply queue needs Fanout.Exchange, Queue and RoutingKey")
	}
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.ops.Done()
	ctx, cancel := c.timeout(ctx)
	defer cancel()
	n := &inbox{
		c:     c,
		queue: transports.Queue{Name: f.Queue, Exchange: f.Exchange, Type: "direct", RoutingKey: f.RoutingKey, Arguments: f.Arguments},
		in:    make(chan *protocol.Message, broadcastBuffer), stop: make(chan struct{}),
	}
	if err := c.outcomeIn(ctx, "binding", n.bind(ctx)); err != nil {
		return nil, err
	}
	if err := c.start(n.read); err != nil {
		return nil, err
	}
	return n, nil
}

// bind writes the member, and for a queue that expires how long the table is to be left alone by the sweeps of
// Kombu 5.7. A server too old for GT (6.2) has the member all the same.
func (n *inbox) bind(ctx context.Context) error {
	set := &n.c.t.set
	if expiresOf(n.queue) == 0 {
		return n.c.bind(ctx, []transports.Queue{n.queue})
	}
	table, _ := set.bindingKeys(n.queue.Exchange)
	life := max(2*time.Duration(expiresOf(n.queue))*time.Millisecond, leastBindingLife)
	var added *redis.IntCmd
	var deadline *redis.Cmd
	_, err := n.c.main.Pipelined(ctx, func(p redis.Pipeliner) error {
		added = p.SAdd(ctx, table, set.bindingMember(n.queue))
		deadline = p.Do(ctx, "ZADD", set.key("_kombu.binding_deadlines"), "GT", n.c.now().Add(life).UnixMilli(), n.queue.Exchange)
		return nil
	})
	// A server that refuses us a socket refuses neither of the two: then nothing is bound.
	if added.Err() == nil && deadline.Err() != nil && fateOf(err) == refused {
		return nil
	}
	return err
}

// read pops until the inbox or the connection is closed.
func (n *inbox) read() {
	lists := n.c.t.set.lists(n.queue.Name)
	for {
		select {
		case <-n.stop:
			return
		case <-n.c.done:
			return
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), block+blockGrace)
		got, err := n.c.block.BRPop(ctx, block, lists...).Result()
		cancel()
		switch fateOf(err) {
		case gone, unknown:
			n.c.waitFailed("wait for replies", err)
			return
		case refused:
			n.c.t.warning("replies cannot be read", "queue", n.queue.Name, "err", err)
			n.rest()
			continue
		}
		if len(got) == 2 {
			n.hear([]byte(got[1]))
		}
	}
}

func (n *inbox) rest() {
	t := time.NewTimer(block)
	defer t.Stop()
	select {
	case <-t.C:
	case <-n.stop:
	case <-n.c.done:
	}
}

func (n *inbox) hear(raw []byte) {
	m, _, err := protocol.DecodeEnvelope(raw, n.c.t.set.limits)
	if err != nil {
		n.c.t.warning("unreadable reply dropped", "queue", n.queue.Name, "err", err)
		return
	}
	select {
	case n.in <- &m:
	default:
		n.c.t.warning("reply dropped: too many are waiting", "queue", n.queue.Name, "waiting", broadcastBuffer)
	}
}

func (n *inbox) Next(ctx context.Context) (protocol.Message, error) {
	if err := n.c.gone(); err != nil {
		return protocol.Message{}, err
	}
	select {
	case <-n.stop:
		return protocol.Message{}, errSubscriptionClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return protocol.Message{}, err
	}
	select {
	case m := <-n.in:
		return *m, nil
	case <-ctx.Done():
		return protocol.Message{}, ctx.Err()
	case <-n.stop:
		return protocol.Message{}, errSubscriptionClosed
	case <-n.c.done:
		return protocol.Message{}, n.c.gone()
	}
}

// Close takes the binding back and deletes the lists. The reader may wait out its last second: nobody finds
// the queue any more, and the connection's Close ends it.
func (n *inbox) Close() error {
	first := false
	n.once.Do(func() { close(n.stop); first = true })
	if !first || n.c.enter() != nil {
		return nil
	}
	defer n.c.ops.Done()
	ctx, cancel := n.c.own()
	defer cancel()
	table, permanent := n.c.t.set.bindingKeys(n.queue.Exchange)
	member := n.c.t.set.bindingMember(n.queue)
	_, err := n.c.main.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.SRem(ctx, table, member)
		p.SRem(ctx, permanent, member)
		p.Del(ctx, n.c.t.set.lists(n.queue.Name)...)
		return nil
	})
	return n.c.outcome(fmt.Sprintf("deleting reply queue %q", n.queue.Name), err)
}
