// Command testservers runs a command beside one private Redis and one private RabbitMQ.
//
//	testservers [-redis=false] [-amqp=false] [-shards N] -- CMD ARGS...
//
// With -shards there are N Redis servers and N virtual hosts of the one RabbitMQ, and CMD finds lists,
// separated by spaces: parts of one run that must not see each other.
//
// CMD finds them in CELERY_REDIS_URL and CELERY_AMQP_URL, and a Python with Celery in STALK_PYTHON (.build/venv,
// unless it is set already). STALK_REDIS_PID and STALK_AMQP_PID are process ids of servers, for measuring.
// STALK_REDIS_VERSION and STALK_AMQP_VERSION say what is running; env $(scripts/brokers.sh VERSION...) before the
// command chooses it. All are ended by their process ids when CMD ends or at SIGINT, SIGTERM or SIGHUP, which CMD receives first.
// The exit code is CMD's; 70 when a server does not start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
)

func main() { os.Exit(run()) }

func run() (code int) {
	redis := flag.Bool("redis", true, "start a redis-server")
	amqp := flag.Bool("amqp", true, "start a RabbitMQ node")
	shards := flag.Int("shards", 1, "so many Redis servers and virtual hosts")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: testservers [flags] -- CMD ARGS...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 || *shards < 1 || *shards > 64 {
		flag.Usage()
		return 64
	}
	// Signals are caught from the start: one that comes while a server boots must not leave it behind.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)

	env := os.Environ()
	started := make(chan error, 1)
	var running []*testservers.Server
	go func() { // so that a signal can cut the start short
		started <- func() error {
			var redisURLs, amqpURLs, vhosts []string
			versions := map[string]bool{}
			for range *shards {
				if !*redis {
					break
				}
				srv, err := testservers.StartRedis(ctx)
				if err != nil {
					return err
				}
				running = append(running, srv)
				redisURLs = append(redisURLs, srv.URL)
				env = append(env, "STALK_REDIS_PID="+strconv.Itoa(srv.PID()), "STALK_REDIS_VERSION="+srv.Version)
				versions[srv.Version] = true
			}
			if *amqp {
				for i := 2; i <= *shards; i++ { // the first has "/"
					vhosts = append(vhosts, fmt.Sprintf("shard%d", i))
				}
				srv, err := testservers.StartRabbitMQ(ctx, vhosts...)
				if err != nil {
					return err
				}
				running = append(running, srv)
				amqpURLs = append(amqpURLs, srv.URL)
				env = append(env, "STALK_AMQP_PID="+strconv.Itoa(srv.PID()), "STALK_AMQP_VERSION="+srv.Version)
				versions[srv.Version] = true
				for _, v := range vhosts {
					amqpURLs = append(amqpURLs, strings.TrimSuffix(srv.URL, "/")+v)
				}
			}
			for _, v := range []struct {
				name string
				urls []string
			}{{"CELERY_REDIS_URL", redisURLs}, {"CELERY_AMQP_URL", amqpURLs}} {
				if v.urls != nil {
					env = append(env, v.name+"="+strings.Join(v.urls, " "))
					fmt.Fprintf(os.Stderr, "testservers: %s=%s\n", v.name, strings.Join(v.urls, " "))
				}
			}
			fmt.Fprintf(os.Stderr, "testservers: %s\n", strings.Join(slices.Sorted(maps.Keys(versions)), ", "))
			return nil
		}()
	}()
	defer func() {
		for _, s := range running {
			if err := s.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = max(code, 70)
			}
		}
	}()
	select {
	case sig := <-signals:
		cancel(fmt.Errorf("testservers: %v", sig))
		<-started
		return 128 + int(sig.(syscall.Signal))
	case err := <-started:
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 70
		}
	}

	if os.Getenv("STALK_PYTHON") == "" {
		if python, err := filepath.Abs(".build/venv/bin/python"); err == nil {
			if _, err := os.Stat(python); err == nil {
				env = append(env, "STALK_PYTHON="+python)
			}
		}
	}
	return runCommand(flag.Args(), env, signals)
}

// runCommand passes signals on and returns the command's exit code, as a shell would give it.
func runCommand(argv, env []string, signals <-chan os.Signal) int {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "testservers:", err)
		return 127
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var kill <-chan time.Time
	for {
		select {
		case sig := <-signals:
			cmd.Process.Signal(sig)
			if kill == nil {
				kill = time.After(20 * time.Second)
			}
		case <-kill:
			fmt.Fprintln(os.Stderr, "testservers: the command does not end; killing it")
			cmd.Process.Kill()
		case err := <-done:
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
					return 128 + int(status.Signal())
				}
				return exit.ExitCode()
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "testservers:", err)
				return 70
			}
			return 0
		}
	}
}
