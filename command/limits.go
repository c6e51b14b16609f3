package command

import (
	"fmt"
	"math"

	"github.com/urfave/cli/v2"

	"github.com/stalkworker/stalk/protocol"
)

// limitFlags bound what one message and one result may cost (docs/limits.md).
func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "max-body", Usage: "a message whose body is larger, decompressed, is set aside: a `SIZE` such as 64M", Value: "128M"},
		&cli.IntFlag{Name: "max-values", Usage: "or whose body holds more than `N` values, a list or an object counting four", Value: protocol.DefaultValues},
		&cli.IntFlag{Name: "max-depth", Usage: "or is nested deeper than `N` levels", Value: protocol.DefaultDepth},
		&cli.StringFlag{Name: "max-result", Usage: "a task whose result is larger as it is stored fails: a `SIZE` up to 512M", Value: "128M"},
	}
}

// messageLimits are --max-body, --max-values and --max-depth.
func messageLimits(c *cli.Context) (l protocol.Limits, err error) {
	body, err := parseSize(c.String("max-body"))
	switch {
	case err != nil:
		return l, fmt.Errorf("--max-body %w", err)
	case body > 2<<30:
		return l, fmt.Errorf("--max-body %s: want 2G or less", c.String("max-body"))
	}
	for name, most := range map[string]int{"max-values": math.MaxInt32, "max-depth": 10_000} {
		if n := c.Int(name); n < 1 || n > most {
			return l, fmt.Errorf("--%s %d: want 1 to %d", name, n, most)
		}
	}
	return protocol.Limits{Inflated: int(body), Values: c.Int("max-values"), Depth: c.Int("max-depth")}, nil
}

// resultLimit is --max-result. Redis holds no more than 512 MiB in one place, and RabbitMQ takes no larger message.
func resultLimit(c *cli.Context) (int, error) {
	n, err := parseSize(c.String("max-result"))
	switch {
	case err != nil:
		return 0, fmt.Errorf("--max-result %w", err)
	case n > 512<<20:
		return 0, fmt.Errorf("--max-result %s: want 512M or less", c.String("max-result"))
	}
	return int(n), nil
}
