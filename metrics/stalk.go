package metrics

import (
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

// writeStalk writes what Celery's exporters do not know.
func writeStalk(t *text, s snapshot) {
	t.family("stalk_info", "gauge", "The worker; always 1.")
	t.sample("stalk_info", 1, label{"node", s.node}, label{"version", s.version}, label{"goversion", runtime.Version()})
	t.gauge("stalk_ready", "1 while the worker is really consuming, as /readyz.", truth(s.consuming))

	st := s.stats
	t.counter("stalk_deliveries_total", "Messages taken from the broker.", float64(st.Received))
	t.counter("stalk_redeliveries_total", "Messages taken that the broker had given out before.", float64(st.Redelivered))
	t.counter("stalk_deliveries_lost_total", "Deliveries that stopped being ours before they were settled; each runs again.", float64(st.Lost))
	t.counter("stalk_quarantined_total", "Messages set aside in a quarantine queue.", float64(st.Quarantined))
	t.counter("stalk_connections_total", "Connections made to the broker: the first and every reconnect.", float64(st.Connects))
	t.counter("stalk_events_dropped_total", "Events for monitors that could not be sent.", float64(st.Dropped))

	t.gauge("stalk_connected", "1 while there is a connection to the broker.", truth(st.Connected))
	t.gauge("stalk_slots", "Tasks that may run at a time (concurrency).", float64(st.Slots))
	t.gauge("stalk_memory_budget_bytes", "Memory that running tasks may reserve together; 0: no limit.", float64(st.Memory))
	t.gauge("stalk_memory_reserved_bytes", "Memory that running tasks have reserved.", float64(st.Reserved))
	t.gauge("stalk_slots_used", "Slots taken by tasks that run or are about to.", float64(st.InUse))
	t.gauge("stalk_held", "Tasks held for their eta, or for their turn by a rate limit.", float64(st.Held))
	t.gauge("stalk_settling", "Finished tasks whose result, follow-ups or acknowledgement are on their way.", float64(st.Settling))
	t.gauge("stalk_settling_max", "The most that may be settling at a time; at this number no new task starts.", float64(st.Effects))
	t.gauge("stalk_unsettled", "Messages taken that are neither settled nor acknowledged early.", float64(st.Unsettled))
	t.gauge("stalk_prefetch_window", "Messages that may be unsettled: what the broker is asked for (prefetch count).", float64(st.Window))
	t.gauge("stalk_lease_age_seconds", "How long the oldest unsettled message has been here, held ones included.", st.Oldest.Seconds())
	t.gauge("stalk_run_age_seconds", "How long the oldest running handler has been running.", st.Longest.Seconds())

	t.family("stalk_task_ended_total", "counter", "How runs, and tasks that did not run, ended.")
	for _, ts := range s.tasks {
		for _, outcome := range sortedKeys(ts.Outcomes) {
			n := ts.Outcomes[outcome]
			if n == 0 && outcome != "succeeded" && outcome != "failed" {
				continue
			}
			t.sample("stalk_task_ended_total", float64(n), label{"name", ts.Name}, label{"queue_name", ts.Queue}, label{"outcome", outcome})
		}
	}
	histograms := func(name, help string, of func(worker.TaskStats) buckets) {
		t.family(name, "histogram", help)
		for _, ts := range s.tasks {
			if h := of(ts); slices.ContainsFunc(h.counts, func(n uint64) bool { return n > 0 }) {
				t.histogram(name, h, label{"name", ts.Name}, label{"queue_name", ts.Queue})
			}
		}
	}
	histograms("stalk_task_wait_seconds", "From a task's arrival in the worker to its start, without eta, countdown and the pause before a retry.",
		func(ts worker.TaskStats) buckets { return bucketsOf(ts.Wait) })
	histograms("stalk_task_run_seconds", "How long handlers ran, whatever came of it.", func(ts worker.TaskStats) buckets { return both(ts.Runtime, ts.OtherRuns) })
	histograms("stalk_task_settle_seconds", "From a handler's end until result, follow-ups and acknowledgement were safe.",
		func(ts worker.TaskStats) buckets { return bucketsOf(ts.Settle) })

	sizes := func(name, help string, of func(string) string) {
		t.family(name, "gauge", help)
		for _, q := range s.queues {
			if size, known := s.sizes[of(q)]; known {
				t.sample(name, float64(size.Ready), label{"queue_name", q})
			}
		}
	}
	sizes("stalk_queue_messages", "Messages that wait in a queue we consume. Every worker says the same: take max by (queue_name).", func(q string) string { return q })
	sizes("stalk_quarantine_messages", "Messages set aside beside a queue we consume, by all workers and not yet replayed or dropped. Take max by (queue_name).", transports.Quarantine)
	if !s.sized.IsZero() {
		t.gauge("stalk_queue_sizes_age_seconds", "How old the sizes of the queues are.", time.Since(s.sized).Seconds())
	}
}

// both is the sum of two histograms over the same bounds.
func both(a, b worker.Histogram) buckets {
	out := buckets{bounds: a.Bounds, counts: slices.Clone(a.Counts), sum: a.Sum + b.Sum}
	for i, n := range b.Counts {
		out.counts[i] += n
	}
	return out
}

func sortedKeys(m map[string]int64) []string { return slices.Sorted(maps.Keys(m)) }
