package worker

import (
	"cmp"
	"context"
	"errors"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

const (
	gatherFor    = 100 * time.Millisecond // how long a task event waits for others to travel with
	eventTimeout = 2 * time.Second        // of one publish; what is late is of no use to monitors
	flushFor     = time.Second            // for what is left at the end
	dropsEvery   = time.Minute            // between two complaints about dropped events
)

// run sends task events over the live connection until ctx is done, and then what is left.
func (p *pulse) run(ctx context.Context) {
	gather := time.NewTimer(gatherFor)
	defer gather.Stop()
	var told time.Time
	for {
		select {
		case <-p.queue.wake:
		case <-ctx.Done():
			p.flush(ctx)
			return
		}
		gather.Reset(gatherFor)
		for gathering := true; gathering; {
			select {
			case <-gather.C:
				gathering = false
			case <-p.queue.full: // perhaps of a batch that has left already
				gathering = p.queue.len() < batchEvents
			case <-ctx.Done():
				gathering = false
			}
		}
		for more := true; more && ctx.Err() == nil; more = p.queue.len() >= batchEvents {
			if batch := p.queue.take(); len(batch) > 0 {
				p.deliver(ctx, batch)
			}
			if time.Since(told) > dropsEvery {
				if n := p.queue.drops(); n > 0 {
					told = time.Now()
					p.log.Warn("task events were dropped: monitors do not see everything", "events", n)
				}
			}
		}
		switch { // what is less than a batch gets its time to become one
		case ctx.Err() != nil:
			p.flush(ctx)
			return
		case p.queue.len() > 0:
			signal(p.queue.wake)
		}
	}
}

// deliver sends one batch: after a broken connection over the next one, as nobody else tells how those tasks
// ended. When the broker does not take it, it is dropped.
func (p *pulse) deliver(ctx context.Context, batch []protocol.Event) {
	for {
		conn, up := p.link.current()
		if conn == nil {
			select {
			case <-up:
				continue
			case <-ctx.Done():
				p.queue.lose(len(batch))
				return
			}
		}
		err := p.publish(context.WithoutCancel(ctx), conn, batch...) // begun is finished: it takes eventTimeout at most
		switch {
		case err == nil:
			p.scolded.Store(false)
			return
		case errors.Is(err, transports.ErrDisconnected) && ctx.Err() == nil:
			select {
			case <-conn.Done():
			case <-time.After(eventTimeout):
			case <-ctx.Done():
			}
		default:
			p.queue.lose(len(batch))
			p.complain(err)
			sleep(ctx, gatherFor) // a broker that refuses is not asked as fast as it can answer
			return
		}
	}
}

// flush sends what is left, within flushFor.
func (p *pulse) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushFor)
	defer cancel()
	for ctx.Err() == nil {
		conn, _ := p.link.current()
		batch := p.queue.take()
		if len(batch) == 0 {
			return
		}
		if conn == nil || p.publish(ctx, conn, batch...) != nil {
			p.queue.lose(len(batch))
		}
	}
}

