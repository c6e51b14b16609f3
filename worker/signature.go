package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// A signature is the parameters of the Python function behind a remote control command. Arguments that it does not
// take are refused in Python's words, which clients print.
type signature struct {
	function string // its name in the texts; aliases share it
	required []string
	optional []string
	open     bool // takes any other keyword argument too
}

// signatures are Celery's (celery/worker/control.py), by function.
var signatures = map[string]signature{
	"ping":          {open: true},
	"active":        {optional: []string{"safe"}, open: true},
	"reserved":      {open: true},
	"scheduled":     {open: true},
	"revoked":       {open: true},
	"registered":    {optional: []string{"taskinfoitems", "builtins"}, open: true},
	"query_task":    {required: []string{"ids"}, open: true},
	"active_queues": {},
	"stats":         {open: true},
	"conf":          {optional: []string{"with_defaults"}, open: true},
	"clock":         {open: true},
	"report":        {},
	"hello":         {required: []string{"from_node"}, optional: []string{"revoked"}, open: true},
	"memsample":     {open: true},
	"memdump":       {optional: []string{"samples"}, open: true},
	"objgraph":      {optional: []string{"num", "max_depth", "type"}},

	"revoke":                    {required: []string{"task_id"}, optional: []string{"terminate", "signal"}, open: true},
	"terminate":                 {required: []string{"signal", "task_id"}, open: true},
	"revoke_by_stamped_headers": {required: []string{"headers"}, optional: []string{"terminate", "signal"}, open: true},
	"rate_limit":                {required: []string{"task_name", "rate_limit"}, open: true},
	"time_limit":                {optional: []string{"task_name", "hard", "soft"}, open: true},
	"enable_events":             {},
	"disable_events":            {},
	"heartbeat":                 {},
	"election":                  {required: []string{"id", "topic"}, optional: []string{"action"}, open: true},
	"pool_grow":                 {optional: []string{"n"}, open: true},
	"pool_shrink":               {optional: []string{"n"}, open: true},
	"pool_restart":              {optional: []string{"modules", "reload", "reloader"}, open: true},
	"autoscale":                 {optional: []string{"max", "min"}},
	"shutdown":                  {optional: []string{"msg"}, open: true},
	"add_consumer":              {required: []string{"queue"}, optional: []string{"exchange", "exchange_type", "routing_key"}, open: true},
	"cancel_consumer":           {required: []string{"queue"}, open: true},
}

// bind makes the command check its arguments first. Its name is that of the Python function.
func bind(function string, command Command) Command {
	s, ok := signatures[function]
	if !ok {
		return command
	}
	s.function = function
	return func(ctx context.Context, n *Node, args *protocol.Object) (any, error) {
		if err := s.check(args); err != nil {
			return nil, err
		}
		return command(ctx, n, args)
	}
}

// check looks at a call as Python does, in its order: which of several mistakes is told depends on it. The first
// parameter of every function is state, which Celery itself fills.
func (s signature) check(args *protocol.Object) error {
	for _, m := range args.Members() {
		switch {
		case m.Key == "state":
			return protocol.NewException("TypeError", fmt.Sprintf("%s() got multiple values for argument 'state'", s.function))
		case !s.open && !slices.Contains(s.required, m.Key) && !slices.Contains(s.optional, m.Key):
			return protocol.NewException("TypeError", fmt.Sprintf("%s() got an unexpected keyword argument '%s'", s.function, m.Key))
		}
	}
	var missing []string
	for _, name := range s.required {
		if _, ok := args.Get(name); !ok {
			missing = append(missing, "'"+name+"'")
		}
	}
	switch n := len(missing); n {
	case 0:
		return nil
	case 1:
		return protocol.NewException("TypeError", fmt.Sprintf("%s() missing 1 required positional argument: %s", s.function, missing[0]))
	default:
		return protocol.NewException("TypeError", fmt.Sprintf("%s() missing %d required positional arguments: %s and %s",
			s.function, n, strings.Join(missing[:n-1], ", "), missing[n-1]))
	}
}

// hashable is Python's TypeError for a list or an object among ids, where each is looked up: v is one id or a list of
// them (maybe_list).
func hashable(v protocol.Value) error {
	for _, id := range protocol.MaybeList(v) {
		if err := hashKey(id); err != nil {
			return err
		}
	}
	return nil
}

// hashKey is the same for one value that is looked up.
func hashKey(v protocol.Value) error {
	switch v.(type) {
	case []protocol.Value, *protocol.Object:
		return protocol.NewException("TypeError", fmt.Sprintf("unhashable type: '%s'", protocol.TypeName(v)))
	}
	return nil
}

// iterable is Python's TypeError for what no loop goes over.
func iterable(v protocol.Value) error {
	switch v.(type) {
	case string, []byte, []protocol.Value, *protocol.Object:
		return nil
	}
	return protocol.NewException("TypeError", fmt.Sprintf("'%s' object is not iterable", protocol.TypeName(v)))
}
