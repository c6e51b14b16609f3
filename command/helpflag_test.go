package command

import (
	"flag"

	"github.com/urfave/cli/v2"
)

// urfave/cli has one help flag for all apps of a process and writes to it as each begins; tests run several at a time.
func init() {
	if f, ok := cli.HelpFlag.(*cli.BoolFlag); ok {
		cli.HelpFlag = ownFlag{f}
	}
	if f, ok := cli.VersionFlag.(*cli.BoolFlag); ok {
		cli.VersionFlag = ownFlag{f}
	}
}

// ownFlag is a flag that each app has for itself.
type ownFlag struct{ *cli.BoolFlag }

func (f ownFlag) Apply(set *flag.FlagSet) error {
	mine := *f.BoolFlag
	return mine.Apply(set)
}
