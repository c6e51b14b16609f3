package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// mingle says hello to the other nodes over each new connection, with our revoked ids, and takes theirs and their
// clocks from the answers: a revocation survives the restart of a node.
//
// Celery consumes nothing until a whole second has gone by. Here the first tasks are taken at once when the broker says
// that nobody heard the question, else as soon as the neighbors have fallen silent (silentFor, quietFor): they answer at
// once, or they are not there. A task that only a slow neighbor knows as revoked runs. What waits for its time or its turn is looked up again when that has come.
type mingle struct {
	cfg     *Config
	log     *slog.Logger
	link    *link
	clock   *clock
	revoked *revoked
	asked   once // closed when the first question is out: our own mailbox, which would hear it, waits for that
	heard   once // closed when the first tasks may be taken
	agreed  bool // run's own: the neighbors' settings were looked at
}

func newMingle(cfg *Config, log *slog.Logger, l *link, c *clock, r *revoked) *mingle {
	m := &mingle{cfg: cfg, log: log, link: l, clock: c, revoked: r, asked: newOnce(), heard: newOnce()}
	if cfg.Control.Off || cfg.Events.NoMingle { // nobody is asked
		m.asked.close()
		m.heard.close()
	}
	return m
}

const (
	mingleFor = time.Second            // how long answers are waited for
	silentFor = 100 * time.Millisecond // how long the first one is waited for before tasks are taken
	quietFor  = 50 * time.Millisecond  // and how long another one
	heardBy   = 500 * time.Millisecond // then tasks are taken, whatever comes
)

