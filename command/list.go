package command

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/transports"
)

func listCommand(p process) *cli.Command {
	return &cli.Command{
		Name:   "list",
		Usage:  "look at the broker",
		Flags:  globalFlags(),
		Action: chooseBelow(p),
		Subcommands: []*cli.Command{{
			Name:  "bindings",
			Usage: "list which queues are bound to which exchanges (Redis)",
			Flags: append([]cli.Flag{
				&cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print JSON"},
			}, globalFlags()...),
			Action: inSession(p, runBindings),
		}},
	}
}

// runBindings is `stalk list bindings`. AMQP itself has no way to ask for bindings.
func runBindings(s *session) error {
	return s.withConn(func(ctx context.Context, conn transports.Conn) error {
		lister, ok := conn.(transports.BindingLister)
		if !ok {
			return failed("Your transport cannot list bindings. RabbitMQ tells them only to its own tools: rabbitmqctl list_bindings, "+
				"rabbitmqadmin list bindings, or GET /api/bindings of the management plugin (%s).", s.transport)
		}
		ctx, cancel := brief(ctx)
		defer cancel()
		bindings, err := lister.Bindings(ctx)
		if err != nil {
			return s.unavailable(err)
		}
		if s.json() {
			rows := make([]any, len(bindings))
			for i, b := range bindings {
				rows[i] = map[string]any{"queue": b.Queue, "exchange": b.Exchange, "routing_key": b.RoutingKey}
			}
			s.say("%s", jsonText(object("bindings", rows)))
			return nil
		}
		rows := make([][]string, len(bindings))
		for i, b := range bindings {
			rows[i] = []string{b.Queue, b.Exchange, b.RoutingKey}
		}
		table(s.out(), []string{"Queue", "Exchange", "Routing Key"}, rows)
		return nil
	})
}
