// Command thumbs runs the image tasks in its own process, for the benchmark: no broker, no worker, files to files. It reads a line
//
//	{"task": "stalk.images.thumbnail", "args": [...], "kwargs": {...}, "n": 5}
//
// and answers with one: {"cpu_s": of one run, "result": of the last}. A task that fails ends it with code 1.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/handlers/handlerstest"
	"github.com/stalkworker/stalk/handlers/images"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "thumbs:", err)
		os.Exit(1)
	}
}

type order struct {
	Task   string         `json:"task"`
	Args   []any          `json:"args"`
	Kwargs map[string]any `json:"kwargs"`
	N      int            `json:"n"`
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: thumbs MEDIAROOT < orders")
	}
	served, err := images.Handlers(images.Config{Root: os.Args[1]})
	if err != nil {
		return err
	}
	tasks := map[string]handlers.Handler{}
	for _, h := range served {
		tasks[h.Name()] = h
	}
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() {
		var o order
		d := json.NewDecoder(bytes.NewReader(in.Bytes()))
		d.UseNumber()
		if err := d.Decode(&o); err != nil {
			return err
		}
		h, known := tasks[o.Task]
		if !known || o.N < 1 {
			return fmt.Errorf("no task %q, or not once", o.Task)
		}
		args := append(o.Args, handlerstest.Kwargs(o.Kwargs))
		var last any
		before := cpu()
		for range o.N {
			r := handlerstest.Run(context.Background(), h, args...)
			if err := r.Scan(&last); err != nil {
				return fmt.Errorf("%s%v: %w", o.Task, o.Args, err)
			}
		}
		used := cpu() - before
		if err := out.Encode(map[string]any{"cpu_s": used.Seconds() / float64(o.N), "result": last}); err != nil {
			return err
		}
	}
	return in.Err()
}

// cpu is what this process has used, the garbage collector included.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
