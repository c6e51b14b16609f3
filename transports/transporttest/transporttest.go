// Package transporttest is the contract of package transports in executable form: the suite that every
// Transport passes. A new promise in a doc comment there is a new case here.
//
// A driver's test calls Run with a Factory; what brokers may differ in is said by the fields of Broker,
// never by leaving a case out. The suite leaves no goroutine and no unsettled message behind.
package transporttest

import (
	"cmp"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// A Factory gives one test its view of a broker. It is called once for each case; what it must clean up
// (queues, exchanges and bindings of the names it gave out) goes to t.Cleanup, which runs when every
// connection of the case is closed.
type Factory func(t *testing.T) Broker

// A Broker is what a case works with.
type Broker struct {
	// Transport returns a new Transport to the same broker at each call, as another process would have. Required.
	Transport func() transports.Transport
	// Name returns a new name for a queue or an exchange that nobody else uses. Required.
	Name func() string

	Order       Order            // how priorities are delivered
	Leases      bool             // a receipt outlives its Conn; the next Conn of the same Transport adopts it
	Counts      bool             // Delivery.Count is filled, at least for a queue declared with x-queue-type quorum
	AnyQueue    bool             // a message for any name is kept, as on Redis, whether or not somebody made the queue
	HeaderOrder bool             // the order of header keys is kept
	Beside      bool             // a window that was narrowed may stay full beside what had been received before
	Headers     *protocol.Object // further headers that must survive; nil: none

	// Cut breaks every connection to this view of the broker at once, without telling the transports. nil: the
	// cases that need it are skipped.
	Cut func()

	Patience time.Duration // within it happens what must happen; 0: 10 s
	Quiet    time.Duration // what has not happened after it does not happen; 0: 150 ms
}

// An Order says which priority is delivered first.
type Order int

// The orders.
const (
	Unordered Order = iota // priorities are not looked at
	LowFirst               // 0 before 9: Redis, in steps of 3
	HighFirst              // 9 before 0: AMQP, for queues with x-max-priority
)

// Run runs every case as a subtest.
func Run(t *testing.T, f Factory) {
	for _, c := range []struct {
		name string
		run  func(*bench)
	}{
		{"a message arrives byte for byte", exact},
		{"bodies of any bytes and size arrive", bodies},
		{"messages arrive first in first out", fifo},
		{"priorities are delivered in the broker's order", priorities},
		{"the window bounds what is unsettled and an ack frees it", window},
		{"SetWindow widens and narrows while Receive waits", setWindow},
		{"a narrower window frees what nobody has received", narrower},
		{"a cancelled Receive loses nothing", cancelledReceive},
		{"SetQueues adds and removes queues", setQueues},
		{"several queues are all served", severalQueues},
		{"two consumers share a queue", twoConsumers},
		{"closing a consumer keeps what was received and returns the rest", closeConsumer},

		{"an acked message is gone", acked},
		{"Reject with requeue brings the message again, redelivered", requeue},
		{"Reject without requeue gives the message up", giveUp},
		{"deliveries are counted where the broker counts", counted},
		{"Move puts the message untouched into another queue", move},
		{"a second settling is ErrSettled", settledTwice},
		{"of many settlings at once one wins", settledAtOnce},

		{"a published message waits for a later consumer", publishFirst},
		{"mandatory and unroutable is ErrRefused, else nil", unroutable},
		{"Declare makes the queue before the publish", declare},
		{"a queue bound to an exchange gets what matches", bound},
		{"a missing queue is created when Create asks for it", created},
		{"an unbound queue gets what is sent to its name only", unbound},
		{"a missing queue without Create is waited for", waitedFor},
		{"an existing queue is not redeclared", notRedeclared},
		{"a broadcast reaches every subscription", fanout},
		{"a broadcast of a topic reaches who listens to its key", events},
		{"a cancelled Next loses nothing and a closed subscription ends", fanoutEnds},

		{"a reply queue gets what is sent to its key and nothing else", replyQueue},
		{"QueueSize counts what waits", queueSize},
		{"Purge deletes what waits and counts it", purge},
		{"Peek shows what waits and leaves it there", peek},
		{"Transfer moves what is chosen and leaves the rest", transfer},
		{"a missing queue is ErrNoQueue", noQueue},
		{"starts are counted until they are forgotten", startCounts},

		{"Close returns what is unsettled to the next consumer", closeReturns},
		{"Done and Err tell a close", done},
		{"after Close everything is ErrDisconnected at once", afterClose},
		{"what waits is released by Close", closeReleases},
		{"Connect obeys its context and the Conn outlives it", connectContext},
		{"after a cut nothing is lost", cut},
		{"Lost tells a cut unless the broker leases", lost},
		{"publishers, receivers and settlers at once", together},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newBench(t, f)) })
	}
}

func (b Broker) patience() time.Duration { return cmp.Or(b.Patience, 10*time.Second) }
func (b Broker) quiet() time.Duration    { return cmp.Or(b.Quiet, 150*time.Millisecond) }