// publish sends events in one message. Nobody waits for what monitors make of it.
func (p *pulse) publish(ctx context.Context, conn transports.Conn, events ...protocol.Event) error {
	m, key, err := protocol.EncodeEvents(protocol.Encoding{Serializer: p.cfg.Events.Serializer, Seal: p.cfg.Encoding.Seal}, events...)
	if err != nil {
		if len(events) == 1 {
			return err
		}
		for _, e := range events { // one of them cannot be written; the others can
			if one := p.publish(ctx, conn, e); one != nil {
				err = one
			}
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	return conn.Publish(ctx, transports.Publishing{
		Exchange: p.cfg.Events.exchange(), ExchangeType: "topic", ExchangeDurable: true, Broadcast: true,
		RoutingKey: key, Message: m,
	})
}

// complain says once that events do not get out, until they do again.
func (p *pulse) complain(err error) {
	if p.scolded.CompareAndSwap(false, true) {
		p.log.Warn("the broker does not take our events; monitors do not see this worker", "err", err)
	}
}

// online announces the worker over a new connection, before it consumes; monitors that know it show it alive
// again. It returns after eventTimeout at the latest.
func (p *pulse) online(ctx context.Context, conn transports.Conn) {
	if p.cfg.Events.NoHeartbeat {
		return
	}
	p.tell(ctx, conn, "worker-online", p.vitals())
	done := conn.Done()
	p.announced.Store(&done)
}

// heart sends a heartbeat each interval, whatever the tasks do, until stopping is called: then worker-offline.
func (p *pulse) heart(ctx context.Context) {
	tick := time.NewTicker(p.interval())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !p.cfg.Events.NoHeartbeat {
				p.signOfLife(ctx, "worker-heartbeat", p.vitals())
			}
		case <-p.asked:
			p.signOfLife(ctx, "worker-heartbeat", append([]protocol.Member{{Key: "freq", Value: int64(5)}}, p.software()...))
		case <-p.stop.done:
			p.offline(ctx)
			return
		case <-ctx.Done():
			select {
			case <-p.stop.done: // an idle worker is told to stop and has ended in one moment
				p.offline(ctx)
			default:
			}
			return
		}
	}
}

// offline is sent even when ctx is done: without it monitors would miss heartbeats before they miss us.
func (p *pulse) offline(ctx context.Context) {
	if !p.cfg.Events.NoHeartbeat {
		p.signOfLife(context.WithoutCancel(ctx), "worker-offline", p.vitals())
	}
}

// signOfLife sends a worker event over the live connection, if it knows us already.
func (p *pulse) signOfLife(ctx context.Context, kind string, fields []protocol.Member) {
	conn, _ := p.link.current()
	if known := p.announced.Load(); conn == nil || !p.cfg.Events.NoHeartbeat && (known == nil || *known != conn.Done()) {
		return
	}
	p.tell(ctx, conn, kind, fields)
}

// tell sends one worker event at once.
func (p *pulse) tell(ctx context.Context, conn transports.Conn, kind string, fields []protocol.Member) {
	switch err := p.publish(ctx, conn, p.event(kind, p.node, "", fields)); {
	case err == nil:
		p.scolded.Store(false)
	case ctx.Err() == nil && !errors.Is(err, transports.ErrDisconnected):
		p.complain(err)
	}
}

func (p *pulse) interval() time.Duration { return cmp.Or(p.cfg.Events.Interval, 2*time.Second) }

// vitals are the fields of online, heartbeat and offline.
func (p *pulse) vitals() []protocol.Member {
	return append([]protocol.Member{
		{Key: "freq", Value: p.interval().Seconds()},
		{Key: "active", Value: p.stats.active.Load()},
		{Key: "processed", Value: p.processed.Load()},
		{Key: "loadavg", Value: loadAverage()},
	}, p.software()...)
}

func (p *pulse) software() []protocol.Member {
	return []protocol.Member{
		{Key: "sw_ident", Value: "stalk"},
		{Key: "sw_ver", Value: cmp.Or(p.cfg.Events.Version, "0")},
		{Key: "sw_sys", Value: systemName},
	}
}

// systemName is Python's platform.system().
var systemName = func() string {
	switch name := runtime.GOOS; name {
	case "freebsd", "openbsd", "netbsd":
		return strings.ToUpper(name[:1]) + strings.Replace(name[1:], "bsd", "BSD", 1)
	default:
		return strings.ToUpper(name[:1]) + name[1:] // Linux, Darwin, Windows
	}
}()

// loadAverage is the system's, rounded up to two decimals as Celery does; zeros where it cannot be read.
func loadAverage() []protocol.Value {
	load := []protocol.Value{0.0, 0.0, 0.0}
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return load
	}
	fields := strings.Fields(string(text))
	if len(fields) < len(load) {
		return load
	}
	for i := range load {
		f, err := strconv.ParseFloat(fields[i], 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return []protocol.Value{0.0, 0.0, 0.0}
		}
		load[i] = math.Ceil(f*100) / 100
	}
	return load
}
