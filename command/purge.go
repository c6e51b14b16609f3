package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/transports"
)

// queueFlags choose queues.
func queueFlags(what string) []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "queues", Aliases: []string{"Q"}, Usage: what + " these `QUEUES`, comma separated; default: all of the settings"},
		&cli.StringSliceFlag{Name: "exclude-queues", Aliases: []string{"X"}, Usage: what + " all but these `QUEUES`"},
	}
}

func purgeCommand(p process) *cli.Command {
	return &cli.Command{
		Name:  "purge",
		Usage: "delete the messages that wait in queues",
		Flags: slices.Concat(queueFlags("purge"), []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "do not ask"},
			&cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print JSON"},
		}, globalFlags()),
		Action: inSession(p, runPurge),
	}
}

// runPurge is `stalk purge`. What workers hold already is not deleted.
func runPurge(s *session) error {
	names, err := s.queues()
	if err != nil || len(names) == 0 {
		return err
	}
	word := plural(len(names), "queue")
	if !s.c.Bool("force") {
		sorted := slices.Sorted(slices.Values(names))
		question := fmt.Sprintf("WARNING:This will remove all tasks from %s: %s.\n         There is no undo for this operation!\n\n"+
			"(to skip this prompt use the -f option)\nAre you sure you want to delete all tasks?", word, strings.Join(sorted, ", "))
		if err := s.confirm(question); err != nil {
			return err
		}
	}
	counts, total, err := s.purge(names)
	if err != nil {
		return err
	}
	switch {
	case s.json():
		rows := make([]any, len(names))
		for i, name := range names {
			rows[i] = map[string]any{"queue": name, "messages": counts[i]}
		}
		s.say("%s", jsonText(object("purged", total, "queues", rows)))
	case total > 0:
		s.say("Purged %d %s from %d known task %s.", total, plural(total, "message"), len(names), word)
	default:
		s.say("No messages purged from %d %s.", len(names), word)
	}
	return nil
}

// purge empties the queues; one that is missing held nothing.
func (s *session) purge(names []string) (counts []int, total int, err error) {
	err = s.admin(func(ctx context.Context, a transports.QueueAdmin) error {
		for _, name := range names {
			ctx, cancel := brief(ctx)
			n, err := a.Purge(ctx, name)
			cancel()
			if err != nil && !errors.Is(err, transports.ErrNoQueue) {
				return s.unavailable(err)
			}
			counts = append(counts, n)
			total += n
		}
		return nil
	})
	return counts, total, err
}

// confirm asks on standard output and wants "y" or "yes".
func (s *session) confirm(question string) error {
	fmt.Fprintf(s.out(), "%s [y/N]: ", question)
	if s.p.stdin != nil {
		line, _ := bufio.NewReader(io.LimitReader(s.p.stdin, 1024)).ReadString('\n')
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
	}
	return exitError{1, "Aborted!"}
}
