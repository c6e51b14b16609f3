package command

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/worker"
)

// remoteControl reads --remote-control and Celery's settings of the control mailbox.
func remoteControl(c *cli.Context, s *settings) (worker.Control, error) {
	off := !s.flag("worker_enable_remote_control", true)
	how := c.String("remote-control")
	switch how {
	case "off":
		off = true
	case "", "full", "read-only":
	default:
		return worker.Control{}, usageError{fmt.Errorf("--remote-control %q: want full, read-only or off", how)}
	}
	exclusive := s.maybe("control_queue_exclusive")
	if s.flag("control_queue_durable", false) {
		// The mailbox is ours alone: no peer sees how it was declared.
		if exclusive == nil || *exclusive {
			s.errs = append(s.errs, fmt.Errorf("%s: control_queue_durable needs control_queue_exclusive: false, which Celery refuses too", s.source["control_queue_durable"]))
		}
	}
	return worker.Control{
		Off:       off,
		ReadOnly:  how == "read-only",
		Exchange:  s.text("control_exchange", ""),
		Exclusive: exclusive,
		TTL:       s.seconds("control_queue_ttl", 0),
		Expires:   s.seconds("control_queue_expires", 0),
	}, nil
}

// shownSettings are the settings that `celery inspect conf` shows: those of file and environment, with the
// addresses that really hold. The worker masks what is secret.
func shownSettings(c *cli.Context, s *settings) *protocol.Object {
	values := map[string]any{}
	for name, v := range s.values {
		values[name] = v
	}
	for flag, name := range map[string]string{"broker": "broker_url", "result-backend": "result_backend"} {
		if v, ok := given(c, flag); ok {
			values[name] = v
		}
	}
	out := &protocol.Object{}
	for _, name := range sortedKeys(values) {
		v, err := protocol.FromGo(values[name])
		if err != nil {
			v = fmt.Sprint(values[name]) // YAML knows values that have no form here
		}
		out.Set(name, v)
	}
	return out
}
