// Package metrics shows a worker to Prometheus: what the worker counts, as text, under the names that the
// dashboards of celery-exporter know and under names of our own (stalk_*).
//
// It is for whoever runs a worker and serves HTTP: the command line does, and a program of its own may mount
// Handler where it likes. It counts nothing itself (that is the worker's meter) and keeps no globals. The text is
// written by hand: Prometheus' own client costs 2.9 MB of binary and 2.5 MB of resident memory, scraped or
// not, and would only print what is counted elsewhere.
package metrics

import (
	"context"
	"net/http"
	"time"

	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

// source is what is shown of a worker.
type source interface {
	Stats() worker.Stats
	TaskStats() []worker.TaskStats
	SentStats() []worker.SentStats
	Ready() error
	Node() string
	Queues() []string
	QueueSize(ctx context.Context, name string) (transports.QueueSize, error)
}

var _ source = (*worker.Worker)(nil)

// An Exporter answers scrapes. Make one with New.
type Exporter struct {
	from    source
	version string
	sizes   *sizes
}

// New returns an Exporter of w; version is what stalk_info says. It starts nothing; Close ends what scrapes start.
func New(w *worker.Worker, version string) *Exporter { return newExporter(w, version) }

func newExporter(from source, version string) *Exporter {
	return &Exporter{from: from, version: version, sizes: newSizes(from.QueueSize)}
}

// Close waits for a look at the queues that is under way, for a moment. Scrapes after it do not look any more.
func (e *Exporter) Close() { e.sizes.close() }

// A snapshot is what one scrape shows.
type snapshot struct {
	node, version string
	consuming     bool
	stats         worker.Stats
	tasks         []worker.TaskStats
	sent          []worker.SentStats
	queues        []string // consumed
	sizes         map[string]transports.QueueSize
	sized         time.Time // when sizes were looked at; zero: never
}

// queuesShown bounds the queues of one scrape: each is two questions to the broker.
const queuesShown = 100

// ServeHTTP answers GET and HEAD with the metrics. It takes no longer than sizesPatience, whatever the broker does.
func (e *Exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", contentType)
	if r.Method == http.MethodHead {
		return
	}
	s := snapshot{
		node: e.from.Node(), version: e.version, consuming: e.from.Ready() == nil, stats: e.from.Stats(),
		tasks: e.from.TaskStats(), sent: e.from.SentStats(), queues: e.from.Queues(),
	}
	s.queues = s.queues[:min(len(s.queues), queuesShown)]
	s.sizes, s.sized = e.sizes.of(r.Context(), s.queues, s.stats.Connected)
	t := newText(w)
	writeCelery(t, s)
	writeStalk(t, s)
	writeProcess(t)
	t.flush()
}
