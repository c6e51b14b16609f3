// Package command is Stalk's command line: flags, settings, signals, printing and exit codes around a
// worker. Main owns the process; Run is the same without the process, for tests and for programs that
// want to keep their main.
//
// It decides nothing about tasks: it builds a worker.Config from what Celery's users already have (flags,
// CELERY_* variables, a file of Celery's lower-case settings) and says clearly what it cannot use.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/worker"
)

// Version is what --version and the banner print.
const Version = "0.1.0"

// A Program is what a command line serves: the tasks, and what else a program adds to its worker. The zero
// Program serves the stock tasks only.
type Program struct {
	Handlers []handlers.Handler
	Control  map[string]worker.Command // remote control commands of its own, by name; see worker.Control
}

// Main runs the command line over the given tasks and ends the process. It is all a user's main needs:
//
//	func main() { command.Main(handlers.Func("thumbs.make", thumb)) }
func Main(hs ...handlers.Handler) { Program{Handlers: hs}.Main() }

// Main runs the command line and ends the process.
func (g Program) Main() {
	if g.Child() {
		os.Exit(0)
	}
	folder, err := os.Getwd() // --workdir leaves it
	p := process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(), args: os.Args, own: true}
	code := run(context.Background(), g, os.Args, p)
	if code == restartCode && err == nil {
		err = become(folder, os.Args, p.environ)
	}
	if code == restartCode {
		fmt.Fprintf(os.Stderr, "stalk: restart: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

// Run is Main without the process: args as os.Args, ctx in place of the first signal. It returns the
// exit code: 0 after a clean end, 1 when something failed, tasks were cut short by --grace or SIGINT asked for the
// end, 2 when the command line or a setting is wrong, 73 when the pidfile is another worker's.
func Run(ctx context.Context, hs []handlers.Handler, args []string, stdout, stderr io.Writer) int {
	return Program{Handlers: hs}.Run(ctx, args, stdout, stderr)
}

// Run is Main without the process, as the function Run.
func (g Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return run(ctx, g, args, process{stdout: stdout, stderr: stderr, environ: os.Environ()})
}

// restartCode is not an exit code: the process is to run its command line again.
const restartCode = -1

// usageError is a mistake in what the user gave: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func run(ctx context.Context, g Program, args []string, p process) int {
	p.name = "stalk"
	if len(args) > 0 && args[0] != "" {
		p.name = filepath.Base(args[0])
	}
	program := &cli.Command{
		Name: "stalk", HelpName: "stalk", Usage: "a Go worker beside Celery",
		Flags: globalFlags(), Subcommands: append(commands(g, p), completeCommand(g, p)),
		Action: chooseBelow(p),
	}
	typed := arrange(args[min(1, len(args)):], program.Flags, program.Subcommands)
	err := commandLine{p.stdout}.run(ctx, program, nil, typed)
	var usage usageError
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errRestart):
		return restartCode
	case errors.As(err, &exit):
		if text := strings.TrimSpace(err.Error()); text != "" { // there may be more than the exit's own
			fmt.Fprintln(p.stderr, text)
		}
		return exit.code
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "stalk: %v\n", err)
		return 2
	default:
		fmt.Fprintf(p.stderr, "stalk: %v\n", err)
		return 1
	}
}

// Commands are the commands over the given tasks, to mount into another cli.App with append. Signals
// are that App's business: the commands stop when its context is done.
func Commands(hs ...handlers.Handler) []*cli.Command {
	return commands(Program{Handlers: hs}, process{
		name: "stalk", stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(),
	})
}

func commands(g Program, p process) []*cli.Command {
	wrong := func(_ *cli.Context, err error, _ bool) error { return usageError{err} }
	all := []*cli.Command{
		{
			Name:      "worker",
			Usage:     "take tasks from the broker and run them",
			Flags:     append(workerFlags(), globalFlags()...),
			ArgsUsage: "[key=value ...]",
			Action:    func(c *cli.Context) error { return runWorker(c, g, p) },
		},
		{
			Name:   "demo",
			Usage:  "run a worker with an embedded broker, to try things without a server",
			Flags:  append(demoFlags(), globalFlags()...),
			Action: func(c *cli.Context) error { return runDemo(c, g, p) },
		},
		checkCommand(p, wrong),
	}
	for _, k := range remoteKinds(g) {
		all = append(all, k.command(p))
	}
	all = append(all, statusCommand(p), eventsCommand(p), callCommand(p), resultCommand(p), purgeCommand(p),
		quarantineCommand(p), listCommand(p), reportCommand(p), completionCommand(p))
	all = append(all, refusedCommands()...)
	for _, c := range all {
		onUsageError(c, wrong)
	}
	return all
}

// chooseBelow is the action of a command that only has commands below it: it shows them, or refuses one it has not.
func chooseBelow(p process) cli.ActionFunc {
	return func(c *cli.Context) error {
		if name := c.Args().First(); name != "" {
			return wrongly("no such command: %q; %s --help lists them", name, c.Command.HelpName)
		}
		showHelp(p.stdout, c.Command)
		return nil
	}
}

// onUsageError tells c and what is below it what to do about a mistake in its flags. The help command, one variable of
// urfave/cli for all that run in a process, is left out: --help is there.
func onUsageError(c *cli.Command, wrong cli.OnUsageErrorFunc) {
	c.OnUsageError, c.HideHelpCommand = wrong, true
	for _, sub := range c.Subcommands {
		onUsageError(sub, wrong)
	}
}
