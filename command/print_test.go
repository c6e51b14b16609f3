package command

import (
	"bytes"
	"os"
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

// The texts were printed by Celery 5.7's CLIContext.pretty for these answers.
func TestAnswersLookAsCeleryPrintsThem(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"a text in ok", `{"ok": "pong"}`, "->  w@h: OK\n        pong\n"},
		{"an error", `{"error": "KeyError('x')"}`, "->  w@h: ERROR\n        KeyError('x')\n"},
		{"ok wins over error", `{"error": 1, "ok": null}`, "->  w@h: OK\n        None\n"},
		{"an empty list", `[]`, "->  w@h: OK\n    - empty -\n"},
		{"a list of texts", `["a", "b [rate_limit=1/m]"]`, "->  w@h: OK\n    * a\n    * b [rate_limit=1/m]\n"},
		{
			"a list of objects", `[{"id": "x", "args": [1, 2.0, null, true], "kwargs": {"é": "it's"}}]`,
			"->  w@h: OK\n    * {'id': 'x', 'args': [1, 2.0, None, True], 'kwargs': {'é': \"it's\"}}\n",
		},
		{
			"an object, sorted", `{"b": [1, {"z": {}, "y": []}], "a": "é", "c": 1e-07}`,
			"->  w@h: OK\n    {\n        \"a\": \"\\u00e9\",\n        \"b\": [\n            1,\n            {\n                \"y\": [],\n                \"z\": {}\n            }\n        ],\n        \"c\": 1e-07\n    }\n",
		},
		{"an empty object", `{}`, "->  w@h: OK\n    {}\n"},
		{"null", `null`, "->  w@h: OK\n    None\n"},
		{"a number", `3.5`, "->  w@h: OK\n    3.5\n"},
		{"lines", `"a\n\nb"`, "->  w@h: OK\n    a\n    \n    b\n"},
		{"infinity", `{"n": Infinity}`, "->  w@h: OK\n    {\n        \"n\": Infinity\n    }\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := protocol.ParseJSON([]byte(tt.answer), protocol.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			chat(&out, false, "w@h", v, true)
			if out.String() != tt.want {
				t.Errorf("got\n%q, want\n%q", out.String(), tt.want)
			}
		})
	}
}

func TestDeepAnswersArePrinted(t *testing.T) {
	var v protocol.Value = "end"
	for range 500 {
		v = []protocol.Value{v}
	}
	var out bytes.Buffer
	chat(&out, false, "w@h", object("deep", 1), true)
	chat(&out, false, "w@h", protocol.ObjectOf(protocol.Member{Key: "deep", Value: v}), true)
	if out.Len() > 200_000 {
		t.Errorf("%d bytes for 500 brackets", out.Len())
	}
}

// testdata holds what `celery inspect --list` and `celery control --list` print.
func TestTheListsOfCommandsAreCelerys(t *testing.T) {
	for _, k := range remoteKinds(Program{}) {
		want, err := os.ReadFile("testdata/" + k.name + "-list.txt")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code := run(t.Context(), Program{}, []string{"stalk", k.name, "--list"}, process{stdout: &out, stderr: &out}); code != 0 {
			t.Errorf("code %d", code)
		}
		if out.String() != string(want) {
			t.Errorf("stalk %s --list prints\n%s", k.name, out.String())
		}
	}
}
