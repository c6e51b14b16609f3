package command

import "github.com/urfave/cli/v2"

// notOffered are Celery's commands that have no meaning here, and what to do instead.
var notOffered = []struct{ name, instead string }{
	{"amqp", "use the tools of the broker: rabbitmqctl, rabbitmqadmin, redis-cli"},
	{"beat", "run celery beat, or django-celery-beat: what it sends, Go workers run too"},
	{"graph", "use celery graph: it draws the workers of both kinds"},
	{"logtool", "log with --log-json and use the tools for JSON logs"},
	{"migrate", "use celery migrate, or a shovel of RabbitMQ: it moves messages between brokers of both kinds of workers"},
	{"multi", "let systemd, a container or a supervisor start several stalk worker processes"},
	{"shell", "use celery shell, or stalk call and stalk result"},
	{"upgrade", "use celery upgrade settings in the Python project"},
}

// refusedCommands say so, each in one line, whatever arguments they get.
func refusedCommands() []*cli.Command {
	var out []*cli.Command
	for _, n := range notOffered {
		out = append(out, &cli.Command{
			Name: n.name, Hidden: true, SkipFlagParsing: true, HideHelp: true,
			Action: func(*cli.Context) error { return wrongly("%s is not offered here: %s", n.name, n.instead) },
		})
	}
	return out
}
