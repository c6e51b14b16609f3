package command

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/stalkworker/stalk/protocol"
)

// A panelCommand is a remote control command as the command line takes it (celery/worker/control.py, Panel.meta):
// positional arguments by name and type, then, if it has such, any number of others in a list.
type panelCommand struct {
	name      string
	args      []panelArgument
	variadic  string // the keyword of the others
	pairs     bool   // takes key=value arguments instead
	signature string
	help      string
}

type panelArgument struct {
	name string
	read func(string) (protocol.Value, error)
}

// inspectPanel and controlPanel are Celery's commands by kind, sorted by name.
var (
	inspectPanel = []panelCommand{
		{name: "active", help: "List of tasks currently being executed."},
		{name: "active_queues", help: "List the task queues a worker is currently consuming from."},
		{name: "clock", help: "Get current logical clock value."},
		{name: "conf", args: []panelArgument{{"with_defaults", asBool}}, signature: "[include_defaults=False]", help: "List configuration."},
		{name: "memdump", args: []panelArgument{{"samples", asInt}}, signature: "[n_samples=10]", help: "Dump statistics of previous memsample requests."},
		{name: "memsample", help: "Sample current RSS memory usage."},
		{
			name: "objgraph", args: []panelArgument{{"type", asText}, {"num", asInt}, {"max_depth", asInt}},
			signature: "[object_type=Request] [num=200 [max_depth=10]]", help: "Create graph of uncollected objects (memory-leak debugging).",
		},
		{name: "ping", help: "Ping worker(s)."},
		{name: "query_task", variadic: "ids", signature: "[id1 [id2 [... [idN]]]]", help: "Query for task information by id."},
		{name: "registered", variadic: "taskinfoitems", signature: "[attr1 [attr2 [... [attrN]]]]", help: "List of registered tasks."},
		{name: "report", help: "Information about Celery installation for bug reports."},
		{name: "reserved", help: "List of currently reserved tasks, not including scheduled/active."},
		{name: "revoked", help: "List of revoked task-ids."},
		{name: "scheduled", help: "List of currently scheduled ETA/countdown tasks."},
		{name: "stats", help: "Request worker statistics/information."},
	}
	controlPanel = []panelCommand{
		{
			name: "add_consumer", args: []panelArgument{{"queue", asText}, {"exchange", asText}, {"exchange_type", asText}, {"routing_key", asText}},
			signature: "<queue> [exchange [type [routing_key]]]", help: "Tell worker(s) to consume from task queue by name.",
		},
		{name: "autoscale", args: []panelArgument{{"max", asInt}, {"min", asInt}}, signature: "[max [min]]", help: "Modify autoscale settings."},
		{
			name: "cancel_consumer", args: []panelArgument{{"queue", asText}}, signature: "<queue>",
			help: "Tell worker(s) to stop consuming from task queue by name.",
		},
		{name: "disable_events", help: "Tell worker(s) to stop sending task-related events."},
		{name: "election", help: "Hold election."},
		{name: "enable_events", help: "Tell worker(s) to send task-related events."},
		{name: "heartbeat", help: "Tell worker(s) to send event heartbeat immediately."},
		{name: "pool_grow", args: []panelArgument{{"n", asInt}}, signature: "[N=1]", help: "Grow pool by n processes/threads."},
		{name: "pool_restart", help: "Restart execution pool."},
		{name: "pool_shrink", args: []panelArgument{{"n", asInt}}, signature: "[N=1]", help: "Shrink pool by n processes/threads."},
		{
			name: "rate_limit", args: []panelArgument{{"task_name", asText}, {"rate_limit", asText}},
			signature: "<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>", help: "Tell worker(s) to modify the rate limit for a task by type.",
		},
		{name: "revoke", variadic: "task_id", signature: "[id1 [id2 [... [idN]]]]", help: "Revoke task by task id (or list of ids)."},
		{
			name: "revoke_by_stamped_headers", variadic: "headers", signature: "[key1=value1 [key2=value2 [... [keyN=valueN]]]]",
			help: "Revoke task by header (or list of headers).",
		},
		{name: "shutdown", help: "Shutdown worker(s)."},
		{
			name: "terminate", args: []panelArgument{{"signal", asText}}, variadic: "task_id", signature: "<signal> [id1 [id2 [... [idN]]]]",
			help: "Terminate task by task id (or list of ids).",
		},
		{
			name: "time_limit", args: []panelArgument{{"task_name", asText}, {"soft", asFloat}, {"hard", asFloat}},
			signature: "<task_name> <soft_secs> [hard_secs]", help: "Tell worker(s) to modify the time limit for task by type.",
		},
	}
)

func asText(s string) (protocol.Value, error) { return s, nil }

func asInt(s string) (protocol.Value, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

func asFloat(s string) (protocol.Value, error) {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		return nil, fmt.Errorf("%q is not a number", s)
	}
	return f, nil
}

func asBool(s string) (protocol.Value, error) {
	switch strings.ToLower(s) {
	case "true", "yes", "1", "on":
		return true, nil
	case "false", "no", "0", "off":
		return false, nil
	}
	return nil, fmt.Errorf("%q is not true or false", s)
}

// arguments are the keyword arguments that the positional ones stand for. What a command without parameters is
// given is left out, as Celery does.
func (p panelCommand) arguments(given []string) (*protocol.Object, error) {
	out := &protocol.Object{}
	for i, a := range p.args {
		if i >= len(given) {
			break
		}
		v, err := a.read(given[i])
		if err != nil {
			return nil, fmt.Errorf("%s: argument %s: %w", p.name, a.name, err)
		}
		out.Set(a.name, v)
	}
	rest := given[min(len(p.args), len(given)):]
	if p.variadic != "" {
		list := make([]protocol.Value, len(rest))
		for i, s := range rest {
			list[i] = s
		}
		out.Set(p.variadic, list)
	} else if len(rest) > 0 && len(p.args) > 0 {
		//lint:ignore ST1005 Celery's text
		return nil, fmt.Errorf("Command '%s' takes arguments: %s", p.name, p.signature)
	}
	return out, nil
}

// own is a command that a program adds to its worker: key=value arguments.
func own(name string) panelCommand {
	return panelCommand{name: name, pairs: true, signature: "[key=value ...]", help: "A command of this program."}
}

// listPanel prints the commands as `celery inspect --list` does, for a terminal of 80 columns.
func listPanel(out io.Writer, kind string, commands []panelCommand) {
	const first, width = 32, 78
	fmt.Fprintf(out, "%s Commands:\n", kind)
	for _, c := range commands {
		head := c.name
		if c.signature != "" {
			head += " " + c.signature
		}
		lines := wrap(c.help, width-first-2)
		if len(head) <= first-2 {
			fmt.Fprintf(out, "  %-*s%s\n", first, head, lines[0])
			lines = lines[1:]
		} else {
			fmt.Fprintf(out, "  %s\n", head)
		}
		for _, line := range lines {
			fmt.Fprintf(out, "%s%s\n", strings.Repeat(" ", first+2), line)
		}
	}
}

// wrap breaks text into lines of at most width, at spaces and after the hyphens inside words.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for i, piece := range strings.SplitAfter(word, "-") {
			gap := ""
			if i == 0 && line != "" {
				gap = " "
			}
			if line != "" && len(line)+len(gap)+len(piece) > width {
				lines = append(lines, line)
				line, gap = "", ""
			}
			line += gap + piece
		}
	}
	return append(lines, line)
}
