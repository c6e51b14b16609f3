package command

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/transports"
)

// art is the left edge of Celery's banner (celery/apps/worker.py ARTLINES).
var art = []string{
	" --------------", "--- ***** -----", "-- ******* ----", "- *** --- * ---", "- ** ----------", "- ** ----------",
	"- ** ----------", "- ** ----------", "- *** --- * ---", "-- ******* ----", "--- ***** -----", " --------------",
}

// banner prints what starts, in the shape of Celery's own.
func banner(out io.Writer, node, broker, results string, concurrency int, queues []transports.Queue, reg *handlers.Registry, now time.Time) {
	lines := []string{
		node + " v" + Version + " (stalk)",
		"",
		fmt.Sprintf("%s-%s %s %s", runtime.GOOS, runtime.GOARCH, runtime.Version(), timestamp(now)),
		"",
		"[config]",
		".> app:         stalk",
		".> transport:   " + broker,
		".> results:     " + results,
		fmt.Sprintf(".> concurrency: %d (goroutines)", concurrency),
		".> task events: OFF",
		"",
		"[queues]",
	}
	for _, q := range queues {
		lines = append(lines, fmt.Sprintf(".> %-16s exchange=%s(%s) key=%s", q.Name, q.Exchange, q.Type, q.RoutingKey))
	}
	var b strings.Builder
	b.WriteByte('\n')
	for i, line := range lines {
		edge := strings.Repeat(" ", 15)
		if i < len(art) {
			edge = art[i]
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-15s %s", edge, line), " "))
		b.WriteByte('\n')
	}
	b.WriteString("\n[tasks]\n")
	for h := range reg.All() {
		b.WriteString("  . " + h.Name() + "\n")
	}
	b.WriteByte('\n')
	io.WriteString(out, b.String()) //nolint:errcheck // a banner nobody can read stops no work
}
