package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/client"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

func resultCommand(p process) *cli.Command {
	return &cli.Command{
		Name:      "result",
		Usage:     "wait for a task and print what it returned",
		ArgsUsage: "TASK_ID",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "task", Aliases: []string{"t"}, Usage: "accepted: there is one result store for all tasks"},
			&cli.BoolFlag{Name: "traceback", Usage: "print the stored traceback, without waiting"},
			&cli.Float64Flag{Name: "timeout", Usage: "give up after so many `SECONDS`; default: wait for ever"},
			&cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print JSON"},
		}, globalFlags()...),
		Action: inSession(p, runResult),
	}
}

// runResult is `stalk result`: code 1 for a task that failed, was revoked, or did not end in time.
func runResult(s *session) (err error) {
	switch s.c.NArg() {
	case 0:
		return wrongly("Missing argument 'TASK_ID'.")
	case 1:
	default:
		return wrongly("result takes one id, got also %q", s.c.Args().Get(1))
	}
	backend, err := results(s.c, s.settings, s.transport, protocol.Encoding{Serializer: s.settings.text("result_serializer", ""), Seal: s.encoding.Seal}, 0)
	if err != nil {
		return usageError{err}
	}
	if backend == nil {
		return wrongly("No result backend is configured: give --result-backend URL, CELERY_RESULT_BACKEND, or result_backend in --config")
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	if _, sent := backend.(resultbackend.Replier); sent {
		return wrongly("rpc:// results go to the process that sent the task and to nobody else")
	}
	c, err := s.client(backend, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx := s.c.Context
	if seconds := s.c.Float64("timeout"); isSet(s.c, "timeout") {
		if !(seconds >= 0) || seconds > 1e9 {
			return wrongly("--timeout %v: want seconds, 0 or more", seconds)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds*float64(time.Second)))
		defer cancel()
	}
	return s.printResult(ctx, c.Result(s.c.Args().First()))
}

func (s *session) printResult(ctx context.Context, r *client.AsyncResult) error {
	if err := s.reachable(ctx, r); err != nil {
		return err
	}
	if !s.c.Bool("traceback") {
		_, err := r.Value(ctx)
		if _, ended := errors.AsType[*protocol.Exception](err); err != nil && !ended {
			if s.c.Context.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
				return failed("The operation timed out: task %s has not ended.", r.ID)
			}
			return s.unavailable(err)
		}
	}
	record, err := r.Record(s.c.Context)
	if err != nil {
		return s.unavailable(err)
	}
	if s.json() {
		s.say("%s", jsonText(resultShape(record)))
	}
	exc, traceback := record.Exception, record.Traceback
	if exc != nil && traceback == "" {
		traceback = exc.Traceback
	}
	switch {
	case s.c.Bool("traceback"):
		if !s.json() {
			s.say("%s", traceback)
		}
		return nil
	case record.Status == protocol.Success:
		if !s.json() {
			s.say("%s", shownValue(record.Value))
		}
		return nil
	}
	if traceback = strings.TrimRight(traceback, "\n"); traceback == "" && exc != nil {
		traceback = exc.Error()
	}
	if traceback == "" {
		traceback = fmt.Sprintf("task %s: %s", r.ID, record.Status)
	}
	return exitError{1, traceback}
}

// reachable asks the store once, so that one that is away is told at once; waiting would go on for ever.
func (s *session) reachable(ctx context.Context, r *client.AsyncResult) error {
	ctx, cancel := brief(ctx)
	defer cancel()
	if _, err := r.Record(ctx); err != nil {
		return s.unavailable(err)
	}
	return nil
}

// shownValue is how Celery's command prints a value: None as nothing.
func shownValue(v protocol.Value) string {
	if v == nil {
		return ""
	}
	return protocol.Str(v)
}

// resultShape is what --json prints; the keys are always all there.
func resultShape(r protocol.Result) *protocol.Object {
	var value, exc, traceback protocol.Value
	if r.Exception == nil {
		value = r.Value
	} else {
		exc = protocol.ObjectOf(
			protocol.Member{Key: "module", Value: r.Exception.Module},
			protocol.Member{Key: "type", Value: r.Exception.Type},
			protocol.Member{Key: "args", Value: r.Exception.Args},
			protocol.Member{Key: "message", Value: r.Exception.Error()},
		)
		if r.Exception.Traceback != "" {
			traceback = r.Exception.Traceback
		}
	}
	if r.Traceback != "" {
		traceback = r.Traceback
	}
	return protocol.ObjectOf(
		protocol.Member{Key: "id", Value: r.TaskID},
		protocol.Member{Key: "state", Value: string(r.Status)},
		protocol.Member{Key: "result", Value: value},
		protocol.Member{Key: "exception", Value: exc},
		protocol.Member{Key: "traceback", Value: traceback},
	)
}
