// Command client is the other side of `make bench`: what Python is too slow for.
//
//	client fill    puts -n copies, with ids of their own, of the one message that waits in -mould into -queue
//	client flight  keeps exactly one such task of a worker in flight, -for so long: tasks/s and the median
//	client drain   the limit: does with -n messages what a worker must, and is none
//	client flight -self   the limit of that: plays the worker, too
//
// Results of the measuring commands are one JSON object on stdout. The broker is redis:// or amqp://; results are redis://,
// rpc:// or none. Nothing here recovers from anything: a benchmark that meets an error ends.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// options are what all commands take.
type options struct {
	broker, results, queue, mould string
	n                             int
	during                        time.Duration
	self                          bool
}

func main() {
	if len(os.Args) < 2 {
		fail("want a command: fill, drain or flight")
	}
	var o options
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.StringVar(&o.broker, "broker", "", "URL of the broker")
	flags.StringVar(&o.results, "results", "", "URL of the result store; rpc:// or empty")
	flags.StringVar(&o.queue, "queue", "", "name of the queue")
	flags.StringVar(&o.mould, "mould", "", "name of the queue with the one message that is copied")
	flags.IntVar(&o.n, "n", 0, "how many messages")
	flags.DurationVar(&o.during, "for", time.Second, "how long")
	flags.BoolVar(&o.self, "self", false, "play the worker, too")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail("%v", err)
	}
	overRedis := strings.HasPrefix(o.broker, "redis:")
	var answer any
	var err error
	switch os.Args[1] {
	case "fill":
		if overRedis {
			err = fillRedis(o)
		} else {
			err = fillRabbit(o)
		}
	case "flight":
		answer, err = flight(o)
	case "drain":
		if overRedis {
			answer, err = drainRedis(o)
		} else {
			answer, err = drainRabbit(o)
		}
	default:
		fail("no such command: %q", os.Args[1])
	}
	if err != nil {
		fail("%v", err)
	}
	if answer != nil {
		if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
			fail("%v", err)
		}
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "client: "+format+"\n", args...)
	os.Exit(1)
}

// A rate is what a measuring command prints.
type rate struct {
	Tasks    int     `json:"tasks"`
	PerS     float64 `json:"tasks_per_s"`
	MedianMS float64 `json:"median_ms,omitzero"`
	CPU      float64 `json:"cpu_s"` // of this process
}

// redisOf is the host and the database of a redis:// URL.
func redisOf(raw string) (address, db string, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", "", err
	}
	return u.Host, strings.TrimPrefix(u.Path, "/"), nil
}
