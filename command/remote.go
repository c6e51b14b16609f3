package command

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/client"
	"github.com/stalkworker/stalk/protocol"
)

// remoteFlags are those of the commands that ask the workers.
func remoteFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.Float64Flag{Name: "timeout", Aliases: []string{"t"}, Usage: "`SECONDS` to wait for the next answer", Value: 1},
		&cli.StringSliceFlag{Name: "destination", Aliases: []string{"d"}, Usage: "ask these `NODES` only, comma separated"},
		&cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print JSON"},
	}, globalFlags()...)
}

// ask broadcasts a command and prints each answer as it comes, unless JSON is wanted.
func (s *session) ask(r protocol.ControlRequest, body bool) ([]client.Reply, error) {
	timeout := s.c.Float64("timeout")
	if !(timeout >= 0) || timeout > 1e6 {
		return nil, wrongly("--timeout %v: want seconds, 0 or more", timeout)
	}
	r.Destination = list(s.c.StringSlice("destination"))
	c, err := s.client(nil, nil)
	if err != nil {
		return nil, err
	}
	o := client.BroadcastOptions{
		Timeout:   max(time.Duration(math.Round(timeout*1e9)), time.Nanosecond),
		Malformed: func(err error) { s.warn("stalk: %v", err) },
	}
	if !s.json() {
		o.Reply = func(reply client.Reply) { chat(s.out(), s.quiet(), reply.Node, reply.Value, body) }
	}
	replies, err := c.Broadcast(s.c.Context, r, o)
	if closing := c.Close(); err == nil && len(replies) == 0 {
		err = closing
	}
	switch {
	case err != nil:
		return nil, s.unavailable(err)
	case len(replies) == 0:
		return nil, noReplies
	}
	if names := client.Duplicates(replies); len(names) > 0 {
		s.warn("DuplicateNodenameWarning: Received multiple replies from node %s: %s.\nPlease make sure you give each node a "+
			"unique nodename using\nthe celery worker `-n` option.", plural(len(names), "name"), strings.Join(names, ", "))
	}
	return replies, nil
}

// flat is the answers by node; of several of one node the last.
func flat(replies []client.Reply) *protocol.Object {
	out := &protocol.Object{}
	for _, r := range replies {
		out.Set(r.Node, r.Value)
	}
	return out
}

// wake tells the workers that somebody watches, as Celery's monitors do when they start.
func (s *session) wake(ctx context.Context, c *client.Client) error {
	return c.Cast(ctx, protocol.ControlRequest{Method: "heartbeat"})
}

// find is the command of that name.
func find(panel []panelCommand, name string) (panelCommand, bool) {
	i := slices.IndexFunc(panel, func(p panelCommand) bool { return p.name == name })
	if i < 0 {
		return panelCommand{}, false
	}
	return panel[i], true
}
