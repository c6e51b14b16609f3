package command

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/client"
	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func eventsCommand(p process) *cli.Command {
	return &cli.Command{
		Name:  "events",
		Usage: "print the events of workers and tasks as they happen",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "dump", Aliases: []string{"d"}, Usage: "one line per event, which is what this command does anyway"},
			&cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "one JSON object per line and event"},
			&cli.StringFlag{Name: "camera", Aliases: []string{"c"}, Usage: "refused: cameras are Python classes"},
			&cli.Float64Flag{Name: "frequency", Aliases: []string{"F", "freq"}, Usage: "of a camera"},
			&cli.StringFlag{Name: "maxrate", Aliases: []string{"r"}, Usage: "of a camera"},
		}, globalFlags()...),
		Action: inSession(p, runEvents),
	}
}

// runEvents is `stalk events`: until a signal. A broker that is away at the start is an error, one that goes away
// later is dialled again.
func runEvents(s *session) error {
	for _, name := range []string{"camera", "frequency", "maxrate"} {
		if isSet(s.c, name) {
			return wrongly("--%s is not offered here: cameras are Python classes; run celery events -c CLASS", name)
		}
	}
	if s.c.Args().Present() {
		return wrongly("events takes no arguments, got %q", s.c.Args().First())
	}
	c, err := s.client(nil, nil)
	if err != nil {
		return err
	}
	w := &watch{session: s, client: c, fanout: s.eventQueue(), accept: s.eventAccept()}
	if len(s.settings.errs) > 0 {
		return usageError{errors.Join(s.settings.errs...)}
	}
	err = w.run(s.c.Context)
	if closing := c.Close(); err == nil {
		err = s.unavailable(closing)
	}
	return err
}

// eventQueue is the queue Celery's receiver would make.
func (s *session) eventQueue() transports.Fanout {
	set := s.settings
	exclusive := set.maybe("event_queue_exclusive")
	return transports.Fanout{
		Exchange: set.text("event_exchange", "celeryev"), Type: "topic", Durable: true, RoutingKey: "#",
		Queue:     set.text("event_queue_prefix", "celeryev") + "." + ids.New(),
		Exclusive: exclusive == nil || *exclusive,
		Arguments: protocol.ObjectOf(
			protocol.Member{Key: "x-expires", Value: set.seconds("event_queue_expires", time.Minute).Milliseconds()},
			protocol.Member{Key: "x-message-ttl", Value: set.seconds("event_queue_ttl", 5*time.Second).Milliseconds()},
		),
	}
}

func (s *session) eventAccept() []string {
	return []string{"json", s.settings.text("event_serializer", "json")}
}

// A watch prints events.
type watch struct {
	*session
	client *client.Client
	fanout transports.Fanout
	accept []string
	dumper dumper
}

// The pauses between two attempts to reach the broker again.
const (
	watchAgain = 200 * time.Millisecond
	watchMost  = 5 * time.Second
)

func (w *watch) run(ctx context.Context) error {
	conn, sub, err := w.listen(ctx)
	if err != nil {
		return w.unavailable(err)
	}
	if !w.json() {
		w.say("-> evdump: starting capture...")
	}
	for {
		err := w.capture(ctx, sub)
		_ = sub.Close()  // the connection is broken, or about to be closed
		_ = conn.Close() //
		if ctx.Err() != nil {
			return nil // a signal is how this command ends
		}
		if w.json() {
			w.warn("stalk: connection lost, trying again: %v", err)
		} else {
			w.say("-> Connection lost, attempting reconnect")
		}
		for d := watchAgain; ; d = min(2*d, watchMost) {
			if conn, sub, err = w.listen(ctx); err == nil {
				break
			}
			if !sleep(ctx, d) {
				return nil
			}
		}
	}
}

// listen subscribes, and then makes the workers say who they are.
func (w *watch) listen(ctx context.Context) (transports.Conn, transports.Subscription, error) {
	conn, err := w.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	asking, cancel := brief(ctx)
	defer cancel()
	sub, err := conn.Subscribe(asking, w.fanout)
	if err == nil {
		if err = w.wake(asking, w.client); err == nil {
			return conn, sub, nil
		}
		_ = sub.Close()
	}
	_ = conn.Close()
	return nil, nil, err
}

// capture prints until ctx or the connection ends.
func (w *watch) capture(ctx context.Context, sub transports.Subscription) error {
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		events, err := protocol.DecodeEvents(m, protocol.DecodeOptions{Accept: w.accept, Limits: protocol.Limits{Seal: w.encoding.Seal}})
		if err != nil {
			w.warn("stalk: an event cannot be read: %v", err)
		}
		for _, e := range events {
			if w.json() {
				doc := e.Fields.Clone()
				doc.Set("type", e.Type)
				w.say("%s", jsonText(doc))
				continue
			}
			w.say("%s", w.dumper.line(e, time.Now()))
		}
	}
}

// sleep waits and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
