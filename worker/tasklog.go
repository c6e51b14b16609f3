package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"unicode/utf8"

	"github.com/stalkworker/stalk/protocol"
)

// The life of a task is logged in Celery's own words (celery/app/trace.py), because that is what people
// grep for; the values stand beside them as attributes.

// label is "name[id]" as Celery's lines have it. Both come from the message: control characters are escaped, or
// a sender could forge lines of the log.
func label(t *protocol.Task) string { return printable(t.Display()) + "[" + printable(t.ID) + "]" }

// printable escapes what is not printable, as Go's quoting does.
func printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			q := strconv.Quote(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}

func taskAttrs(t *protocol.Task) []any {
	if t == nil {
		return nil
	}
	return []any{slog.String("task", printable(t.ID)), slog.String("name", printable(t.Name))}
}

func messageAttrs(j *job) []any {
	return append(taskAttrs(j.task), "queue", j.delivery.Queue, "redelivered", j.delivery.Redelivered, "bytes", len(j.delivery.Message.Body))
}

func refusalText(t *protocol.Task, exc *protocol.Exception) string {
	if exc.Type == "NotRegistered" {
		return fmt.Sprintf("Received unregistered task of type %s.\nThe caller is told; the message is rejected. "+
			"Does this worker serve the task, and does the route of %s name the right queue?", printable(protocol.Repr(t.Name)), printable(t.Name))
	}
	return fmt.Sprintf("Task %s refused: %s", label(t), exc.Error())
}

func logOutcome(log *slog.Logger, j *job, out outcome) {
	if out.kind == succeeded && !log.Enabled(context.Background(), slog.LevelInfo) {
		return // nobody reads what would be the dearest part of a small task
	}
	attrs := append(taskAttrs(j.task), "took", out.took)
	prefix := "Task " + label(j.task) + " "
	switch out.kind {
	case succeeded:
		log.Info(prefix+"succeeded in "+strconv.FormatFloat(out.took.Seconds(), 'g', -1, 64)+"s: "+protocol.Repr(out.value), append(attrs, "state", protocol.Success)...)
	case failed, timedOut:
		attrs = append(attrs, "state", protocol.Failure)
		if out.expected {
			log.Info(prefix+"raised expected: "+out.exception.Repr(), attrs...)
			return
		}
		if out.traceback != "" {
			attrs = append(attrs, "traceback", out.traceback)
		}
		log.Error(prefix+"raised unexpected: "+out.exception.Repr(), attrs...)
	case retried:
		log.Info(prefix+"retry: "+out.wait, append(attrs, "state", protocol.Retry, "attempt", j.task.Retries+1)...)
	case ignored, replaced:
		log.Info(prefix+"ignored", attrs...)
	case rejected, requeued:
		log.Warn(prefix+fmt.Sprint(out.err), attrs...)
	case interrupted:
		if errors.Is(out.err, errNotOurs) {
			log.Warn(prefix+"interrupted: its message is not ours any more, and comes again", attrs...)
			return
		}
		log.Warn(prefix+"interrupted by shutdown; the message goes back", attrs...)
	}
}
