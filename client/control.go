package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// A ControlConfig is what Celery's settings say of the control mailbox. The zero value is Celery's default.
type ControlConfig struct {
	Exchange string        // control_exchange; "": "celery"
	Shared   bool          // control_queue_exclusive is false: the reply queue may outlive our connection
	TTL      time.Duration // control_queue_ttl; 0: 300 s
	Expires  time.Duration // control_queue_expires; 0: 10 s
	Accept   []string      // accept_content; nil: json
}

// replyTimeout is the default of BroadcastOptions.Timeout.
const replyTimeout = time.Second

func (c ControlConfig) withDefaults() ControlConfig {
	if c.Exchange == "" {
		c.Exchange = "celery"
	}
	if c.TTL == 0 {
		c.TTL = 300 * time.Second
	}
	if c.Expires == 0 {
		c.Expires = 10 * time.Second
	}
	return c
}

// BroadcastOptions say how long answers are waited for.
type BroadcastOptions struct {
	// Timeout is how long the next answer may take; each one starts it again. 0: a second, as Celery does.
	Timeout time.Duration
	// Limit is how many answers end the call. 0: one for each node of the request's Destination; without a
	// Destination the call always lasts until Timeout has passed without an answer.
	Limit int
	// Reply is called with each answer as it comes, in the goroutine of Broadcast; nil: it is not.
	Reply func(Reply)
	// Malformed is told of each answer that cannot be read. nil: they are passed over in silence.
	Malformed func(error)
}

// A Reply is what one node answered.
type Reply struct {
	Node  string
	Value protocol.Value // {"ok": ...}, {"error": ...} or what the command returns
}

// Broadcast sends a remote control command to the workers and collects their answers, in the order in which
// they came; none is no error. r's Ticket, ReplyTo and Clock are the Client's to fill in.
//
// An error is a *protocol.EncodeError, that of ctx, or wraps one of package transports: the broker could not be
// reached, or broke; what came before is returned with it. The reply queue is deleted in either case.
func (c *Client) Broadcast(ctx context.Context, r protocol.ControlRequest, o BroadcastOptions) ([]Reply, error) {
	if o.Timeout == 0 {
		o.Timeout = replyTimeout
	}
	if o.Limit == 0 {
		o.Limit = len(r.Destination)
	}
	conn, err := c.dialControl(ctx)
	if err != nil {
		return nil, err
	}
	key := ids.New()
	exchange := protocol.ControlReplyExchange(c.control.Exchange)
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	inbox, err := conn.Subscribe(asking, transports.Fanout{
		Exchange: exchange, Type: "direct", RoutingKey: key, Queue: key + "." + exchange, Exclusive: !c.control.Shared,
		Arguments: protocol.ObjectOf(
			protocol.Member{Key: "x-expires", Value: c.control.Expires.Milliseconds()},
			protocol.Member{Key: "x-message-ttl", Value: c.control.TTL.Milliseconds()},
		),
	})
	if err != nil {
		return nil, fmt.Errorf("client: reply queue: %w", err)
	}
	ticket := ids.New()
	r.Ticket, r.ReplyTo = ticket, &protocol.ControlAddress{Exchange: exchange, RoutingKey: key}
	replies, err := c.collect(ctx, conn, inbox, r, ticket, o)
	if closing := inbox.Close(); closing != nil {
		err = errors.Join(err, fmt.Errorf("client: deleting the reply queue: %w", closing))
	}
	return replies, err
}

// askTimeout bounds what is asked of the broker itself.
const askTimeout = 10 * time.Second

// Cast sends a remote control command that nobody answers.
func (c *Client) Cast(ctx context.Context, r protocol.ControlRequest) error {
	conn, err := c.dialControl(ctx)
	if err != nil {
		return err
	}
	r.Ticket, r.ReplyTo = nil, nil
	return c.command(ctx, conn, r, 0)
}

// dialTimeout bounds one attempt: somebody looks at the screen.
const dialTimeout = 5 * time.Second

