package command

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/internal/ids"
	"github.com/stalkworker/stalk/protocol"
)

func callCommand(p process) *cli.Command {
	return &cli.Command{
		Name:      "call",
		Usage:     "send a task and print its id",
		ArgsUsage: "NAME",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "args", Aliases: []string{"a"}, Usage: "positional arguments, a JSON `ARRAY`"},
			&cli.StringFlag{Name: "kwargs", Aliases: []string{"k"}, Usage: "keyword arguments, a JSON `OBJECT`"},
			&cli.StringFlag{Name: "eta", Usage: "not before this ISO 8601 `TIME`"},
			&cli.Float64Flag{Name: "countdown", Usage: "not before so many `SECONDS` from now"},
			&cli.StringFlag{Name: "expires", Usage: "not after this ISO 8601 `TIME`, or so many seconds from now"},
			&cli.StringFlag{Name: "serializer", Usage: "json, msgpack or yaml", Value: "json"},
			&cli.StringFlag{Name: "queue", Usage: "send it to this `QUEUE`"},
			&cli.StringFlag{Name: "exchange", Usage: "send it to this `EXCHANGE`"},
			&cli.StringFlag{Name: "routing-key", Usage: "under this `KEY`"},
			&cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print JSON"},
		}, globalFlags()...),
		Action: inSession(p, runCall),
	}
}

// runCall is `stalk call`. The task need not be known here.
func runCall(s *session) error {
	switch s.c.NArg() {
	case 0:
		return wrongly("Missing argument 'NAME'.")
	case 1:
	default:
		return wrongly("call takes one name, got also %q", s.c.Args().Get(1))
	}
	sig, err := s.signature(s.c.Args().First())
	if err != nil {
		return usageError{err}
	}
	rt, err := routes(s.settings)
	if err != nil {
		return usageError{err}
	}
	s.encoding.Serializer = s.callSerializer()
	if err := checkSerializer(s.encoding.Serializer); err != nil {
		return usageError{err}
	}
	c, err := s.client(nil, rt)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.c.Context, dialTimeout*time.Duration(s.addresses))
	defer cancel()
	result, err := c.Send(ctx, sig)
	closing := c.Close()
	if err != nil {
		return s.unavailable(err)
	}
	if s.json() {
		s.say("%s", jsonText(object("id", result.ID, "task", sig.Task)))
	} else {
		s.say("%s", result.ID)
	}
	return s.unavailable(closing)
}

// signature is the call with what the flags say.
func (s *session) signature(name string) (canvas.Signature, error) {
	c := s.c
	sig := canvas.Signature{Task: name}
	if text := c.String("args"); text != "" {
		v, err := protocol.ParseJSON([]byte(text), protocol.Limits{})
		if err != nil {
			return sig, invalid("'-a' / '--args'", err.Error())
		}
		list, ok := v.([]protocol.Value)
		if !ok {
			return sig, invalid("'-a' / '--args'", text+" was not an array")
		}
		sig.Args = list
	}
	if text := c.String("kwargs"); text != "" {
		v, err := protocol.ParseJSON([]byte(text), protocol.Limits{})
		if err != nil {
			return sig, invalid("'-k' / '--kwargs'", err.Error())
		}
		o, ok := v.(*protocol.Object)
		if !ok {
			return sig, invalid("'-k' / '--kwargs'", text+" was not an object")
		}
		sig.Kwargs = o
	}
	if isSet(c, "countdown") {
		sig = sig.Set("countdown", c.Float64("countdown"))
	}
	if text := c.String("eta"); text != "" {
		t, err := s.instant(text)
		if err != nil {
			return sig, invalid("'--eta'", err.Error())
		}
		sig = sig.ETA(t)
	}
	if text := c.String("expires"); text != "" {
		if seconds, err := strconv.ParseFloat(text, 64); err == nil {
			sig = sig.Set("expires", seconds)
		} else if t, err := s.instant(text); err == nil {
			sig = sig.ExpiresAt(t)
		} else {
			return sig, invalid("'--expires'", err.Error())
		}
	}
	for _, o := range []string{"queue", "exchange", "routing-key"} {
		if text := c.String(o); text != "" {
			sig = sig.Set(strings.ReplaceAll(o, "-", "_"), text)
		}
	}
	// Nobody listens there, as after celery call; but workers of rpc:// need somewhere to send the result to.
	sig = sig.Set("reply_to", ids.New()).Set("serializer", s.callSerializer())
	return sig, sig.Err()
}

// callSerializer is what a task is sent in: json unless told otherwise, as with celery call; but where tasks are
// signed, an unsigned one would be refused.
func (s *session) callSerializer() string {
	if signed(s.settings.text("task_serializer", "")) && !isSet(s.c, "serializer") {
		return "auth"
	}
	return s.c.String("serializer")
}

// invalid is a value that cannot be read, in Celery's words.
func invalid(option, why string) error {
	return errors.New("Invalid value for " + option + ": " + why)
}

// withOffset ends a time that says how far from UTC it is.
var withOffset = regexp.MustCompile(`[Tt ].*([Zz]|[+-]\d\d(:?\d\d)?)$`)

// instant is an ISO 8601 time; one that does not say its zone is in that of the settings.
func (s *session) instant(text string) (time.Time, error) {
	t, err := protocol.ParseTimestamp(text)
	if zone := s.encoding.Zone; err == nil && zone != nil && !withOffset.MatchString(text) {
		t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
	}
	return t, err
}
