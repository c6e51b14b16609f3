package command

import (
	"slices"
	"strings"
	"testing"
)

func TestPositionalArgumentsFollowTheSignature(t *testing.T) {
	for _, tt := range []struct{ line, want, err string }{
		{line: "rate_limit proj.add 5/s", want: `{"task_name": "proj.add", "rate_limit": "5/s"}`},
		{line: "rate_limit proj.add", want: `{"task_name": "proj.add"}`}, // the worker says what is missing
		{line: "rate_limit a b c", err: "Command 'rate_limit' takes arguments: <task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>"},
		{line: "time_limit t 5 10.5", want: `{"task_name": "t", "soft": 5.0, "hard": 10.5}`},
		{line: "time_limit t soon", err: `"soon" is not a number`},
		{line: "revoke a b", want: `{"task_id": ["a", "b"]}`},
		{line: "revoke", want: `{"task_id": []}`},
		{line: "terminate KILL a b", want: `{"signal": "KILL", "task_id": ["a", "b"]}`},
		{line: "terminate KILL", want: `{"signal": "KILL", "task_id": []}`},
		{line: "revoke_by_stamped_headers k=v", want: `{"headers": ["k=v"]}`},
		{line: "add_consumer q x topic a.#", want: `{"queue": "q", "exchange": "x", "exchange_type": "topic", "routing_key": "a.#"}`},
		{line: "autoscale 6 2", want: `{"max": 6, "min": 2}`},
		{line: "pool_grow", want: `{}`},
		{line: "pool_grow 2", want: `{"n": 2}`},
		{line: "pool_grow two", err: `"two" is not a whole number`},
		{line: "enable_events surplus", want: `{}`},
		{line: "conf yes", want: `{"with_defaults": true}`},
		{line: "conf maybe", err: `"maybe" is not true or false`},
		{line: "query_task a", want: `{"ids": ["a"]}`},
		{line: "registered rate_limit", want: `{"taskinfoitems": ["rate_limit"]}`},
		{line: "objgraph Request 5 2", want: `{"type": "Request", "num": 5, "max_depth": 2}`},
	} {
		words := strings.Fields(tt.line)
		c, ok := find(slices.Concat(inspectPanel, controlPanel), words[0])
		if !ok {
			t.Fatalf("no command %q", words[0])
		}
		got, err := c.arguments(words[1:])
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", tt.line, err, tt.err)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.line, err)
		case jsonText(got) != tt.want:
			t.Errorf("%s: %s, want %s", tt.line, jsonText(got), tt.want)
		}
	}
}