// await returns when what the neighbors know as revoked is known, as far as they said so in time. Called at the
// first start of consuming.
func (m *mingle) await(ctx context.Context) {
	t := time.NewTimer(heardBy)
	defer t.Stop()
	select {
	case <-m.heard.done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// mostNeighbors bounds the answers that are counted, confNodes those who are asked for their settings.
const (
	mostNeighbors = 10_000
	confNodes     = 8
)

// run says hello over each connection in turn until ctx is done.
func (m *mingle) run(ctx context.Context) {
	var last <-chan struct{} // Done of the connection that was asked
	for ctx.Err() == nil {
		conn, up := m.link.current()
		if conn == nil {
			select {
			case <-up:
			case <-ctx.Done():
			}
			continue
		}
		if conn.Done() != last {
			last = conn.Done()
			if err := m.greet(ctx, conn); err != nil && ctx.Err() == nil && !errors.Is(err, transports.ErrDisconnected) {
				m.log.Warn("mingle: the neighbors could not be asked", "err", err)
			}
		}
		select {
		case <-conn.Done():
			sleep(ctx, 10*time.Millisecond) // the link is just about to notice
		case <-ctx.Done():
		}
	}
}

// greet asks and listens for mingleFor.
func (m *mingle) greet(ctx context.Context, conn transports.Conn) error {
	defer m.heard.close()
	defer m.asked.close()
	m.log.Info("mingle: searching for neighbors")
	ctx, cancel := context.WithTimeout(ctx, 2*mingleFor+commandTimeout)
	defer cancel()
	namespace := m.cfg.Control.namespace()
	exchange, me := protocol.ControlReplyExchange(namespace), ids.New()
	answers, err := conn.Subscribe(ctx, transports.Fanout{
		Exchange: exchange, Type: "direct", RoutingKey: me, Queue: me + "." + exchange,
		Arguments: m.cfg.Control.queueArguments(), Exclusive: m.cfg.Control.exclusive(),
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := answers.Close(); err != nil && !errors.Is(err, transports.ErrDisconnected) {
			m.log.Debug("closing the reply queue", "err", err)
		}
	}()
	ticket := ids.New()
	var ours []protocol.Value
	for _, id := range m.revoked.list(time.Now()) {
		ours = append(ours, id)
	}
	if ours == nil {
		ours = []protocol.Value{}
	}
	err = m.ask(ctx, conn, protocol.ControlRequest{
		Method: "hello", Ticket: ticket, ReplyTo: &protocol.ControlAddress{Exchange: exchange, RoutingKey: me},
		Arguments: protocol.ObjectOf(protocol.Member{Key: "from_node", Value: m.cfg.Node}, protocol.Member{Key: "revoked", Value: ours}),
	})
	m.asked.close()
	if errors.Is(err, transports.ErrUnroutable) {
		m.log.Info("mingle: all alone")
		return nil
	}
	if err != nil {
		return err
	}
	silence := time.AfterFunc(silentFor, m.heard.close)
	defer silence.Stop()
	nodes, synced := []string{}, 0
	err = m.collect(ctx, answers, ticket, func(node string, answer *protocol.Object) {
		nodes = append(nodes, node)
		if answer.Len() > 0 {
			synced++
			m.sync(answer)
		}
		silence.Reset(quietFor)
	})
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		m.log.Info("mingle: all alone")
		return nil
	}
	m.log.Info(fmt.Sprintf("mingle: sync with %d nodes", synced))
	m.log.Info("mingle: sync complete")
	if m.agreed || m.cfg.Settings == nil { // a program that builds its own Config need not say what it is set to
		return nil
	}
	m.agreed = true
	ticket = ids.New()
	err = m.ask(ctx, conn, protocol.ControlRequest{
		Method: "conf", Ticket: ticket, ReplyTo: &protocol.ControlAddress{Exchange: exchange, RoutingKey: me}, Destination: nodes[:min(len(nodes), confNodes)],
		Arguments: &protocol.Object{}, // asked for its defaults, too, a Python worker complains of each address that it is not given
	})
	if err != nil {
		return err
	}
	return m.compare(ctx, answers, ticket)
}

// ask sends a command to the nodes.
func (m *mingle) ask(ctx context.Context, conn transports.Conn, r protocol.ControlRequest) error {
	r.Clock = m.clock.forward()
	message, err := r.Encode(m.cfg.Encoding, float64(time.Now().Add(mingleFor).UnixMicro())/1e6)
	if err != nil {
		return err
	}
	return conn.Publish(ctx, transports.Publishing{
		Exchange: protocol.ControlExchange(m.cfg.Control.namespace()), ExchangeType: "fanout", Broadcast: true, Mandatory: true, Message: message,
	})
}

// compare warns of settings in which a neighbor differs and must not, once of each.
func (m *mingle) compare(ctx context.Context, answers transports.Subscription, ticket string) error {
	ours, err := withDefaults(confOf(m.cfg.Settings))
	if err != nil {
		return err
	}
	told := map[string]bool{}
	return m.collect(ctx, answers, ticket, func(node string, theirs *protocol.Object) {
		if failed, _ := theirs.Get("error"); failed != nil || theirs.Len() == 0 {
			return
		}
		plain, known := plainNames(theirs)
		if !known {
			return
		}
		all, err := withDefaults(plain)
		if err != nil {
			m.log.Warn("mingle: settings cannot be compared", "err", err)
			return
		}
		for _, d := range disagreements(ours, all) {
			if !told[d] {
				told[d] = true
				m.log.Warn("settings differ from those of " + printable(node) + ": " + d)
			}
		}
	})
}

// collect takes what answers come within mingleFor: one of each node, nil for what is no mapping.
func (m *mingle) collect(ctx context.Context, answers transports.Subscription, ticket string, take func(node string, answer *protocol.Object)) error {
	ctx, cancel := context.WithTimeout(ctx, mingleFor)
	defer cancel()
	all := map[string]bool{}
	for {
		message, err := answers.Next(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		reply, err := protocol.DecodeControlReply(message, protocol.DecodeOptions{Accept: m.cfg.Accept, Limits: m.cfg.Limits})
		if err != nil {
			m.log.Warn("mingle: an answer cannot be read", "err", err)
			continue
		}
		if reply.Ticket != nil && reply.Ticket != ticket {
			continue
		}
		for _, node := range reply.Nodes.Members() {
			if node.Key == m.cfg.Node || all[node.Key] || len(all) >= mostNeighbors {
				continue
			}
			all[node.Key] = true
			answer, _ := node.Value.(*protocol.Object)
			take(node.Key, answer)
		}
	}
}

// sync takes a neighbor's clock and revoked ids. What is neither is passed over.
func (m *mingle) sync(state *protocol.Object) {
	clock, _ := state.Get("clock")
	m.clock.adjust(protocol.SaneClock(clock))
	if m.cfg.Control.ReadOnly {
		return
	}
	theirs, _ := state.Get("revoked")
	m.revoked.merge(revokedIDs(theirs), time.Now())
}
