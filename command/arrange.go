package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts the flags of a command line before its arguments, where package flag wants them: Celery's users write
// `inspect query_task ID -d w1@web1`. It also takes apart short flags with their value, as in -c2 and -lINFO. What it
// does not know stays where it is, to be refused.
func arrange(rest []string, flags []cli.Flag, commands []*cli.Command) (out []string) {
	for len(rest) > 0 {
		if isFlag(rest[0]) {
			taken, n := takeFlag(rest, flags)
			out, rest = append(out, taken...), rest[n:]
			continue
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(rest[0]) })
		if i < 0 {
			break
		}
		command := commands[i]
		out, rest = append(out, rest[0]), rest[1:]
		if command.SkipFlagParsing {
			break
		}
		flags, commands = command.Flags, command.Subcommands
		if len(commands) == 0 {
			return append(out, flagsFirst(rest, flags)...)
		}
	}
	return append(out, rest...)
}

// flagsFirst arranges what follows a command.
func flagsFirst(args []string, flags []cli.Flag) []string {
	var front, back []string
	for len(args) > 0 {
		switch {
		case args[0] == "--":
			back, args = append(back, args[1:]...), nil
		case isFlag(args[0]):
			taken, n := takeFlag(args, flags)
			front, args = append(front, taken...), args[n:]
		default:
			back, args = append(back, args[0]), args[1:]
		}
	}
	if len(back) > 0 {
		front = append(front, "--")
	}
	return append(front, back...)
}

// isFlag reports whether the argument is one; a negative number is not.
func isFlag(arg string) bool {
	return len(arg) > 1 && arg[0] == '-' && (arg[1] < '0' || arg[1] > '9')
}

// takeFlag is the flag at the start of args, as package flag wants it, and how many arguments it is.
func takeFlag(args []string, flags []cli.Flag) (taken []string, n int) {
	name, _, joined := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
	f := flagNamed(flags, name)
	switch {
	case f == nil && !joined && len(name) > 1 && !strings.HasPrefix(args[0], "--"):
		if short := flagNamed(flags, name[:1]); short != nil && takesValue(short) {
			return []string{"-" + name[:1], name[1:]}, 1
		}
	case f != nil && !joined && takesValue(f) && len(args) > 1:
		return args[:2], 2
	}
	return args[:1], 1
}

func flagNamed(flags []cli.Flag, name string) cli.Flag {
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return nil
	}
	return flags[i]
}

func takesValue(f cli.Flag) bool {
	_, isBool := f.(*cli.BoolFlag)
	return !isBool
}
