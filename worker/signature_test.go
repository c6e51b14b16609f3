package worker

import (
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

// TestArgumentsOfCommandsAreRefusedInPythonsWords: the texts are those of CPython 3.11 for the functions of
// celery/worker/control.py, called with keyword arguments.
func TestArgumentsOfCommandsAreRefusedInPythonsWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		function string
		args     []string
		want     string
	}{
		{"ping", []string{"anything"}, ""},
		{"ping", []string{"state"}, "TypeError: ping() got multiple values for argument 'state'"},
		{"active_queues", []string{"x", "state"}, "TypeError: active_queues() got an unexpected keyword argument 'x'"},
		{"active_queues", []string{"state", "x"}, "TypeError: active_queues() got multiple values for argument 'state'"},
		{"autoscale", []string{"max", "min"}, ""},
		{"autoscale", []string{"max", "n"}, "TypeError: autoscale() got an unexpected keyword argument 'n'"},
		{"revoke", nil, "TypeError: revoke() missing 1 required positional argument: 'task_id'"},
		{"revoke", []string{"task_id", "more"}, ""},
		{"terminate", []string{"more"}, "TypeError: terminate() missing 2 required positional arguments: 'signal' and 'task_id'"},
		{"terminate", []string{"signal"}, "TypeError: terminate() missing 1 required positional argument: 'task_id'"},
		{"election", []string{"topic"}, "TypeError: election() missing 1 required positional argument: 'id'"},
	} {
		args := &protocol.Object{}
		for _, name := range tt.args {
			args.Set(name, nil)
		}
		s := signatures[tt.function]
		s.function = tt.function
		got := ""
		if err := s.check(args); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s(%q): %q, want %q", tt.function, tt.args, got, tt.want)
		}
	}
	for name := range commands() {
		if _, ok := signatures[name]; !ok && len(name) > 5 && name[:5] != "dump_" {
			t.Errorf("the command %s has no signature", name)
		}
	}
}
