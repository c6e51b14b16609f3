package main

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// TestTheSuitesTasksAreRight: no task is built wrongly or twice, and each can be run without a worker.
func TestTheSuitesTasksAreRight(t *testing.T) {
	reg, err := handlers.NewRegistry(tasks()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		task string
		args []protocol.Value
		want any
	}{
		{"identity", []protocol.Value{int64(1)}, int64(1)},
		{"add", []protocol.Value{int64(1), 2.5, int64(3)}, 6.5},
		{"add", []protocol.Value{"a", "b"}, "ab"},
		{"tsum", []protocol.Value{[]protocol.Value{int64(1), true}}, int64(2)},
		{"xsum", []protocol.Value{[]protocol.Value{int64(1), []protocol.Value{int64(2), int64(3)}}}, int64(6)},
	} {
		h, ok := reg.Lookup(module + "." + tt.task)
		if !ok {
			t.Errorf("no task %s", tt.task)
			continue
		}
		got, err := h.Invoke()(context.Background(), &protocol.Task{Name: h.Name(), Args: tt.args, Kwargs: &protocol.Object{}})
		if err != nil || !cmp.Equal(got, tt.want) {
			t.Errorf("%s%v = %v, %v; want %v", tt.task, tt.args, got, err, tt.want)
		}
	}
}

// TestTheSuitesControlCommandsAreThere: those of the suite's tasks.py, by name.
func TestTheSuitesControlCommandsAreThere(t *testing.T) {
	for _, name := range []string{"pidbox_reset_error", "schedule_add_then_cancel_consumer", "pending_operations_count"} {
		if controlCommands()[name] == nil {
			t.Errorf("no command %s", name)
		}
	}
}
