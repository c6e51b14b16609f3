package command

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"
)

// A commandLine runs what was typed. The commands and their flags are urfave/cli's, so that another program's App can hold them,
// but its App does not run them here: it prints help with text/template, which calls methods by name, and the linker of a program
// that can do so keeps every exported method of every type: 11 MB of 39, and 3 MB of memory.
type commandLine struct {
	out io.Writer // for help and version
}

// run runs the command, or the one below it that the arguments name. parent is nil for the first command, the program.
func (l commandLine) run(ctx context.Context, command *cli.Command, parent *cli.Context, args []string) error {
	if !command.HideHelp {
		command.Flags = append(command.Flags, &cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show help", DisableDefaultText: true})
	}
	if parent == nil {
		command.Flags = append(command.Flags, &cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print the version", DisableDefaultText: true})
	}
	set, err := parseFlags(command, args)
	if err != nil {
		return usageError{err}
	}
	c := cli.NewContext(nil, set, parent)
	c.Context, c.Command = ctx, command
	switch {
	case c.Bool("help"):
		showHelp(l.out, command)
		return nil
	case parent == nil && c.Bool("version"):
		fmt.Fprintf(l.out, "%s version %s\n", command.HelpName, Version)
		return nil
	}
	if sub := command.Command(c.Args().First()); sub != nil {
		sub.HelpName = command.HelpName + " " + sub.Name
		return l.run(ctx, sub, c, c.Args().Tail())
	}
	return command.Action(c)
}

// parseFlags reads the flags before the first argument. What one of a flag's names got, its other names have too.
func parseFlags(command *cli.Command, args []string) (*flag.FlagSet, error) {
	set := flag.NewFlagSet(command.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	for _, f := range command.Flags {
		if err := f.Apply(set); err != nil {
			return nil, err
		}
	}
	if command.SkipFlagParsing {
		return set, set.Parse(append([]string{"--"}, args...))
	}
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, f := range command.Flags {
		names := f.Names()
		used := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !given[name] })
		if len(used) > 1 {
			return nil, fmt.Errorf("cannot use two forms of the same flag: %s %s", used[1], used[0])
		}
		for _, name := range names {
			if len(used) == 0 || name == used[0] {
				continue
			}
			value := set.Lookup(used[0]).Value
			text := value.String()
			if whole, ok := value.(cli.Serializer); ok { // a list
				text = whole.Serialize()
			}
			if err := set.Set(name, text); err != nil {
				return nil, err
			}
		}
	}
	return set, nil
}
