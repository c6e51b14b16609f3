package command

import (
	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/protocol"
)

func statusCommand(p process) *cli.Command {
	return &cli.Command{
		Name:   "status",
		Usage:  "list the workers that are online",
		Flags:  remoteFlags(),
		Action: inSession(p, runStatus),
	}
}

// runStatus is `stalk status`: a ping.
func runStatus(s *session) error {
	if s.c.Args().Present() {
		return wrongly("status takes no arguments, got %q", s.c.Args().First())
	}
	replies, err := s.ask(protocol.ControlRequest{Method: "ping"}, false)
	if err != nil {
		return err
	}
	nodes := flat(replies)
	if s.json() {
		s.say("%s", jsonText(nodes))
	}
	s.say("\n%d %s online.", nodes.Len(), plural(nodes.Len(), "node"))
	return nil
}
