package command

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// showHelp prints what a command is for, the commands below it and its flags. Those with nothing to say about themselves, which
// are Celery's that are refused here, are left out.
func showHelp(out io.Writer, command *cli.Command) {
	w := tabwriter.NewWriter(out, 1, 8, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "NAME:\n   %s - %s\n\nUSAGE:\n   %[1]s [options]", command.HelpName, command.Usage)
	if command.ArgsUsage != "" {
		fmt.Fprintf(w, " %s", command.ArgsUsage)
	} else if len(command.Subcommands) > 0 {
		fmt.Fprint(w, " COMMAND")
	}
	fmt.Fprintln(w)
	heading := "\nCOMMANDS:\n"
	for _, sub := range command.Subcommands {
		if !sub.Hidden {
			fmt.Fprintf(w, "%s   %s\t%s\n", heading, sub.Name, sub.Usage)
			heading = ""
		}
	}
	w.Flush() // each table has its own columns
	heading = "\nOPTIONS:\n"
	for _, f := range command.Flags {
		if d, ok := f.(cli.DocGenerationFlag); ok && d.GetUsage() != "" {
			fmt.Fprintf(w, "%s   %s\n", heading, strings.TrimSuffix(strings.TrimSuffix(f.String(), " (default: false)"), " (default: 0)"))
			heading = ""
		}
	}
}
