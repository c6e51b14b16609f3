package membroker

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// A Broker is the broker and the Transport that reaches it. It is safe for concurrent use.
type Broker struct {
	mu        sync.Mutex // nothing blocks under it
	queues    map[string]*queue
	exchanges map[string]*exchange
	conns     map[*conn]struct{}
	faults    map[Op]*fault
	counting  bool
	seq       uint64 // of the last message; orders returned messages
	starts    map[string]int
	replaced  int // times
}

var (
	_ transports.Transport = (*Broker)(nil)
	_ transports.Instancer = (*Broker)(nil)
)

// New returns an empty broker.
func New() *Broker {
	return &Broker{
		queues:    make(map[string]*queue),
		exchanges: make(map[string]*exchange),
		conns:     make(map[*conn]struct{}),
		faults:    make(map[Op]*fault),
		counting:  true,
	}
}

// A queue holds what is ready, best first: higher priority, then older.
type queue struct {
	name        string
	ready       []*entry
	unsettled   int
	maxPriority int // 0: all messages are equal
	deadLetter  *string
	deadKey     string
}

// An entry is one message in one queue.
type entry struct {
	queue       *queue
	message     protocol.Message
	seq         uint64
	priority    int
	redelivered bool
	deliveries  int
}

// String is "memory://", which Kombu prints for its own in-memory transport.
func (b *Broker) String() string { return "memory://localhost//" }

// Connect opens a Conn, unless a fault was ordered for it.
func (b *Broker) Connect(ctx context.Context) (transports.Conn, error) {
	after, err := b.suffer(ctx, Connect, nil)
	if err != nil {
		return nil, err
	}
	c := &conn{broker: b, done: make(chan struct{}), held: make(map[*receipt]struct{})}
	b.mu.Lock()
	b.conns[c] = struct{}{}
	b.mu.Unlock()
	return c, after(c)
}

// Counting says whether Delivery.Count is filled (quorum queues) or 0 (classic queues, Redis). True at first.
func (b *Broker) Counting(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counting = on
}

// Declare makes the queues that are missing.
func (b *Broker) Declare(names ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		b.declare(transports.Queue{Name: name})
	}
}

// Send puts m into the queue, which is made when missing. No fault applies.
func (b *Broker) Send(queueName string, m protocol.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m = clone(m)
	m.Exchange, m.RoutingKey = "", queueName
	b.enqueue(b.declare(transports.Queue{Name: queueName}), m)
}

// Broadcast publishes m to an exchange, as a client of the control mailbox does. No fault applies.
// It returns how many queues and subscriptions took it.
func (b *Broker) Broadcast(exchangeName, routingKey string, m protocol.Message) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.route(exchangeName, routingKey, clone(m))
}

// Ready is how many messages of the queue wait to be taken.
func (b *Broker) Ready(queueName string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[queueName]; q != nil {
		return len(q.ready)
	}
	return 0
}

// Unsettled is how many messages of the queue are taken and not settled.
func (b *Broker) Unsettled(queueName string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[queueName]; q != nil {
		return q.unsettled
	}
	return 0
}

// Messages is a copy of what waits in the queue, next one first.
func (b *Broker) Messages(queueName string) []protocol.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[queueName]
	if q == nil {
		return nil
	}
	ms := make([]protocol.Message, len(q.ready))
	for i, e := range q.ready {
		ms[i] = clone(e.message)
	}
	return ms
}

// Queues is the names of all queues, sorted.
func (b *Broker) Queues() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.queues))
	for name := range b.queues {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Conns is how many connections are open.
func (b *Broker) Conns() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// Consumers is how many consumers wait on the queue.
func (b *Broker) Consumers(queueName string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for c := range b.conns {
		for _, k := range c.consumers {
			if slices.Contains(k.queues, queueName) {
				n++
			}
		}
	}
	return n
}

// enqueue adds a new message to q. Called with mu held.
func (b *Broker) enqueue(q *queue, m protocol.Message) {
	b.seq++
	e := &entry{queue: q, message: m, seq: b.seq}
	if p := m.Properties.Priority; p != nil && q.maxPriority > 0 {
		e.priority = max(0, min(*p, q.maxPriority))
	}
	b.insert(e)
}

// insert puts e at its place among what is ready: a returned message goes where it was. Called with mu held.
func (b *Broker) insert(e *entry) {
	q := e.queue
	i, _ := slices.BinarySearchFunc(q.ready, e, func(x, e *entry) int {
		if x.priority != e.priority {
			return e.priority - x.priority
		}
		if x.seq < e.seq {
			return -1
		}
		return 1
	})
	q.ready = slices.Insert(q.ready, i, e)
	b.wake(q.name)
}

// wake tells every consumer of the queue to look again. Called with mu held.
func (b *Broker) wake(queueName string) {
	for c := range b.conns {
		for _, k := range c.consumers {
			if slices.Contains(k.queues, queueName) {
				k.nudge()
			}
		}
	}
}

// clone copies m as far as a holder could change it.
func clone(m protocol.Message) protocol.Message {
	if m.Headers != nil {
		m.Headers = m.Headers.Clone()
	}
	if m.Properties.Extra != nil {
		m.Properties.Extra = m.Properties.Extra.Clone()
	}
	if p := m.Properties.Priority; p != nil {
		m.Properties.Priority = new(*p)
	}
	m.Body = bytes.Clone(m.Body)
	return m
}
