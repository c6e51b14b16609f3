package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// globalFlags are accepted before and after the command, as Celery's own are before it.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "broker", Aliases: []string{"b"}, Usage: "broker `URL`: amqp://, amqps://, redis://, rediss://, sentinel://, redis+socket://; several separated by ';'"},
		&cli.StringFlag{Name: "result-backend", Usage: "result `URL`: redis://..., rpc://, or disabled://"},
		&cli.StringFlag{Name: "config", Usage: "YAML or JSON `FILE` of Celery's settings"},
		&cli.StringFlag{Name: "config-namespace", Usage: "`PREFIX` of the upper-case settings in the file; default CELERY"},
		&cli.StringFlag{Name: "workdir", Usage: "change to this `FOLDER` first"},
		&cli.StringFlag{Name: "app", Aliases: []string{"A"}, Usage: "ignored: there is no Python app to load"},
		&cli.StringFlag{Name: "loader", Usage: "ignored: there is no Python app to load"},
		&cli.BoolFlag{Name: "skip-checks", Usage: "accepted: there are no Django checks"},
		&cli.BoolFlag{Name: "no-color", Aliases: []string{"C"}, Usage: "accepted: the output has no colours"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "no banner"},
	}
}

// workerFlags are Celery's, in the order of celery worker --help, and then our own.
func workerFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "hostname", Aliases: []string{"n"}, Usage: "node `NAME`; expands %h, %n and %d", Value: "celery@%h"},
		&cli.StringFlag{Name: "statedb", Aliases: []string{"S"}, Usage: "keep revoked tasks over a restart in this `FILE`, which is not that of a Python worker; expands %n, %h and %d"},
		&cli.StringFlag{Name: "loglevel", Aliases: []string{"l"}, Usage: "DEBUG, INFO, WARNING, ERROR or CRITICAL", Value: "WARNING"},
		&cli.IntFlag{Name: "prefetch-multiplier", Usage: "messages taken ahead per slot; default 4"},
		&cli.BoolFlag{Name: "disable-prefetch", Usage: "no message is taken ahead"},
		&cli.StringFlag{Name: "concurrency", Aliases: []string{"c"}, Usage: "tasks at a time: a `NUMBER` or auto (default: the CPUs)"},
		&cli.BoolFlag{Name: "task-events", Aliases: []string{"E", "events"}, Usage: "send the events of tasks from the start, for monitors such as Flower"},
		&cli.Float64Flag{Name: "time-limit", Usage: "hard time limit, `SECONDS`"},
		&cli.Float64Flag{Name: "soft-time-limit", Usage: "soft time limit, `SECONDS`"},
		&cli.IntFlag{Name: "max-tasks-per-child", Usage: "replace a child process of isolated tasks after `NUMBER` tasks"},
		&cli.IntFlag{Name: "max-memory-per-child", Usage: "replace it once it has had so many `KILOBYTES` of resident memory"},
		&cli.StringSliceFlag{Name: "queues", Aliases: []string{"Q"}, Usage: "consume these, comma separated"},
		&cli.StringSliceFlag{Name: "exclude-queues", Aliases: []string{"X"}, Usage: "consume all but these"},
		&cli.BoolFlag{Name: "purge", Aliases: []string{"discard"}, Usage: "delete what waits in the queues, before anything is taken"},
		&cli.BoolFlag{Name: "without-gossip", Usage: "do not follow the other workers"},
		&cli.BoolFlag{Name: "without-mingle", Usage: "do not ask the other workers for revoked tasks at the start"},
		&cli.BoolFlag{Name: "without-heartbeat", Usage: "send no events of the worker itself: monitors show it offline"},
		&cli.IntFlag{Name: "heartbeat-interval", Usage: "`SECONDS` between the event heartbeats; default 2"},
		&cli.StringFlag{Name: "autoscale", Usage: "let the tasks at a time follow the work: `MAX,MIN`, or MAX"},
		&cli.StringFlag{Name: "logfile", Aliases: []string{"f"}, Usage: "append the log to this `FILE`; default: standard error"},
		&cli.StringFlag{Name: "pidfile", Usage: "write the process id to this `FILE` while running"},

		&cli.BoolFlag{Name: "log-json", Usage: "log one JSON object per line"},
		&cli.StringFlag{Name: "grace", Usage: "`SECONDS`: at shutdown, how long running tasks may finish; 0: as long as they need, as Celery's warm shutdown"},
		&cli.IntFlag{Name: "max-deliveries", Usage: "a task that was started `N` times and ended its worker each time fails and goes to quarantine", Value: 10},
		&cli.StringFlag{Name: "remote-control", Usage: "full, read-only (inspect is answered, orders are refused) or off", Value: "full"},
		&cli.StringSliceFlag{Name: "serve", Usage: "serve only these `TASKS` (names or globs, comma separated)"},
		&cli.StringSliceFlag{Name: "alias", Usage: "serve a task under another name too: `NEW=NAME`, repeatable"},
		&cli.BoolFlag{Name: "demo", Usage: "add the demo.* tasks"},
		&cli.StringFlag{Name: "memory-budget", Usage: "how much memory the tasks that ask for some may have together: a `SIZE` such as 2G, none, or auto (three quarters of the container's or the machine's)", Value: "auto"},
		&cli.StringFlag{Name: "media-root", Usage: "add the stock image tasks on this `FOLDER`"},
		&cli.BoolFlag{Name: "images-in-process", Usage: "run the image tasks in the worker's own process, not in child processes"},
	}
	flags = append(flags, limitFlags()...)
	flags = append(flags, httpFlags()...)
	for _, m := range meaningless() {
		flags = append(flags, m.flag)
	}
	for _, r := range refused() {
		flags = append(flags, r.flag)
	}
	return flags
}

