package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/handlers/demo"
	"github.com/stalkworker/stalk/handlers/images"
	"github.com/stalkworker/stalk/isolate"
	"github.com/stalkworker/stalk/worker"
)

// A choice is what a command line says of the tasks to serve. The worker's child processes are told it, to serve the same.
type choice struct {
	Demo      bool     `json:"demo,omitempty"`
	MediaRoot string   `json:"media,omitempty"`
	Serve     []string `json:"serve,omitempty"`
	Aliases   []string `json:"aliases,omitempty"`

	isolateImages bool
	ownLimit      bool // the image tasks have a hard limit of their own
}

// choiceOf reads the flags of `stalk worker`.
func choiceOf(c *cli.Context, s *settings) choice {
	_, limited := s.get("task_time_limit")
	return choice{
		Demo: c.Bool("demo"), MediaRoot: c.String("media-root"), Serve: list(c.StringSlice("serve")), Aliases: c.StringSlice("alias"),
		isolateImages: !c.Bool("images-in-process") && canIsolate(), ownLimit: !limited && !isSet(c, "time-limit"),
	}
}

// canIsolate reports whether this process can make children of itself: Main has seen to it, or the main that Run and Commands
// are called from.
func canIsolate() bool { return isolate.Supported && isolate.Ready() }

// note is the choice as a child is told it.
func (ch choice) note() string {
	text, err := json.Marshal(ch)
	if err != nil {
		panic(err) // texts and a bool
	}
	return string(text)
}

// Child serves the worker that has started this process as a child, to run isolated handlers, and returns true when that is over: main must then
// return. In any other process it returns false at once. Main does this by itself; a main that calls Run or mounts Commands
// calls it first, or the worker refuses isolated handlers and runs the image tasks in its own process.
func (g Program) Child() bool {
	return isolate.ServeFunc(func(note string) (*handlers.Registry, error) {
		var ch choice
		if err := json.Unmarshal([]byte(note), &ch); err != nil {
			return nil, fmt.Errorf("command: what the worker told its child: %w", err)
		}
		return g.registry(ch)
	})
}

// registry is the set of tasks to serve: the program's own and the stock ones, with aliases added and then
// only those selected.
func (g Program) registry(ch choice) (*handlers.Registry, error) {
	all := slices.Clone(g.Handlers)
	if ch.Demo {
		all = append(all, demo.Handlers()...)
	}
	if ch.MediaRoot != "" {
		cfg := images.Config{Root: ch.MediaRoot, Isolate: ch.isolateImages}
		if !ch.ownLimit {
			cfg.HardLimit = -1
		}
		stock, err := images.Handlers(cfg)
		if err != nil {
			return nil, fmt.Errorf("--media-root: %w", err)
		}
		all = append(all, stock...)
	}
	var errs []error
	for _, a := range ch.Aliases {
		name, old, ok := strings.Cut(a, "=")
		i := slices.IndexFunc(all, func(h handlers.Handler) bool { return h.Name() == old })
		switch {
		case !ok || name == "" || old == "":
			errs = append(errs, fmt.Errorf("--alias %q: want NEW=NAME, such as myapp.tasks.make_thumbnail=stalk.images.thumbnail", a))
		case i < 0:
			errs = append(errs, fmt.Errorf("--alias %q: there is no task %q; there are: %s", a, old, names(all)))
		default:
			all = append(all, all[i].As(name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(ch.Serve) > 0 {
		var kept []handlers.Handler
		for _, pattern := range ch.Serve {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, fmt.Errorf("--serve %q: %w", pattern, err)
			}
			found := false
			for _, h := range all {
				if ok, _ := path.Match(pattern, h.Name()); ok {
					found = true
					if !slices.ContainsFunc(kept, func(k handlers.Handler) bool { return k.Name() == h.Name() }) {
						kept = append(kept, h)
					}
				}
			}
			if !found {
				return nil, fmt.Errorf("--serve %q names no task; there are: %s", pattern, names(all))
			}
		}
		all = kept
	}
	if len(all) == 0 {
		return nil, errors.New("there is no task to serve: build your own program with command.Main(handlers...), or add --demo or --media-root FOLDER")
	}
	return handlers.NewRegistry(all...)
}

// isolation fills in what becomes of child processes.
func isolation(c *cli.Context, s *settings, cfg *worker.Config) error {
	perChild := func(flag, setting string) (int, error) {
		n := s.whole(setting, 0)
		if isSet(c, flag) {
			n = c.Int(flag)
		}
		if n < 0 {
			return 0, usageError{fmt.Errorf("--%s %d: want 0 or more", flag, n)}
		}
		return n, nil
	}
	tasks, err := perChild("max-tasks-per-child", "worker_max_tasks_per_child")
	kib, err2 := perChild("max-memory-per-child", "worker_max_memory_per_child")
	cfg.Isolation.MaxTasks, cfg.Isolation.MaxMemory = tasks, int64(kib)<<10
	cfg.Isolation.Alive = s.seconds("worker_proc_alive_timeout", 4*time.Second)
	cfg.Isolation.Restarts = s.flag("worker_pool_restarts", false)
	cfg.RejectOnLost = s.flag("task_reject_on_worker_lost", false)
	cfg.RetryOnLost = s.flag("task_retry_on_worker_lost", false)
	return errors.Join(err, err2)
}

// isolationNotes are the lines about flags that change nothing, since no task is isolated, and about images that could not be.
func isolationNotes(c *cli.Context, ch choice, reg *handlers.Registry) (notes []string) {
	for h := range reg.All() {
		if h.Options().Isolate {
			return nil
		}
	}
	for _, flag := range []string{"max-tasks-per-child", "max-memory-per-child"} {
		if isSet(c, flag) {
			notes = append(notes, "--"+flag+" has no effect: no task runs in a child process")
		}
	}
	if ch.MediaRoot != "" && !c.Bool("images-in-process") {
		notes = append(notes, "the image tasks run in the worker's own process: on this system, or in this program, they cannot be isolated (Program.Child)")
	}
	return notes
}
