package command

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/dial"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

func demoFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "port", Usage: "port of the embedded broker on 127.0.0.1; 0: a free one"},
		&cli.StringFlag{Name: "media-root", Usage: "`FOLDER` of the image tasks; default: a temporary one", EnvVars: []string{"STALK_MEDIA_ROOT"}},
		&cli.StringFlag{Name: "loglevel", Aliases: []string{"l"}, Value: "INFO", Usage: "DEBUG, INFO, WARNING, ERROR or CRITICAL"},
	}
}

// runDemo is `stalk demo`: an embedded Redis (miniredis) and a worker with every stock task, in one
// process, for trying things. Nothing survives it.
func runDemo(c *cli.Context, g Program, p process) error {
	log, _, err := openLog(c.String("loglevel"), "", p.stderr, logStyle{})
	if err != nil {
		return usageError{err}
	}
	media := c.String("media-root")
	if media == "" {
		dir, err := os.MkdirTemp("", "stalk-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a leftover in the temporary folder harms nobody
		media = dir
	}
	chosen := choice{Demo: true, MediaRoot: media, isolateImages: canIsolate(), ownLimit: true}
	reg, err := g.registry(chosen)
	if err != nil {
		return usageError{err}
	}

	server := miniredis.NewMiniRedis()
	if err := server.StartAddr(net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Int("port")))); err != nil {
		return fmt.Errorf("--port %d: %w", c.Int("port"), err)
	}
	defer server.Close()
	ctx, cancel := context.WithCancel(c.Context)
	ticking := make(chan struct{})
	defer func() { cancel(); <-ticking }()
	go func() {
		defer close(ticking)
		tick(ctx, server)
	}()

	url := "redis://" + server.Addr() + "/0"
	transport, err := dial.Broker(url, dial.BrokerOptions{Node: "demo@localhost", Logger: log})
	if err != nil {
		return err
	}
	results, err := dial.Results(url, dial.ResultOptions{})
	if err != nil {
		return err
	}
	queues := []transports.Queue{{Name: "celery", Create: true}, {Name: "go", Create: true}}
	fmt.Fprintf(p.stdout, `broker %s
media  %s

Try it from Python (pip install "celery[redis]"):

    from celery import Celery
    app = Celery(broker=%q, backend=%q)
    app.send_task("demo.add", (2, 3)).get(timeout=10)

Ctrl-C ends it; nothing is kept.
`, url, media, url, url)
	return supervise(c.Context, worker.Config{
		Transport: transport, Handlers: reg, Results: results, Queues: queues, Node: "demo@localhost", Grace: 10 * time.Second, Logger: log,
		Control: worker.Control{Commands: g.Control}, Isolation: worker.Isolation{Note: chosen.note()},
	}, p, nil)
}

// tick moves miniredis's clock: keys there expire only when told how much time has passed.
func tick(ctx context.Context, server *miniredis.Miniredis) {
	const step = 100 * time.Millisecond
	t := time.NewTicker(step)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			server.FastForward(step)
		case <-ctx.Done():
			return
		}
	}
}
