package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// A Control says how the worker listens for remote control (celery inspect, celery control, Flower). The zero
// Control is Celery's default.
type Control struct {
	Off       bool          // worker_enable_remote_control: false
	ReadOnly  bool          // questions are answered, orders refused; Commands of the program count as orders
	Exchange  string        // control_exchange; "": celery
	Exclusive *bool         // control_queue_exclusive; nil: true
	TTL       time.Duration // control_queue_ttl; 0: 300 s
	Expires   time.Duration // control_queue_expires; 0: 10 s

	// Commands are the program's own, by the name a client calls them. They stand beside the worker's; one
	// of the same name replaces the worker's. nil: none.
	Commands map[string]Command
}

// A Command answers one remote control command. args are the keyword arguments, never nil; what it returns is
// the node's reply, anything protocol.FromGo takes: by Celery's convention {"ok": ...} or the data itself.
// An error becomes {"error": "ValueError('...')"}, with the name of a *protocol.Exception where it is one.
//
// Commands run one after the other, beside the tasks and never in a task's slot; a caller waits one second. A
// Command that blocks keeps all others waiting, so it ends with ctx, which is done after five seconds. One that does not is
// left alone then: its caller is told, the others go on beside it, and while it lasts it is not started again. A panic is
// an error like any other.
type Command func(ctx context.Context, n *Node, args *protocol.Object) (any, error)

// mailboxWait is how long a worker that consumes already holds back that it is ready for its mailbox.
const mailboxWait = 3 * time.Second

// commandTimeout bounds one command and its reply. Nobody waits that long; what comes later is for nobody.
const commandTimeout = 5 * time.Second

// commandExtra is how long a command of the program that obeys its context may take to end.
const commandExtra = 100 * time.Millisecond

// replyLinger is how long an answer waits for a caller that may have gone: Celery's callers wait for seconds.
const replyLinger = time.Minute

// control is the pidbox: it listens on each connection in turn, and answers.
type control struct {
	cfg      *Config
	log      *slog.Logger
	link     *link
	clock    *clock
	node     *Node
	commands map[string]Command
	unknown  map[string]bool            // names complained about; run's own
	start    func(func())               // begins a goroutine that may outlive Run
	left     map[string]<-chan struct{} // commands of the program that did not end in time; closed when they do; run's own
	after    <-chan struct{}            // the first mailbox waits for it
	asked    once                       // closed when the broker has granted or refused the mailbox for the first time
}

func newControl(cfg *Config, log *slog.Logger, l *link, clock *clock, node *Node, after <-chan struct{}, start func(func())) *control {
	c := &control{cfg: cfg, log: log, link: l, clock: clock, node: node, commands: map[string]Command{}, unknown: map[string]bool{}, after: after, asked: newOnce(), start: start, left: map[string]<-chan struct{}{}}
	for name, command := range commands() {
		c.commands[name] = command
	}
	for name, command := range cfg.Control.Commands {
		c.commands[name] = command
	}
	return c
}

func (c Control) namespace() string { return cmp.Or(c.Exchange, "celery") }

// mailbox is what we listen to.
func (c *control) mailbox() transports.Fanout {
	exchange := protocol.ControlExchange(c.cfg.Control.namespace())
	return transports.Fanout{
		Exchange: exchange, Type: "fanout", Queue: c.cfg.Node + "." + exchange,
		Arguments: c.cfg.Control.queueArguments(), Exclusive: c.cfg.Control.exclusive(),
	}
}

// queueArguments are those of the mailbox and of the reply queues of our own requests.
func (c Control) queueArguments() *protocol.Object {
	milliseconds := func(d, otherwise time.Duration) int64 { return cmp.Or(d, otherwise).Milliseconds() }
	return protocol.ObjectOf(
		protocol.Member{Key: "x-message-ttl", Value: milliseconds(c.TTL, 300*time.Second)},
		protocol.Member{Key: "x-expires", Value: milliseconds(c.Expires, 10*time.Second)},
	)
}

func (c Control) exclusive() bool { return c.Exclusive == nil || *c.Exclusive }

// run listens on the live connection, whichever it is, until ctx is done. Nothing that arrives ends it, and
// nothing it meets touches the tasks: a broker that refuses the mailbox is asked again and again.
func (c *control) run(ctx context.Context) {
	select {
	case <-c.after:
	case <-ctx.Done():
		return
	}
	c.link.follow(ctx, c.listen, func(err error) {
		c.log.Error("remote control is not possible; trying again and again", "err", err)
	})
}

