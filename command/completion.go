package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completer is the hidden command that the shells' scripts ask: its arguments are the words of the command line
// after the program's name, the last of them the one being written.
const completer = "__complete"

// The scripts pass the words on as they stand; nothing typed is evaluated.
var completionScripts = map[string]string{
	"bash": `_%[1]s_complete() {
    local IFS=$'\n'
    COMPREPLY=($("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _%[1]s_complete %[2]s
`,
	"zsh": `#compdef %[2]s
_%[1]s_complete() {
    local -a found
    found=("${(@f)$("${words[1]}" __complete "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -- "${found[@]}"; else _files; fi
}
compdef _%[1]s_complete %[2]s
`,
	"fish": `function __%[1]s_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] __complete $words[2..-1] 2>/dev/null)
    if set -q found[1]
        printf '%%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c %[2]s -f -a '(__%[1]s_complete)'
`,
}

func completionCommand(p process) *cli.Command {
	var shells []*cli.Command
	for _, name := range []string{"bash", "zsh", "fish"} {
		shells = append(shells, &cli.Command{
			Name: name, Usage: "print the script for " + name,
			Action: func(*cli.Context) error {
				word := strings.Map(func(r rune) rune {
					if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
						return r
					}
					return '_'
				}, p.name)
				fmt.Fprintf(p.stdout, completionScripts[name], word, p.name)
				return nil
			},
		})
	}
	return &cli.Command{
		Name: "completion", Usage: "print a script that completes commands and flags: . <(stalk completion bash)",
		ArgsUsage: "bash | zsh | fish", Subcommands: shells,
		Action: func(c *cli.Context) error {
			return wrongly("completion: want bash, zsh or fish, got %q", c.Args().First())
		},
	}
}

func completeCommand(g Program, p process) *cli.Command {
	return &cli.Command{
		Name: completer, Hidden: true, SkipFlagParsing: true, HideHelp: true,
		Action: func(c *cli.Context) error {
			for _, word := range completions(c.Args().Slice(), globalFlags(), commands(g, p), panels(g)) {
				fmt.Fprintln(p.stdout, word)
			}
			return nil
		},
	}
}

// panels are the words that may follow inspect and control.
func panels(g Program) map[string][]string {
	out := map[string][]string{}
	for _, k := range remoteKinds(g) {
		for _, c := range k.panel {
			out[k.name] = append(out[k.name], c.name)
		}
	}
	return out
}

// completions are the words that the last of words may become; none where anything may stand, such as a flag's
// value.
func completions(words []string, flags []cli.Flag, commands []*cli.Command, panels map[string][]string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	var choices []string
	var next []string // words that may stand here as the first argument
	for rest := words[:len(words)-1]; len(rest) > 0; {
		if isFlag(rest[0]) {
			f := flagNamed(flags, strings.TrimLeft(rest[0], "-"))
			if f != nil && takesValue(f) {
				if len(rest) == 1 {
					return nil // the value is being written
				}
				rest = rest[1:]
			}
			rest = rest[1:]
			continue
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(rest[0]) })
		if i >= 0 {
			flags, commands, next = commands[i].Flags, commands[i].Subcommands, panels[commands[i].Name]
		} else {
			next, commands = nil, nil
		}
		rest = rest[1:]
	}
	if strings.HasPrefix(last, "-") {
		for _, f := range flags {
			for _, name := range f.Names() {
				if len(name) > 1 {
					choices = append(choices, "--"+name)
				}
			}
		}
		choices = append(choices, "--help")
	} else {
		for _, c := range commands {
			if !c.Hidden {
				choices = append(choices, c.Name)
			}
		}
		choices = append(choices, next...)
	}
	choices = slices.DeleteFunc(choices, func(c string) bool { return !strings.HasPrefix(c, last) })
	slices.Sort(choices)
	return slices.Compact(choices)
}
