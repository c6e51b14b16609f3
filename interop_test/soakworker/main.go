// Command soakworker is a worker that kills itself, for the soak of interop_test.
//
// Without -points it is `stalk` with the soak's tasks: the command line that users have, killed from outside. With
// -points it is made of the library, around whose connections and result store are decorators: what is written to
// its standard input, such as "stored 12", kills it with SIGKILL when it passes that point for the 12th time.
// No product code knows of any of this.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/stalkworker/stalk/command"
	"github.com/stalkworker/stalk/dial"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

func main() {
	journal, err := openJournal(os.Getenv("SOAK_LEDGER"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	points := &points{journal: journal}
	if len(os.Args) < 2 || os.Args[1] != "-points" {
		command.Main(tasks(journal, points)...)
	}
	if err := run(os.Args[2:], journal, points); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, journal *journal, p *points) error {
	flags := flag.NewFlagSet("soakworker -points", flag.ExitOnError)
	broker := flags.String("b", "", "broker URL")
	backend := flags.String("result-backend", "", "result URL")
	options := flags.String("options", "{}", "broker_transport_options as JSON")
	queues := flags.String("Q", "", "queues")
	slots := flags.Int("c", 4, "concurrency")
	node := flags.String("n", "", "node name")
	events := flags.Bool("E", false, "task events")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var transport map[string]any
	if err := json.Unmarshal([]byte(*options), &transport); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	raw, err := dial.Broker(*broker, dial.BrokerOptions{Transport: transport, Logger: log})
	if err != nil {
		return err
	}
	store, err := dial.Results(*backend, dial.ResultOptions{Broker: raw}) // its replies are no follow-ups
	if err != nil {
		return err
	}
	defer store.Close()
	registry, err := handlers.NewRegistry(tasks(journal, p)...)
	if err != nil {
		return err
	}
	cfg := worker.Config{
		Transport: tapTransport(raw, p), Results: tapBackend(store, p), Handlers: registry, Concurrency: *slots,
		Node: *node, TrackStarted: true, Logger: log, Grace: -1, Events: worker.Events{Tasks: *events, Sent: *events},
	}
	for _, q := range strings.Split(*queues, ",") {
		cfg.Queues = append(cfg.Queues, transports.Queue{Name: q, Create: true})
	}
	w, err := worker.New(cfg)
	if err != nil {
		return err
	}
	p.stop, p.stopping = w.Stop, w.Reached(worker.Stopping)
	go listen(w, p)
	return w.Run(context.Background())
}

// listen takes orders from standard input, whose end is a warm shutdown.
func listen(w *worker.Worker, p *points) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var at string
		var passes int
		if _, err := fmt.Sscan(in.Text(), &at, &passes); err != nil {
			fmt.Fprintln(os.Stderr, "soakworker:", err)
			os.Exit(1)
		}
		p.arm(at, passes)
	}
	w.Stop()
	time.Sleep(time.Minute) // it was left alone
	os.Exit(1)
}
