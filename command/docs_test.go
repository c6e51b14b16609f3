package command

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/handlers/demo"
)

// contextOf is a command line of `stalk worker` without any flag.
func contextOf(t *testing.T) *cli.Context {
	t.Helper()
	set := flag.NewFlagSet("worker", flag.ContinueOnError)
	for _, f := range append(workerFlags(), globalFlags()...) {
		if err := f.Apply(set); err != nil {
			t.Fatal(err)
		}
	}
	return cli.NewContext(nil, set, nil)
}

// TestSettingsDocTellsTheTruth: docs/settings.md names exactly the settings that are read.
func TestSettingsDocTellsTheTruth(t *testing.T) {
	s := settingsOf(t, "{broker_url: 'redis://127.0.0.1:1/0', result_backend: 'rpc://'}")
	c := contextOf(t)
	reg, err := Program{Handlers: demo.Handlers()}.registry(choice{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := logStyleOf(c, s, "n"); err != nil {
		t.Fatal(err)
	}
	textOption(c, s, "logfile", "worker_logfile") // runWorker's own
	textOption(c, s, "pidfile", "worker_pidfile")
	if _, err := workerConfig(c, s, reg, newLog(&bytes.Buffer{}, 0)); err != nil {
		t.Fatal(err)
	}
	s.values["task_serializer"] = "auth" // only then are keys looked for
	if _, err := keyring(s); err == nil {
		t.Error("signed messages without keys")
	}
	text, err := os.ReadFile("../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for line := range strings.Lines(string(text)) {
		if first, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok && strings.HasPrefix(line, "| `") {
			for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(first, -1) {
				told = append(told, m[1])
			}
		}
	}
	for _, name := range told {
		if !s.read[name] {
			t.Errorf("docs/settings.md tells of %s, which nothing reads", name)
		}
	}
	for name := range s.read {
		// broker_write_url is only refused; its row is broker_url's.
		if name != "broker_write_url" && !slices.Contains(told, name) {
			t.Errorf("docs/settings.md does not tell of %s", name)
		}
	}
}