// ownFlags are the flags of the worker that Celery does not have. In the environment they are STALK_<FLAG>.
var ownFlags = []string{"log-json", "grace", "max-deliveries", "max-body", "max-values", "max-depth", "max-result", "remote-control", "serve", "alias", "demo", "memory-budget", "media-root", "images-in-process", "http", "http-public", "pprof", "live", "config", "config-namespace"}

type meaninglessFlag struct {
	flag cli.Flag
	why  string
	want []string // the values it may have; nil: any
}

type refusedFlag struct {
	flag    cli.Flag
	setting string // that asks for the same; "": none
	do      string
}

// meaningless are Celery's worker flags that change nothing here, and why. Giving one prints one line.
func meaningless() []meaninglessFlag {
	return []meaninglessFlag{
		{&cli.StringFlag{Name: "pool", Aliases: []string{"P"}}, "tasks run as goroutines", []string{"prefork", "eventlet", "gevent", "solo", "processes", "threads", "custom"}},
		{&cli.StringFlag{Name: "pool-start-method"}, "child processes, where there are any, are started anew", []string{"fork", "spawn"}},
		{&cli.StringFlag{Name: "optimization", Aliases: []string{"O"}}, "the first free slot takes the next task in any case, which is fair", []string{"default", "fair"}},
		{&cli.StringFlag{Name: "include", Aliases: []string{"I"}}, "there are no Python modules to import", nil},
		{&cli.StringFlag{Name: "schedule-filename", Aliases: []string{"s", "schedule"}}, "there is no beat here", nil},
		{&cli.StringFlag{Name: "scheduler"}, "there is no beat here", nil},
		{&cli.StringFlag{Name: "executable"}, "there is no Python to start", nil},
	}
}

// refused are Celery's worker flags that would do something else than their user expects, and what to do instead.
func refused() []refusedFlag {
	return []refusedFlag{
		{&cli.BoolFlag{Name: "beat", Aliases: []string{"B"}}, "", "run celery beat as a process of its own"},
		{&cli.BoolFlag{Name: "detach", Aliases: []string{"D"}}, "", "let systemd, a container or nohup run it in the background"},
		{&cli.StringFlag{Name: "uid"}, "worker_uid", "start it as that user"},
		{&cli.StringFlag{Name: "gid"}, "worker_gid", "start it as that group"},
		{&cli.StringFlag{Name: "umask"}, "worker_umask", "set the umask before starting it"},
	}
}

// checkFlags refuses what cannot be had and returns a line for each flag that changes nothing.
func checkFlags(c *cli.Context) (notes []string, err error) {
	for _, r := range refused() {
		name := r.flag.Names()[0]
		if _, isBool := r.flag.(*cli.BoolFlag); isSet(c, name) && (!isBool || c.Bool(name)) {
			return nil, usageError{fmt.Errorf("--%s is not offered here: %s", name, r.do)}
		}
	}
	for _, m := range meaningless() {
		name := m.flag.Names()[0]
		if !isSet(c, name) {
			continue
		}
		if m.want != nil && !slices.Contains(m.want, c.String(name)) {
			return nil, usageError{fmt.Errorf("--%s %q: want %s", name, c.String(name), strings.Join(m.want, ", "))}
		}
		notes = append(notes, fmt.Sprintf("--%s has no effect: %s", name, m.why))
	}
	if name, ok := given(c, "app"); ok {
		notes = append(notes, fmt.Sprintf("--app %s has no effect: there is no Python app to load; give its settings with --config", name))
	}
	if name, ok := given(c, "loader"); ok {
		notes = append(notes, fmt.Sprintf("--loader %s has no effect: there is no Python app to load", name))
	}
	return notes, nil
}

// given is the text of a global flag, given after the command or before it.
func given(c *cli.Context, name string) (string, bool) {
	for _, level := range c.Lineage() {
		if slices.Contains(level.LocalFlagNames(), name) {
			return level.String(name), true
		}
	}
	return "", false
}

func givenBool(c *cli.Context, name string) bool {
	for _, level := range c.Lineage() {
		if slices.Contains(level.LocalFlagNames(), name) {
			return level.Bool(name)
		}
	}
	return false
}

func isSet(c *cli.Context, name string) bool {
	for _, level := range c.Lineage() {
		if slices.Contains(level.LocalFlagNames(), name) {
			return true
		}
	}
	return false
}

// list splits the values of a repeatable flag at commas.
func list(values []string) []string {
	var out []string
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// concurrency reads -c and worker_concurrency: a number, or auto for the CPUs. 0 is not given.
func concurrency(text string) (int, error) {
	if text == "" || text == "auto" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 100000 {
		return 0, usageError{fmt.Errorf("-c %q: want a number from 1, or auto", text)}
	}
	return n, nil
}

func flagSeconds(c *cli.Context, name string) (time.Duration, error) {
	f := c.Float64(name)
	if !(f >= 0) || f > 1e9 {
		return 0, usageError{fmt.Errorf("--%s %v: want seconds, 0 or more", name, f)}
	}
	return time.Duration(f * float64(time.Second)), nil
}
