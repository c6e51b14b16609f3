package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/transports"
)

func quarantineCommand(p process) *cli.Command {
	asJSON := &cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print JSON"}
	all := &cli.BoolFlag{Name: "all", Usage: "all messages of the selected queues"}
	sub := func(name, usage, args string, do question, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: args, Action: inSession(p, do),
			Flags: slices.Concat(queueFlags("look at the quarantine of"), flags, []cli.Flag{asJSON}, globalFlags()),
		}
	}
	return &cli.Command{
		Name:   "quarantine",
		Usage:  "look at the messages that workers have set aside, and run or drop them",
		Flags:  globalFlags(),
		Action: chooseBelow(p),
		Subcommands: []*cli.Command{
			sub("list", "count the messages of each queue's quarantine", "", runQuarantineList),
			sub("show", "print the messages, which stay where they are", "[ID ...]", runQuarantineShow,
				&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Usage: "at most so many of each queue", Value: 20}),
			sub("replay", "send messages back to the queue they came from", "ID ... | --all", runQuarantineReplay, all),
			sub("drop", "delete messages", "ID ... | --all", runQuarantineDrop, all,
				&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "do not ask"}),
		},
	}
}

// quarantineSize is how many messages the quarantine of the queue holds.
func quarantineSize(ctx context.Context, a transports.QueueAdmin, queue string) (int, error) {
	ctx, cancel := brief(ctx)
	defer cancel()
	size, err := a.QueueSize(ctx, transports.Quarantine(queue))
	if errors.Is(err, transports.ErrNoQueue) {
		return 0, nil // nothing was ever set aside
	}
	return size.Ready, err
}

func runQuarantineList(s *session) error {
	if s.c.Args().Present() {
		return wrongly("quarantine list takes no arguments, got %q; choose queues with -Q", s.c.Args().First())
	}
	queues, err := s.queues()
	if err != nil {
		return err
	}
	return s.admin(func(ctx context.Context, a transports.QueueAdmin) error {
		var rows [][]string
		var shapes []any
		for _, q := range queues {
			n, err := quarantineSize(ctx, a, q)
			if err != nil {
				return s.unavailable(err)
			}
			rows = append(rows, []string{q, transports.Quarantine(q), fmt.Sprint(n)})
			shapes = append(shapes, map[string]any{"queue": q, "quarantine": transports.Quarantine(q), "messages": n})
		}
		if s.json() {
			s.say("%s", jsonText(object("queues", shapes)))
			return nil
		}
		table(s.out(), []string{"Queue", "Quarantine", "Messages"}, rows)
		return nil
	})
}

