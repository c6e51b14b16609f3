package rabbitmq

import (
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A link is one channel of a lane and the deliveries that are ours through it. Delivery tags mean
// something on their channel only, so a receipt belongs to its link for ever.
type link struct {
	lane    *lane
	ch      *amqp.Channel
	closed  <-chan *amqp.Error // receives the channel's error, then is closed
	cancels <-chan string
	settled chan struct{} // capacity 1; a receipt was settled
	line    *line         // what goes past the driver; nil before the first adjust, written by lane.run only
	waiting []*receipt    // fetched and not received, in order; guarded by consumer.mu

	// touched by lane.run only
	sizes []int // prefetch of each consumer
	tags  []string
	made  int // consumers so far, for their tags

	mu       sync.Mutex
	dead     bool
	held     map[*receipt]struct{}
	settling sync.WaitGroup // writes under way; Add only under mu and while alive
}

func newLink(l *lane) (*link, error) {
	ch, err := l.k.conn.consumes.Channel()
	if err != nil {
		return nil, err
	}
	return &link{
		lane: l, ch: ch, settled: make(chan struct{}, 1), held: map[*receipt]struct{}{},
		closed:  ch.NotifyClose(make(chan *amqp.Error, 1)),
		cancels: ch.NotifyCancel(make(chan string, maxConsumers)), // the driver's reader must never wait for us
	}, nil
}

// adjust brings the number of messages the broker may send to the window.
func (n *link) adjust(window int) error {
	for {
		cancel, add := plan(n.sizes, window)
		for range cancel {
			if err := n.cancelLast(); err != nil {
				return err
			}
		}
		if add == 0 {
			return nil
		}
		if err := n.consume(add); err != nil {
			return err
		}
	}
}

// consume adds a consumer.
func (n *link) consume(add int) error {
	if err := n.qos(add); err != nil {
		return err
	}
	n.made++
	name := tag(n.lane.k.conn.t.cfg.Name, n.lane.queue.Name, n.made)
	_, err := n.ch.Consume(n.lane.queue.Name, name, false, false, false, false, nil) // nothing comes that way: see deliver
	if err != nil {
		return err
	}
	n.sizes, n.tags = append(n.sizes, add), append(n.tags, name)
	return nil
}

func (n *link) qos(prefetch int) error {
	line, err := n.lane.k.conn.consuming.attach(basicQos, n, func() error { return n.ch.Qos(prefetch, 0, false) })
	if n.line == nil && err == nil {
		n.line = line
	}
	return err
}

func (n *link) cancelLast() error {
	last := len(n.tags) - 1
	err := n.ch.Cancel(n.tags[last], false) // its pump goes on with what is already here
	n.tags, n.sizes = n.tags[:last], n.sizes[:last]
	return err
}

func (n *link) cancelAll() error {
	for len(n.tags) > 0 {
		if err := n.cancelLast(); err != nil {
			return err
		}
	}
	return nil
}

// deliver takes a delivery from the reader of the connection.
func (n *link) deliver(d content, tag uint64, redelivered bool) {
	n.lane.k.arrived(newReceipt(n, d, tag, redelivered))
}

// returned is never called: nothing is published on this channel.
func (n *link) returned(content, string) {}

// keeps is how many deliveries may wait for Receive. A queue that counts what comes back gets it only when there is more than
// a little of it.
func (n *link) keeps(window int) int {
	fetched := 0
	for _, size := range n.sizes {
		fetched += size
	}
	room := max(window, fetched) // less would be sent again at once
	if n.lane.counts.Load() {
		room += max(1, room/4)
	}
	return max(0, room-n.unsettled())
}

// surplus is how many more there are.
func (n *link) surplus(window int) int {
	return n.lane.k.waiting(n) - n.keeps(window)
}

// shrink gives them back, the newest first.
func (n *link) shrink(window int) {
	n.giveBack(n.lane.k.takeBack(n, n.keeps(window)))
}

// hold makes a delivery ours; false when the channel has died.
func (n *link) hold(r *receipt) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return false
	}
	n.held[r] = struct{}{}
	return true
}

// unsettled is how many deliveries were received and are not settled.
func (n *link) unsettled() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.held)
}

// begin allows one write that names a delivery tag; settling.Done ends it. The channel is not closed in
// between: its number could be given to another channel, where the tag is somebody else's.
func (n *link) begin() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead || n.ch.IsClosed() {
		return false
	}
	n.settling.Add(1)
	return true
}

// take lets a receipt write its settling frame, as begin does; false when it is lost. It leaves held
// before the write, not after: were the channel to die in between, the delivery would be called lost and
// expected again although the broker has settled it.
func (n *link) take(r *receipt) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ours := n.held[r]; !ours || n.ch.IsClosed() {
		return false
	}
	delete(n.held, r)
	n.settling.Add(1)
	return true
}

// putBack undoes take after a write that failed.
func (n *link) putBack(r *receipt) {
	n.mu.Lock()
	dead := n.dead
	if !dead {
		n.held[r] = struct{}{}
	}
	n.mu.Unlock()
	if dead {
		close(r.lost)
		n.lane.k.release(1)
	}
}

// freed follows a take whose frame was written.
func (n *link) freed() {
	n.lane.k.release(1)
	select {
	case n.settled <- struct{}{}:
	default:
	}
}

// die gives the channel up: what is held is lost, what was fetched comes again. It returns when the
// channel is closed.
func (n *link) die() {
	n.mu.Lock()
	n.dead = true
	held := n.held
	n.held = nil
	n.mu.Unlock()
	for r := range held {
		close(r.lost)
	}
	n.lane.k.release(len(held))
	n.lane.k.takeBack(n, 0)
	n.settling.Wait()
	_ = n.ch.Close() // the broker returns what was not settled
}

// reason is why the channel closed, as far as the broker said it, else err.
func (n *link) reason(err error) error {
	if code(err) != 0 {
		return err
	}
	select {
	case e, ok := <-n.closed:
		if ok {
			return e
		}
	default:
	}
	return err
}
