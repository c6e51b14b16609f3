package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// checkCommand is `stalk check`, which is curl for containers that have none.
func checkCommand(p process, wrong cli.OnUsageErrorFunc) *cli.Command {
	return &cli.Command{
		Name:         "check",
		Usage:        "ask a worker with --http whether it takes tasks; for health checks in containers without curl",
		OnUsageError: wrong,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "http", Usage: "the worker's `ADDR`", Value: ":9808"},
			&cli.BoolFlag{Name: "live", Usage: "ask /healthz, whether the process works, in place of /readyz"},
			&cli.DurationFlag{Name: "timeout", Aliases: []string{"t"}, Usage: "give up after this `DURATION`", Value: 3 * time.Second},
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError{fmt.Errorf("check takes no arguments, got %q", c.Args().First())}
			}
			if _, err := applyEnvironment(c, p.environ); err != nil {
				return err
			}
			page := "/readyz"
			if c.Bool("live") {
				page = "/healthz"
			}
			return check(c.Context, p.stdout, c.String("http"), page, c.Duration("timeout"))
		},
	}
}

// check prints the worker's answer and returns an error unless that is 200.
func check(ctx context.Context, out io.Writer, address, page string, timeout time.Duration) error {
	addr, err := listenAddress("http", address, false)
	if err != nil {
		return usageError{err}
	}
	// The address to listen on may be every interface; we are asked from this machine.
	if host, port, err := net.SplitHostPort(addr); err == nil {
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			addr = net.JoinHostPort("localhost", port)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+page, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: it is this machine
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(text)))
	}
	_, err = out.Write(text)
	return err
}
