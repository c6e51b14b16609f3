package canvas_test

import (
	"testing"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/protocol"
)

// TestAnErrbackOfNestedChordsIsCalledByTheOuterOne: Celery's chord.link_error puts an errback on the body of a
// chord and on those of the chords in its header. When an inner one fails its outer chord fails too, and calls
// the errback; what stands on the inner body alone is called for that.
func TestAnErrbackOfNestedChordsIsCalledByTheOuterOne(t *testing.T) {
	t.Parallel()
	const both = `{"task": "both", "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": true}`
	const own = `{"task": "own", "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": true}`
	outer := `{"task": "body", "args": [], "kwargs": {}, "options": {"link_error": [` + both + `], "task_id": "outer", "group_id": "G"}, "subtask_type": null, "immutable": true}`
	inner := `{"task": "body", "args": [], "kwargs": {}, "options": {"link_error": [` + both + `, ` + own + `], "task_id": "inner", "group_id": "G",
		"group_index": 1, "chord": ` + outer + `}, "subtask_type": null, "immutable": true}`
	body, err := protocol.ParseJSON([]byte(inner), protocol.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	effects, err := canvas.ChordFailed(canvas.Part{GroupID: "g", TaskID: "t", Body: body}, "text", nil,
		&canvas.Env{NewID: func() string { return "id" }, NativeChords: true})
	if err != nil {
		t.Fatal(err)
	}
	var sent []string
	reported := false
	for _, e := range effects {
		switch e := e.(type) {
		case canvas.Send:
			sent = append(sent, e.Task.Name)
		case canvas.Part:
			reported = e.GroupID == "G" && e.TaskID == "inner"
		}
	}
	if len(sent) != 1 || sent[0] != "own" || !reported {
		t.Errorf("sent %q, the outer chord learns of it: %v; want the inner body's own errback and a part", sent, reported)
	}
}
