package rabbitmq

import (
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A link is one channel of a lane and the deliveries that are ours through it. Delivery tags mean
// something on their channel only, so a receipt belongs to its link for ever.
type link struct {
	lane    *lane
	ch      *amqp.Channel
	closed  <-chan *amqp.Error // receives the channel's error, then is closed
	cancels <-chan string
	pumps   sync.WaitGroup
	settled chan struct{} // capacity 1; a receipt was settled
	gone    chan struct{} // closed by die

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
		lane: l, ch: ch, settled: make(chan struct{}, 1), gone: make(chan struct{}), held: map[*receipt]struct{}{},
		closed:  ch.NotifyClose(make(chan *amqp.Error, 1)),
		cancels: ch.NotifyCancel(make(chan string, maxConsumers)), // the driver's reader must never wait for us
	}, nil
}

// adjust brings the number of messages the broker may send to the window.
func (n *link) adjust(window int) error {
	cancel, add := plan(n.sizes, window)
	for range cancel {
		if err := n.cancelLast(); err != nil {
			return err
		}
	}
	if add == 0 {
		return nil
	}
	if err := n.ch.Qos(add, 0, false); err != nil {
		return err
	}
	n.made++
	name := tag(n.lane.k.conn.t.cfg.Name, n.lane.queue.Name, n.made)
	deliveries, err := n.ch.Consume(n.lane.queue.Name, name, false, false, false, false, nil)
	if err != nil {
		return err
	}
	n.sizes, n.tags = append(n.sizes, add), append(n.tags, name)
	n.pumps.Go(func() { n.pump(deliveries) })
	return nil
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

// pump hands one consumer's deliveries to Receive until the driver closes deliveries: the consumer was
// cancelled and all is handed over, or the channel is closed. What nobody receives for too long goes back to its queue.
func (n *link) pump(deliveries <-chan amqp.Delivery) {
	var waiting []fetched // at most the consumer's prefetch
	var tick <-chan time.Time
	waits := n.lane.waits()
	if waits > 0 {
		t := time.NewTicker(max(waits/4, time.Millisecond))
		defer t.Stop()
		tick = t.C
	}
	for deliveries != nil || len(waiting) > 0 {
		select {
		case <-n.lane.stop: // looked at first: after Close nothing more goes out
			for _, f := range waiting {
				n.giveBack(&f.receipt.raw)
			}
			if deliveries != nil {
				for d := range deliveries {
					n.giveBack(&d)
				}
			}
			return
		default:
		}
		var out chan fetched
		var next fetched
		if len(waiting) > 0 {
			out, next = n.lane.k.out, waiting[0]
		}
		select {
		case d, open := <-deliveries:
			if !open {
				deliveries = nil
				continue
			}
			waiting = append(waiting, n.fetch(d))
		case out <- next:
			waiting[0] = fetched{}
			waiting = waiting[1:]
		case now := <-tick:
			for len(waiting) > 0 && now.Sub(waiting[0].receipt.arrived) >= waits {
				n.giveBack(&waiting[0].receipt.raw) // it comes again, as new to the broker's clock
				waiting[0] = fetched{}
				waiting = waiting[1:]
			}
		case <-n.lane.stop:
		case <-n.lane.k.conn.done:
			n.discard(deliveries)
			return
		case <-n.gone:
			n.discard(deliveries)
			return
		}
	}
}

// discard lets the driver's goroutine end: the channel is closed or about to be, and the broker has everything.
func (n *link) discard(deliveries <-chan amqp.Delivery) {
	if deliveries != nil {
		for range deliveries { //nolint:revive // nothing is done with them
		}
	}
}

func (n *link) fetch(d amqp.Delivery) fetched {
	out := deliveryOf(&d)
	out.Queue = n.lane.queue.Name
	if out.Count > 0 {
		n.lane.counts.Store(true)
	} else if n.lane.counts.Load() {
		out.Count = 1
	}
	out.Limit = n.lane.limit
	r := newReceipt(n, d)
	out.Receipt = r
	return fetched{out, r}
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

func (n *link) idle() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.held) == 0
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
// channel is closed and the pumps have ended.
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
	close(n.gone)
	n.settling.Wait()
	_ = n.ch.Close() // the broker returns what was not settled
	n.pumps.Wait()
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
