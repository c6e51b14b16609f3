package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/protocol"
)

// A remoteKind is `stalk inspect` or `stalk control`: the same but for their commands, and that one counts the
// nodes that answered while the other prints every answer it got.
type remoteKind struct {
	name, usage string
	panel       []panelCommand
}

func remoteKinds(g Program) []remoteKind {
	var mine []panelCommand
	for name := range g.Control {
		mine = append(mine, own(name))
	}
	panel := func(stock []panelCommand) []panelCommand {
		all := slices.Clone(stock)
		for _, m := range mine {
			if _, there := find(all, m.name); !there {
				all = append(all, m)
			}
		}
		slices.SortFunc(all, func(a, b panelCommand) int { return strings.Compare(a.name, b.name) })
		return all
	}
	return []remoteKind{
		{"inspect", "ask the workers: stalk inspect --list tells what", panel(inspectPanel)},
		{"control", "steer the workers: stalk control --list tells how", panel(controlPanel)},
	}
}

func (k remoteKind) command(p process) *cli.Command {
	return &cli.Command{
		Name:      k.name,
		Usage:     k.usage,
		ArgsUsage: "COMMAND [arguments]",
		Flags:     append([]cli.Flag{&cli.BoolFlag{Name: "list", Usage: "list the commands and exit"}}, remoteFlags()...),
		Action: func(c *cli.Context) error {
			if c.Bool("list") {
				listPanel(p.stdout, strings.ToUpper(k.name[:1])+k.name[1:], k.panel)
				return nil
			}
			if !c.Args().Present() {
				return wrongly("Missing argument 'COMMAND'.")
			}
			command, known := find(k.panel, c.Args().First())
			if !known {
				names := make([]string, len(k.panel))
				for i, p := range k.panel {
					names[i] = p.name
				}
				return wrongly("Command %s not recognized. Available %s commands: %s", c.Args().First(), k.name, strings.Join(names, ", "))
			}
			return inSession(p, func(s *session) error { return k.run(s, command) })(c)
		},
	}
}

func (k remoteKind) run(s *session, command panelCommand) error {
	arguments, err := command.arguments(s.c.Args().Tail())
	if err != nil {
		return usageError{err}
	}
	if command.pairs {
		if arguments, err = keyValues(s.c.Args().Tail()); err != nil {
			return usageError{err}
		}
	}
	s.name = k.name + " " + command.name
	replies, err := s.ask(protocol.ControlRequest{Method: command.name, Arguments: arguments}, true)
	switch {
	case err != nil:
		return err
	case s.json() && k.name == "control":
		all := make([]protocol.Value, len(replies))
		for i, r := range replies {
			all[i] = protocol.ObjectOf(protocol.Member{Key: r.Node, Value: r.Value})
		}
		s.say("%s", jsonText(all))
	case s.json():
		s.say("%s", jsonText(flat(replies)))
	case k.name == "inspect" && !s.quiet():
		n := flat(replies).Len()
		s.say("\n%d %s online.", n, plural(n, "node"))
	}
	return nil
}

// keyValues reads key=value arguments; a value that is JSON is taken as what it says.
func keyValues(given []string) (*protocol.Object, error) {
	out := &protocol.Object{}
	for _, kv := range given {
		key, text, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q: want key=value", kv)
		}
		v, err := protocol.ParseJSON([]byte(text), protocol.Limits{})
		if err != nil {
			v = text
		}
		out.Set(key, v)
	}
	return out, nil
}
