// Command celerysuite is a worker for Celery's own integration suite: the tasks and control commands of
// t/integration/tasks.py in Go, with their exact semantics, and the flags of stalk worker. `make conformance`
// runs the suite against it.
//
// It uses nothing that a user's program could not use.
package main

import (
	"context"
	"slices"

	"github.com/stalkworker/stalk/command"
	"github.com/stalkworker/stalk/handlers"
)

// module is where the suite's tasks live.
const module = "t.integration.tasks"

func main() {
	command.Program{
		Handlers: tasks(),
		Control:  controlCommands(),
	}.Main()
}

func tasks() []handlers.Handler {
	return slices.Concat(plainTasks(), requestTasks(), redisTasks(), failingTasks(), retryingTasks(), signatureTasks(), canvasTasks())
}

// task is one of the suite's tasks. Celery acknowledges when a task starts unless told otherwise, and the
// suite looks.
func task[In, Out any](name string, fn func(context.Context, In) (Out, error)) handlers.Handler {
	return handlers.Func(module+"."+name, fn).With(handlers.Options{EarlyAck: true})
}

// with changes the options of a task.
func with(h handlers.Handler, change func(*handlers.Options)) handlers.Handler {
	o := h.Options()
	change(&o)
	return h.With(o)
}

// none is what a task without arguments takes, and one without a result returns.
type none = struct{}
