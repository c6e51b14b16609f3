package metrics

import (
	"strings"

	"github.com/stalkworker/stalk/worker"
)

// The families of celery-exporter (github.com/danihodovic/celery-exporter), by its names, labels, help texts and
// bounds, so that its dashboards and alerts work on a Stalk worker that is scraped itself.
var (
	exporterRuntime = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	exporterWait    = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800}
)

// hostOf is celery-exporter's hostname: what follows the @ of the node name.
func hostOf(node string) string {
	if _, host, ok := strings.Cut(node, "@"); ok {
		return host
	}
	return node
}

func writeCelery(t *text, s snapshot) {
	host := label{"hostname", hostOf(s.node)}
	each := func(name, help string, value func(worker.TaskStats) int64) {
		t.family(name, "counter", help)
		for _, ts := range s.tasks {
			t.sample(name, float64(value(ts)), label{"name", ts.Name}, host, label{"queue_name", ts.Queue})
		}
	}
	t.family("celery_task_sent_total", "counter", "Sent when a task message is published.")
	for _, s := range s.sent {
		t.sample("celery_task_sent_total", float64(s.Count), label{"name", s.Name}, host, label{"queue_name", s.Queue})
	}
	each("celery_task_received_total", "Sent when the worker receives a task.", func(t worker.TaskStats) int64 { return t.Received })
	each("celery_task_started_total", "Sent just before the worker executes the task.", func(t worker.TaskStats) int64 { return t.Started })
	each("celery_task_succeeded_total", "Sent if the task executed successfully.", func(t worker.TaskStats) int64 { return t.Succeeded })
	t.family("celery_task_failed_total", "counter", "Sent if the execution of the task failed.")
	for _, ts := range s.tasks {
		row := func(exception string, n int64) {
			t.sample("celery_task_failed_total", float64(n), label{"name", ts.Name}, host, label{"exception", exception}, label{"queue_name", ts.Queue})
		}
		row("", 0) // as the exporter: a task that never failed has a series too, or rates would have holes
		for _, name := range sortedKeys(ts.Exceptions) {
			row(name, ts.Exceptions[name])
		}
	}
	each("celery_task_rejected_total", "The task was rejected by the worker, possibly to be re-queued or moved to a dead letter queue.",
		func(t worker.TaskStats) int64 { return t.Rejected })
	each("celery_task_revoked_total", "Sent if the task has been revoked.", func(t worker.TaskStats) int64 { return t.Revoked })
	each("celery_task_retried_total", "Sent if the task failed, but will be retried in the future.", func(t worker.TaskStats) int64 { return t.Retried })

	histograms := func(name, help string, bounds []float64, of func(worker.TaskStats) worker.Histogram) {
		t.family(name, "histogram", help)
		for _, ts := range s.tasks {
			if h := of(ts); h.Count() > 0 {
				t.histogram(name, bucketsOf(h).coarser(bounds), label{"name", ts.Name}, host, label{"queue_name", ts.Queue})
			}
		}
	}
	histograms("celery_task_runtime", "Histogram of task runtime measurements.", exporterRuntime,
		func(t worker.TaskStats) worker.Histogram { return t.Runtime })
	histograms("celery_task_queue_wait_time", "Histogram of the time tasks spend waiting in the queue before being executed, excluding deliberate ETA/countdown delay.",
		exporterWait, func(t worker.TaskStats) worker.Histogram { return t.QueueWait })

	t.family("celery_worker_up", "gauge", "Indicates if a worker has recently sent a heartbeat.")
	t.sample("celery_worker_up", truth(s.stats.Connected && !s.stats.Stopping), host)
	t.family("celery_worker_tasks_active", "gauge", "The number of tasks the worker is currently processing")
	t.sample("celery_worker_tasks_active", float64(s.stats.Active), host)

	perQueue := func(name, help string, value func(queue string) (float64, bool)) {
		t.family(name, "gauge", help)
		for _, q := range s.queues {
			if v, known := value(q); known {
				t.sample(name, v, label{"queue_name", q})
			}
		}
	}
	perQueue("celery_queue_length", "The number of message in broker queue.", func(q string) (float64, bool) {
		size, known := s.sizes[q]
		return float64(size.Ready), known
	})
	perQueue("celery_active_consumer_count", "The number of active consumer in broker queue.", func(q string) (float64, bool) {
		size, known := s.sizes[q]
		return float64(size.Consumers), known && size.Consumers >= 0
	})
	perQueue("celery_active_worker_count", "The number of active workers in broker queue.", func(string) (float64, bool) { return truth(s.consuming), true })
	perQueue("celery_active_process_count", "The number of active processes in broker queue.", func(string) (float64, bool) {
		return truth(s.consuming) * float64(s.stats.Slots), true
	})
}

func bucketsOf(h worker.Histogram) buckets {
	return buckets{bounds: h.Bounds, counts: h.Counts, sum: h.Sum}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