// awaitMailbox returns when orders arrive, as they do at a Celery worker that says it is ready. A broker that does not
// grant the mailbox, or not in time, keeps no task waiting for long.
func (c *control) awaitMailbox(ctx context.Context) {
	if c.cfg.Control.Off {
		return
	}
	t := time.NewTimer(mailboxWait)
	defer t.Stop()
	select {
	case <-c.asked.done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// listen answers what comes on one connection until it breaks.
func (c *control) listen(ctx context.Context, conn transports.Conn) error {
	sub, err := conn.Subscribe(ctx, c.mailbox())
	c.asked.close()
	if err != nil {
		return err
	}
	defer func() {
		if err := sub.Close(); err != nil && !errors.Is(err, transports.ErrDisconnected) {
			c.log.Debug("closing the control mailbox", "err", err)
		}
	}()
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		c.hear(ctx, conn, m)
	}
}

// hear executes one command, if it is for us, and answers if somebody waits.
func (c *control) hear(ctx context.Context, conn transports.Conn, m protocol.Message) {
	c.clock.forward() // the header's clock is the mailbox's of the caller, not a node's: it is not followed
	r, err := protocol.DecodeControl(m, protocol.DecodeOptions{Accept: c.cfg.Accept, Limits: c.cfg.Limits})
	if err != nil {
		c.log.Error("a remote control command cannot be read; dropped", "err", err)
		return
	}
	switch ours, err := r.For(c.cfg.Node); {
	case err != nil:
		c.log.Error("a remote control command chooses its nodes in a way that cannot be read; dropped", "method", clip(r.Method), "err", err)
		return
	case !ours:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	c.log.Debug("remote control", "method", clip(r.Method), "reply", r.ReplyTo != nil)
	value, err := c.execute(ctx, r)
	if errors.Is(err, errNoReply) {
		return
	}
	if err != nil {
		c.complain(r.Method, err)
		value = failedCommand(err)
	}
	if r.ReplyTo == nil {
		return
	}
	reply, err := r.Reply(c.cfg.Encoding, c.cfg.Node, value, c.clock.forward())
	if err != nil {
		c.log.Error("the answer to a remote control command cannot be written", "method", clip(r.Method), "err", err)
		if reply, err = r.Reply(c.cfg.Encoding, c.cfg.Node, failedCommand(err), c.clock.forward()); err != nil {
			return // the ticket or our own name is no text that could be written
		}
	}
	err = conn.Publish(ctx, transports.Publishing{
		Exchange: r.ReplyTo.Exchange, RoutingKey: r.ReplyTo.RoutingKey, ExchangeType: "direct", Message: reply,
		Linger: replyLinger,
	})
	if err != nil && !errors.Is(err, transports.ErrDisconnected) {
		c.log.Warn("the answer to a remote control command was not taken", "method", clip(r.Method), "err", err)
	}
}

// errUnknownCommand is the KeyError that Celery answers.
func errUnknownCommand(name string) error { return protocol.NewException("KeyError", name) }

// execute runs a command of the table.
func (c *control) execute(ctx context.Context, r protocol.ControlRequest) (value protocol.Value, err error) {
	command, ok := c.commands[r.Method]
	if !ok {
		return nil, errUnknownCommand(r.Method)
	}
	if c.cfg.Control.ReadOnly && !harmless[r.Method] {
		return nil, protocol.NewException("PermissionError", fmt.Sprintf("remote control of %s is read-only: %s is refused", c.cfg.Node, r.Method))
	}
	if c.cfg.Control.Commands[r.Method] == nil {
		return c.call(ctx, command, r)
	}
	if left := c.left[r.Method]; left != nil {
		select {
		case <-left:
		default:
			return nil, errors.New("the command is still busy with an earlier call")
		}
	}
	var answer struct { // the goroutine's until done is closed
		value protocol.Value
		err   error
	}
	done := make(chan struct{})
	c.start(func() {
		defer close(done)
		answer.value, answer.err = c.call(ctx, command, r)
	})
	select {
	case <-done:
		return answer.value, answer.err
	case <-ctx.Done():
	}
	select {
	case <-done: // one that obeys ctx ends now
		return answer.value, answer.err
	case <-time.After(commandExtra):
	}
	c.left[r.Method] = done
	c.log.Error("a remote control command does not end with its context; it is left alone", "method", r.Method)
	return nil, errors.New("the command did not end in time")
}

// call calls a command under guard.
func (c *control) call(ctx context.Context, command Command, r protocol.ControlRequest) (value protocol.Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("a remote control command panicked", "method", r.Method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			value, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	v, err := command(ctx, c.node, r.Arguments)
	if err != nil {
		return nil, err
	}
	return protocol.FromGo(v)
}

// complain logs a failed command, an unknown one only once: monitors repeat theirs every few seconds.
func (c *control) complain(method string, err error) {
	text := "pidbox command error: " + protocol.FromError(err).Repr()
	if _, known := c.commands[method]; !known {
		method = clip(method)
		if c.unknown[method] || len(c.unknown) >= 100 {
			return
		}
		c.unknown[method] = true
		c.log.Error(text, "method", method)
		return
	}
	c.log.Error(text, "method", method, "err", err)
}

func failedCommand(err error) protocol.Value {
	return protocol.ObjectOf(protocol.Member{Key: "error", Value: protocol.FromError(err).Repr()})
}

func errorCommand(text string) protocol.Value {
	return protocol.ObjectOf(protocol.Member{Key: "error", Value: text})
}

func okCommand(text protocol.Value) protocol.Value {
	return protocol.ObjectOf(protocol.Member{Key: "ok", Value: text})
}

// faults are the mistakes in a Control, for New.
func (c Control) faults() []string {
	var out []string
	if c.TTL < 0 || c.Expires < 0 {
		out = append(out, fmt.Sprintf("Control.TTL is %v and Expires %v, want 0 or more", c.TTL, c.Expires))
	}
	var nameless []string
	for name, command := range c.Commands {
		if name == "" || command == nil {
			nameless = append(nameless, fmt.Sprintf("%q", name))
		}
	}
	if len(nameless) > 0 {
		slices.Sort(nameless)
		out = append(out, "Control.Commands has commands without a name or a function: "+strings.Join(nameless, ", "))
	}
	return out
}
