package worker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

// gossip listens to the worker events of the other nodes: to keep our logical clock beside theirs, for monitors
// sort by it, and to say in the log who comes, goes and is missed. It never sends anything, elections included:
// one of ours would end a lone Python neighbour.
type gossip struct {
	cfg   *Config
	log   *slog.Logger
	link  *link
	clock *clock
	peers map[string]*peer // by node name; run's own
}

// A peer is another node as its events show it.
type peer struct {
	heard time.Time
	freq  time.Duration
}

const (
	peersMax    = 5000            // Celery's max_workers_in_memory
	peerSweep   = 5 * time.Second // how often the silent are looked for
	peerWindow  = 2               // heartbeats that may be missed
	peerFreq    = time.Minute     // of a node that does not say
	peerFreqMax = time.Hour
)

// run listens on the live connection, whichever it is, until ctx is done. A broker that refuses is asked again
// and again; nothing else depends on it.
func (g *gossip) run(ctx context.Context) {
	g.peers = map[string]*peer{}
	g.link.follow(ctx, g.listen, func(err error) {
		g.log.Warn("the events of other nodes cannot be followed; trying again and again", "err", err)
	})
}

// queue is what we listen to, on RabbitMQ.
func (g *gossip) queue() transports.Fanout {
	ttl := cmp.Or(g.cfg.Events.Interval, 5*time.Second)
	return transports.Fanout{
		Exchange: g.cfg.Events.exchange(), Type: "topic", Durable: true, RoutingKey: "worker.#", Queue: "celeryev." + ids.New(),
		Arguments: protocol.ObjectOf(
			protocol.Member{Key: "x-message-ttl", Value: ttl.Milliseconds()},
			protocol.Member{Key: "x-expires", Value: int64(60_000)},
		),
		Exclusive: true,
	}
}

func (g *gossip) listen(ctx context.Context, conn transports.Conn) error {
	sub, err := conn.Subscribe(ctx, g.queue())
	if err != nil {
		return err
	}
	defer func() {
		if err := sub.Close(); err != nil && !errors.Is(err, transports.ErrDisconnected) {
			g.log.Debug("closing the event queue", "err", err)
		}
	}()
	swept := time.Now()
	for {
		m, err := g.next(ctx, sub, swept.Add(peerSweep))
		now := time.Now()
		switch {
		case err == nil:
			g.hear(m, now)
		case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		if now.Sub(swept) >= peerSweep {
			swept = now
			g.sweep(now)
		}
	}
}

func (g *gossip) next(ctx context.Context, sub transports.Subscription, until time.Time) (protocol.Message, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return sub.Next(ctx)
}

// hear takes what one message says. It may come from anybody: what is odd is passed over.
func (g *gossip) hear(m protocol.Message, now time.Time) {
	events, err := protocol.DecodeEvents(m, protocol.DecodeOptions{Accept: []string{"json", cmp.Or(g.cfg.Events.Serializer, "json")}, Limits: g.cfg.Limits})
	if err != nil {
		g.log.Debug("an event of another node cannot be read", "err", err)
	}
	for _, e := range events {
		node := e.Text("hostname")
		if e.Group() != "worker" || node == "" || len(node) > protocol.MaxIDBytes {
			continue
		}
		if node == g.cfg.Node {
			g.clock.forward()
			continue
		}
		g.clock.adjust(e.Clock()) // without a clock: forward
		g.meet(node, e, now)
	}
}

// meet notes a sign of life, or the end of one.
func (g *gossip) meet(node string, e protocol.Event, now time.Time) {
	p := g.peers[node]
	if e.Type == "worker-offline" {
		g.log.Debug(printable(node) + " left")
		delete(g.peers, node)
		return
	}
	if p == nil && len(g.peers) >= peersMax {
		return
	}
	if p == nil || e.Type == "worker-online" {
		g.log.Debug(printable(node) + " joined the party")
	}
	if p == nil {
		p = &peer{freq: peerFreq}
		g.peers[node] = p
	}
	p.heard = now
	if freq, ok := e.Number("freq"); ok && freq > 0 {
		p.freq = time.Duration(min(freq, peerFreqMax.Seconds()) * float64(time.Second))
	}
}

// sweep drops who has not been heard of for too long.
func (g *gossip) sweep(now time.Time) {
	for node, p := range g.peers {
		if now.Sub(p.heard) > peerWindow*p.freq {
			g.log.Info("missed heartbeat from " + printable(node))
			delete(g.peers, node)
		}
	}
}
