package command_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/command"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// Commands stand in another program beside its own.
func TestCommandsInAnotherApp(t *testing.T) {
	ping := handlers.Raw("ping", func(context.Context, []protocol.Value, *protocol.Object) (any, error) { return "pong", nil })
	mine := false
	for _, tt := range []struct{ args, want, err string }{
		{args: "demo --help", want: "--port"},
		{args: "worker --help", want: "--concurrency"},
		{args: "worker surplus", err: `worker takes no arguments but key=value settings, got "surplus"`},
		{args: "worker --broker gopher://x", err: "gopher"},
		{args: "mine"},
	} {
		var out bytes.Buffer
		app := &cli.App{
			Name: "ours", Writer: &out, ErrWriter: io.Discard, ExitErrHandler: func(*cli.Context, error) {},
			Commands: append(command.Commands(ping), &cli.Command{Name: "mine", Action: func(*cli.Context) error { mine = true; return nil }}),
		}
		err := app.RunContext(t.Context(), append([]string{"ours"}, strings.Fields(tt.args)...))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("ours %s: %v, want %q", tt.args, err, tt.err)
		}
		if !strings.Contains(out.String(), tt.want) {
			t.Errorf("ours %s: no %q in\n%s", tt.args, tt.want, out.String())
		}
	}
	if !mine {
		t.Error("the program's own command did not run")
	}
}
