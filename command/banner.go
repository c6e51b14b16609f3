package command

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/stalkworker/stalk/worker"
)

// art is the left edge of Celery's banner (celery/apps/worker.py ARTLINES).
var art = []string{
	" --------------", "--- ***** -----", "-- ******* ----", "- *** --- * ---", "- ** ----------", "- ** ----------",
	"- ** ----------", "- ** ----------", "- *** --- * ---", "-- ******* ----", "--- ***** -----", " --------------",
}

// banner prints what starts, in the shape of Celery's own (celery/apps/worker.py, startup_info): the tasks only
// when the log shows INFO. Addresses print without their passwords.
func banner(out io.Writer, cfg worker.Config, tasks bool, now time.Time) {
	slots := strconv.Itoa(cfg.Concurrency)
	if a := cfg.Autoscale; a.Max > 0 {
		slots = fmt.Sprintf("{min=%d, max=%d}", a.Min, a.Max)
	}
	events := "OFF (enable -E to monitor tasks in this worker)"
	if cfg.Events.Tasks {
		events = "ON"
	}
	results := "disabled://"
	if cfg.Results != nil {
		results = cfg.Results.String()
	}
	lines := []string{
		cfg.Node + " v" + Version + " (stalk)",
		"",
		fmt.Sprintf("%s-%s-%s %s", runtime.GOOS, runtime.GOARCH, runtime.Version(), now.Format("2006-01-02 15:04:05")),
		"",
		"[config]",
		".> app:         stalk",
		".> transport:   " + cfg.Transport.String(),
		".> results:     " + results,
		".> concurrency: " + slots + " (goroutines)",
		".> task events: " + events,
		"",
		"[queues]",
	}
	for _, q := range cfg.Queues {
		lines = append(lines, fmt.Sprintf(".> %-16s exchange=%s(%s) key=%s", q.Name, cmp.Or(q.Exchange, q.Name), cmp.Or(q.Type, "direct"), cmp.Or(q.RoutingKey, q.Name)))
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
	if tasks {
		b.WriteString("\n[tasks]\n")
		for h := range cfg.Handlers.All() {
			b.WriteString("  . " + h.Name() + "\n")
		}
	}
	b.WriteByte('\n')
	io.WriteString(out, b.String()) //nolint:errcheck // a banner nobody can read stops no work
}