func runQuarantineShow(s *session) error {
	queues, err := s.queues()
	if err != nil {
		return err
	}
	limit := s.c.Int("limit")
	if limit < 1 || limit > 100_000 {
		return wrongly("--limit %d: want 1 to 100000", limit)
	}
	wanted := chosen(s.c.Args().Slice())
	shapes := []protocol.Value{}
	err = s.admin(func(ctx context.Context, a transports.QueueAdmin) error {
		for _, q := range queues {
			found, err := s.lookInto(ctx, a, q, limit, wanted)
			if err != nil {
				return err
			}
			for _, d := range found {
				shape := quarantineShape(d, q, s.readAll())
				if shapes = append(shapes, shape); !s.json() {
					s.sayQuarantined(shape)
				}
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case s.json():
		s.say("%s", jsonText(protocol.ObjectOf(protocol.Member{Key: "messages", Value: shapes})))
	case len(shapes) == 0 && wanted != nil:
		return failed("no message of that id is in quarantine")
	case len(shapes) == 0:
		s.say("- empty -")
	}
	return nil
}

// lookInto is the first messages of the quarantine, or those wanted among all.
func (s *session) lookInto(ctx context.Context, a transports.QueueAdmin, queue string, limit int, wanted map[string]bool) ([]*transports.Delivery, error) {
	if wanted == nil {
		found, err := a.Peek(ctx, transports.Quarantine(queue), limit)
		if err != nil && !errors.Is(err, transports.ErrNoQueue) {
			return nil, s.unavailable(err)
		}
		return found, nil
	}
	n, err := quarantineSize(ctx, a, queue)
	if err != nil {
		return nil, s.unavailable(err)
	}
	var found []*transports.Delivery
	_, err = a.Transfer(ctx, transports.Quarantine(queue), "", n, func(d *transports.Delivery) bool {
		if wanted[messageID(d, s.readAll())] && len(found) < limit {
			found = append(found, d)
		}
		return false // it stays
	})
	if err != nil && !errors.Is(err, transports.ErrNoQueue) {
		return nil, s.unavailable(err)
	}
	return found, nil
}

func runQuarantineReplay(s *session) error {
	moved, err := s.sift(false, func(queue string) string { return queue })
	if err == nil && !s.json() {
		s.say("Replayed %d %s.", moved, plural(moved, "message"))
	}
	return err
}

func runQuarantineDrop(s *session) error {
	moved, err := s.sift(!s.c.Bool("force"), func(string) string { return "" })
	if err == nil && !s.json() {
		s.say("Dropped %d %s.", moved, plural(moved, "message"))
	}
	return err
}

// sift moves the chosen messages of each quarantine to where target says, "" being nowhere. What comes in
// meanwhile is left alone, also what was replayed and fails again.
func (s *session) sift(ask bool, target func(queue string) string) (total int, err error) {
	wanted := chosen(s.c.Args().Slice())
	if (wanted == nil) != s.c.Bool("all") {
		return 0, wrongly("%s: name the ids of messages, or give --all", s.c.Command.Name)
	}
	queues, err := s.queues()
	if err != nil {
		return 0, err
	}
	var shapes []any
	err = s.admin(func(ctx context.Context, a transports.QueueAdmin) error {
		sizes := make([]int, len(queues))
		for i, q := range queues {
			if sizes[i], err = quarantineSize(ctx, a, q); err != nil {
				return s.unavailable(err)
			}
		}
		if ask {
			what := "all of them"
			if wanted != nil {
				what = strings.Join(s.c.Args().Slice(), ", ")
			}
			question := fmt.Sprintf("WARNING: this deletes messages from the quarantine of %s: %s.\nThere is no undo. Are you sure?",
				strings.Join(queues, ", "), what)
			if err := s.confirm(question); err != nil {
				return err
			}
		}
		for i, q := range queues {
			if sizes[i] == 0 {
				continue
			}
			n, err := a.Transfer(ctx, transports.Quarantine(q), target(q), sizes[i], func(d *transports.Delivery) bool {
				return wanted == nil || wanted[messageID(d, s.readAll())]
			})
			if total += n; n > 0 {
				shapes = append(shapes, map[string]any{"queue": q, "messages": n})
			}
			switch {
			case errors.Is(err, transports.ErrRefused):
				return failed("%d moved; queue %q does not take the next message, which stays in quarantine: %v", total, q, err)
			case err != nil && !errors.Is(err, transports.ErrNoQueue):
				return s.unavailable(err)
			}
		}
		return nil
	})
	if err == nil && total == 0 && wanted != nil {
		err = failed("no message of that id is in quarantine")
	}
	if s.json() && err == nil {
		if shapes == nil {
			shapes = []any{}
		}
		s.say("%s", jsonText(object("messages", total, "queues", shapes)))
	}
	return total, err
}

// chosen is the set of the ids; nil for none.
func chosen(ids []string) map[string]bool {
	if len(ids) == 0 {
		return nil
	}
	set := map[string]bool{}
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// messageID is the task's id, or what stands in for it where the message cannot be read that far.
func messageID(d *transports.Delivery, read protocol.DecodeOptions) string {
	if id, ok := header(d, "id").(string); ok && id != "" {
		return id
	}
	if task, _ := protocol.DecodeTask(d.Message, read); task != nil && task.ID != "" {
		return task.ID
	}
	return d.Message.Properties.CorrelationID
}

// readAll reads whatever was in the queue, so that it can be told what is wrong with it.
func (s *session) readAll() protocol.DecodeOptions {
	return protocol.DecodeOptions{Accept: []string{"json", "msgpack", "yaml"}, Limits: protocol.Limits{Seal: s.encoding.Seal}}
}

func header(d *transports.Delivery, key string) protocol.Value {
	v, _ := d.Message.Headers.Get(key)
	return v
}

// previewBytes is how much of a body is shown.
const previewBytes = 200

// quarantineShape is what show prints of a message; the keys are always all there.
func quarantineShape(d *transports.Delivery, queue string, read protocol.DecodeOptions) *protocol.Object {
	var name, reason protocol.Value
	if s, ok := header(d, "task").(string); ok {
		name = s
	}
	task, err := protocol.DecodeTask(d.Message, read)
	args, kwargs := header(d, "argsrepr"), header(d, "kwargsrepr")
	switch {
	case d.Malformed != nil:
		reason = d.Malformed.Error()
	case err != nil:
		reason = err.Error()
	}
	if task != nil {
		if task.Name != "" {
			name = task.Name
		}
		if err == nil {
			args, kwargs = protocol.ReprArgs(task.Args), protocol.Repr(task.Kwargs)
		}
	}
	body := d.Message.Body
	return protocol.ObjectOf(
		protocol.Member{Key: "queue", Value: queue},
		protocol.Member{Key: "id", Value: messageID(d, read)},
		protocol.Member{Key: "name", Value: name},
		protocol.Member{Key: "reason", Value: reason},
		protocol.Member{Key: "deliveries", Value: int64(d.Count)},
		protocol.Member{Key: "redelivered", Value: d.Redelivered},
		protocol.Member{Key: "content_type", Value: d.Message.Properties.ContentType},
		protocol.Member{Key: "args", Value: args},
		protocol.Member{Key: "kwargs", Value: kwargs},
		protocol.Member{Key: "headers", Value: headersShown(d.Message.Headers)},
		protocol.Member{Key: "size", Value: int64(len(body))},
		protocol.Member{Key: "body", Value: preview(body)},
	)
}

// headersShown is the headers, which may hold what JSON has no form for.
func headersShown(h *protocol.Object) *protocol.Object {
	out := &protocol.Object{}
	for _, m := range h.Members() {
		v := m.Value
		if _, err := protocol.AppendJSON(nil, v); err != nil {
			v = protocol.Repr(v)
		}
		out.Set(m.Key, v)
	}
	return out
}

// preview is the start of a body: as text where it is text, else as Python shows bytes.
func preview(body []byte) string {
	cut := body[:min(len(body), previewBytes)]
	dots := ""
	if len(cut) < len(body) {
		dots = "..."
	}
	if utf8.Valid(body) {
		return strings.ToValidUTF8(string(cut), "") + dots
	}
	return protocol.Str(slices.Clone(cut)) + dots
}

// sayQuarantined prints a message for people. Its texts are a stranger's: what could steer a terminal is not passed on.
func (s *session) sayQuarantined(shape *protocol.Object) {
	text := func(key string) string {
		v, _ := shape.Get(key)
		return strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return utf8.RuneError
			}
			return r
		}, protocol.Str(v))
	}
	reason := "not in the message; the worker's log of the time says why"
	if v, _ := shape.Get("reason"); v != nil {
		reason = text("reason")
	}
	s.say("* %s %s [%s]\n    reason: %s\n    deliveries: %s, redelivered: %s",
		text("id"), text("name"), text("queue"), reason, text("deliveries"), text("redelivered"))
	if v, _ := shape.Get("args"); v != nil {
		s.say("    args: %s kwargs: %s", text("args"), text("kwargs"))
	}
	s.say("    headers: %s\n    body: %s bytes of %s: %s", text("headers"), text("size"), text("content_type"), text("body"))
}