// dialControl is the connection; each address of a failover list may be tried.
func (c *Client) dialControl(ctx context.Context) (transports.Conn, error) {
	var err error
	for range c.cfg.Attempts {
		dialling, cancel := context.WithTimeout(ctx, dialTimeout)
		var conn transports.Conn
		conn, err = c.line.Conn(dialling)
		if cancel(); err == nil {
			return conn, nil
		}
		if errors.Is(err, transports.ErrCredentials) || ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// command publishes the request.
func (c *Client) command(ctx context.Context, conn transports.Conn, r protocol.ControlRequest, timeout time.Duration) error {
	r.Clock = c.clock.Add(1)
	var expires float64
	if timeout > 0 {
		expires = float64(time.Now().Add(timeout).UnixMicro()) / 1e6
	}
	m, err := r.Encode(c.cfg.Encoding, expires)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err = conn.Publish(ctx, transports.Publishing{
		Exchange: protocol.ControlExchange(c.control.Exchange), ExchangeType: "fanout", Message: m,
	})
	if err != nil {
		return fmt.Errorf("client: command %q: %w", r.Method, err)
	}
	return nil
}

// collect sends the request and reads answers until the time or the limit is reached.
func (c *Client) collect(ctx context.Context, conn transports.Conn, inbox transports.Subscription, r protocol.ControlRequest, ticket string, o BroadcastOptions) ([]Reply, error) {
	if err := c.command(ctx, conn, r, o.Timeout); err != nil {
		return nil, err
	}
	var replies []Reply
	for n := 0; o.Limit == 0 || n < o.Limit; {
		m, err := next(ctx, inbox, o.Timeout)
		switch {
		case err != nil && ctx.Err() != nil:
			return replies, fmt.Errorf("client: waiting for answers: %w", ctx.Err())
		case errors.Is(err, context.DeadlineExceeded):
			return replies, nil
		case err != nil:
			return replies, fmt.Errorf("client: waiting for answers: %w", err)
		}
		got, err := c.readReply(m, ticket)
		if err != nil {
			if o.Malformed != nil {
				o.Malformed(err)
			}
			continue
		}
		if len(got) == 0 {
			continue // for another call, or too late
		}
		n++
		for _, reply := range got {
			if o.Reply != nil {
				o.Reply(reply)
			}
		}
		replies = append(replies, got...)
	}
	return replies, nil
}

func next(ctx context.Context, inbox transports.Subscription, timeout time.Duration) (protocol.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return inbox.Next(ctx)
}

// readReply is the answers in a message: one, unless a program answers for several nodes.
func (c *Client) readReply(m protocol.Message, ticket string) ([]Reply, error) {
	r, err := protocol.DecodeControlReply(m, protocol.DecodeOptions{Accept: c.control.Accept, Limits: protocol.Limits{Seal: c.cfg.Encoding.Seal}})
	if err != nil {
		return nil, fmt.Errorf("client: an answer cannot be read: %w", err)
	}
	if seen := c.clock.Load(); r.Clock > seen && r.Clock < math.MaxInt64/2 {
		c.clock.CompareAndSwap(seen, r.Clock)
	}
	if r.Ticket != nil && r.Ticket != protocol.Value(ticket) {
		return nil, nil
	}
	if r.Expires > 0 && float64(time.Now().UnixMicro())/1e6 > r.Expires {
		return nil, nil
	}
	var out []Reply
	for _, member := range r.Nodes.Members() {
		out = append(out, Reply{Node: member.Key, Value: member.Value})
	}
	return out, nil
}

// Duplicates are the names under which more than one node answered, sorted: every node needs a name of its own.
func Duplicates(replies []Reply) []string {
	seen, twice := map[string]bool{}, map[string]bool{}
	var out []string
	for _, r := range replies {
		if seen[r.Node] && !twice[r.Node] {
			out = append(out, r.Node)
			twice[r.Node] = true
		}
		seen[r.Node] = true
	}
	slices.Sort(out)
	return out
}
