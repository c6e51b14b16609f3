package command

import (
	"slices"
	"strings"
	"testing"
)

func TestFlagsMayStandAnywhere(t *testing.T) {
	all := commands(Program{}, process{})
	for _, tt := range []struct{ name, given, want string }{
		{"flags behind arguments", "inspect query_task a b -d w1@h -j", "inspect -d w1@h -j -- query_task a b"},
		{"flags between arguments", "call proj.add -a [1] --queue q", "call -a [1] --queue q -- proj.add"},
		{"a value that looks like a flag", "call t -a -1 -k x", "call -a -1 -k x -- t"},
		{"a negative number is an argument", "control pool_grow -1 -t 2", "control -t 2 -- pool_grow -1"},
		{"flags before the command", "-b URL -q status -j", "-b URL -q status -j"},
		{"a value joined by =", "--broker=URL status", "--broker=URL status"},
		{"short flags with their value", "worker -c2 -lINFO -Qa,b", "worker -c 2 -l INFO -Q a,b"},
		{"a long name with one dash", "worker -loglevel INFO a=b", "worker -loglevel INFO -- a=b"},
		{"subcommands", "quarantine show id -n 3 -b URL", "quarantine show -n 3 -b URL -- id"},
		{"the broker before the subcommand", "quarantine -b URL list -j", "quarantine -b URL list -j"},
		{"what follows -- is no flag", "result -- -odd-id", "result -- -odd-id"},
		{"unknown flags stay, to be refused", "status --nope x", "status --nope -- x"},
		{"unknown commands stay", "nope -x", "nope -x"},
		{"a command that is refused takes anything", "migrate a -n 3 b", "migrate a -n 3 b"},
		{"a flag without its value", "status -d", "status -d"},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			given := strings.Fields(tt.given)
			before := slices.Clone(given)
			got := arrange(given, globalFlags(), all)
			if want := strings.Fields(tt.want); !slices.Equal(got, want) {
				t.Errorf("arrange(%q) = %q, want %q", tt.given, got, want)
			}
			if !slices.Equal(given, before) {
				t.Errorf("the arguments were changed: %q", given)
			}
		})
	}
}
