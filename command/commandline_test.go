package command

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// What a flag is given under one of its names is had under all of them, at the level of the command line where it stands.
func TestTheNamesOfAFlagAreOneFlag(t *testing.T) {
	flags := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "broker", Aliases: []string{"b"}},
			&cli.StringSliceFlag{Name: "queues", Aliases: []string{"Q"}},
			&cli.BoolFlag{Name: "purge", Aliases: []string{"discard"}},
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 20},
		}
	}
	for _, tt := range []struct{ args, broker, queues, err string }{
		{args: "sub -b x -Q a -Q b,c", broker: "x", queues: "a b c"},
		{args: "-b x sub --queues a --discard", broker: "x", queues: "a"},
		{args: "-b outer sub -broker inner", broker: "inner"},
		{args: "sub -b=x=y", broker: "x=y"},
		{args: "sub -b x --broker y", err: "cannot use two forms of the same flag: b broker"},
		{args: "sub -n many", err: `invalid value "many" for flag -n`},
		{args: "sub --nope", err: "flag provided but not defined: -nope"},
		{args: "sub -b", err: "flag needs an argument: -b"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			ran := false
			program := &cli.Command{HelpName: "stalk", Flags: flags(), Subcommands: []*cli.Command{{Name: "sub", Flags: flags(), Action: func(c *cli.Context) error {
				ran = true
				for _, name := range []string{"broker", "b"} {
					if got, _ := given(c, name); got != tt.broker {
						t.Errorf("%s is %q, want %q", name, got, tt.broker)
					}
				}
				for _, name := range []string{"queues", "Q"} {
					if got := c.StringSlice(name); !slices.Equal(got, strings.Fields(tt.queues)) {
						t.Errorf("%s is %q, want %q", name, got, tt.queues)
					}
				}
				if want := strings.Contains(tt.args, "--discard"); givenBool(c, "purge") != want || givenBool(c, "discard") != want {
					t.Errorf("purge is not %v under both its names", want)
				}
				if isSet(c, "limit") || c.Int("n") != 20 {
					t.Errorf("limit is %d; was it given: %v", c.Int("n"), isSet(c, "limit"))
				}
				return nil
			}}}}
			err := commandLine{}.run(t.Context(), program, nil, strings.Fields(tt.args))
			if tt.err == "" && (err != nil || !ran) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%v, want %q", err, tt.err)
			}
		})
	}
}

func TestHelpOfACommand(t *testing.T) {
	var out bytes.Buffer
	program := &cli.Command{HelpName: "stalk", Subcommands: []*cli.Command{{
		Name: "sub", Usage: "do it", ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "colour", Aliases: []string{"c"}, Usage: "paint it with `PAINT`", Value: "red"},
			&cli.BoolFlag{Name: "refused"},
			&cli.BoolFlag{Name: "dry", Usage: "paint nothing"},
		},
		Subcommands: []*cli.Command{{Name: "half", Usage: "do half of it"}, {Name: "hidden", Hidden: true}},
	}}}
	if err := (commandLine{&out}).run(t.Context(), program, nil, []string{"sub", "--help"}); err != nil {
		t.Fatal(err)
	}
	const want = `NAME:
   stalk sub - do it

USAGE:
   stalk sub [options] NAME

COMMANDS:
   half  do half of it

OPTIONS:
   --colour PAINT, -c PAINT  paint it with PAINT (default: "red")
   --dry                     paint nothing
   --help, -h                show help
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}
