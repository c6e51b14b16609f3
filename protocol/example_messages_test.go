package protocol_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

func ExampleDecodeTask() {
	m := protocol.Message{
		Headers:    protocol.ObjectOf(protocol.Member{Key: "task", Value: "proj.add"}, protocol.Member{Key: "id", Value: "4f8d"}),
		Properties: protocol.Properties{ContentType: "application/json"},
		Body:       []byte(`[[2, 3], {}, null]`),
	}
	task, err := protocol.DecodeTask(m, protocol.DecodeOptions{})
	fmt.Println(task.Name, task.ID, task.Args, err)

	m.Body = []byte(`[[2, 3], null, null]`)
	_, err = protocol.DecodeTask(m, protocol.DecodeOptions{})
	fmt.Println(errors.Is(err, protocol.ErrInvalidTask))
	fmt.Println(err)
	// Output:
	// proj.add 4f8d [2 3] <nil>
	// true
	// protocol: body[1]: invalid task message: is missing or null, want the keyword arguments, an object
}

func ExampleResult_Encode() {
	doc, err := protocol.Result{
		TaskID:    "4f8d",
		Status:    protocol.Failure,
		Exception: protocol.NewException("ValueError", "boom", 3),
		DateDone:  time.Date(2026, 11, 21, 12, 30, 45, 0, time.UTC),
	}.Encode(protocol.Encoding{})
	fmt.Println(string(doc), err)
	// Output:
	// {"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["boom", 3], "exc_module": "builtins"}, "traceback": null, "children": [], "date_done": "2026-11-21T12:30:45+00:00", "task_id": "4f8d"} <nil>
}
