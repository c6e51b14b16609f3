package interop_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/internal/testservers"
)

// web is where a worker with --http 127.0.0.1:0 answers.
func (w *worker) web() string {
	w.t.Helper()
	const said = "health and metrics at "
	w.waitLog(said)
	return regexp.MustCompile(said + `(http://\S+)`).FindStringSubmatch(string(w.output()))[1]
}

// get is the status and the text of a page; status 0 when there is no answer.
func get(url string) (int, string) {
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// scrape is the samples by name and labels, as they are written.
func scrape(t *testing.T, web string) map[string]float64 {
	t.Helper()
	began := time.Now()
	code, text := get(web + "/metrics")
	if code != 200 {
		t.Fatalf("/metrics = %d %s", code, text)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("/metrics took %v", took)
	}
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			out[line[:i]] = v
		}
	}
	return out
}

// waitPage waits until a page has a status and a text.
func waitPage(t *testing.T, url string, code int, text string) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		got, body := get(url)
		if got == code && strings.Contains(body, text) {
			return time.Since(began)
		}
		if time.Since(began) > 60*time.Second {
			t.Fatalf("%s = %d %q, want %d %q", url, got, body, code, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestMetricsCountWhatWasRun(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery's worker serves no metrics")
		}
		queue := unique("metrics")
		p := s.python(t, queue)
		w := s.stalk(t, queue, "--http", "127.0.0.1:0")
		web := w.web()
		p.run(`
			import time
			from celery import current_app
			from celery.exceptions import NotRegistered, TaskRevokedError
			def ends(r, *errors):
				try:
					r.get(timeout=60)
				except errors:
					return
				assert not errors, r.result
			for i in range(5):
				ends(add.apply_async((i,), queue=Q))
			ends(add.apply_async((1,), queue=Q, countdown=3))
			ends(add.apply_async((1,), queue=Q, headers={"timestamp_in_ms": int(time.time() * 1000) - 7000}))
			ends(sleep.apply_async((0.3,), queue=Q))
			ends(fail.apply_async(("x", "ValueError"), queue=Q), ValueError)
			ends(fail.apply_async(("x", "ValueError"), queue=Q), ValueError)
			ends(fail.apply_async(("x", "KeyError"), queue=Q), KeyError)
			ends(retry.apply_async((2, 0), queue=Q))
			ends(add.apply_async((1,), queue=Q, countdown=6, expires=5), TaskRevokedError)
			ends(current_app.send_task("nobody.serves.this", queue=Q), NotRegistered)
		`)
		labels := func(name, more string) string {
			return fmt.Sprintf(`{name="%s",hostname="test",%squeue_name="%s"}`, name, more, queue)
		}
		want := map[string]float64{
			"celery_task_received_total" + labels("demo.add", ""):                        8,
			"celery_task_started_total" + labels("demo.add", ""):                         7,
			"celery_task_succeeded_total" + labels("demo.add", ""):                       7,
			"celery_task_revoked_total" + labels("demo.add", ""):                         1,
			"celery_task_runtime_count" + labels("demo.add", ""):                         7,
			"celery_task_queue_wait_time_count" + labels("demo.add", ""):                 1,
			"celery_task_failed_total" + labels("demo.fail", `exception="ValueError",`):  2,
			"celery_task_failed_total" + labels("demo.fail", `exception="KeyError",`):    1,
			"celery_task_failed_total" + labels("demo.fail", `exception="",`):            0,
			"celery_task_failed_total" + labels("unknown", `exception="NotRegistered",`): 1,
			"celery_task_received_total" + labels("demo.retry", ""):                      3,
			"celery_task_retried_total" + labels("demo.retry", ""):                       2,
			"celery_task_succeeded_total" + labels("demo.retry", ""):                     1,
			"celery_task_sent_total" + labels("demo.retry", ""):                          2,
			"celery_task_runtime_count" + labels("demo.sleep", ""):                       1,
			"celery_task_runtime_bucket" + runtimeBucket(queue, "0.25"):                  0,
			"celery_task_runtime_bucket" + runtimeBucket(queue, "+Inf"):                  1,
			`celery_worker_up{hostname="test"}`:                                          1,
			`celery_worker_tasks_active{hostname="test"}`:                                0,
			`celery_queue_length{queue_name="` + queue + `"}`:                            0,
			`celery_active_process_count{queue_name="` + queue + `"}`:                    2,
			"stalk_ready":             1,
			"stalk_unsettled":         0,
			"stalk_connections_total": 1,
			`stalk_quarantine_messages{queue_name="` + queue + `"}`: 0,
		}
		if s.name == "rabbitmq" {
			want[`celery_active_consumer_count{queue_name="`+queue+`"}`] = 1
		}
		// A caller has its result a moment before the message is acknowledged and counted.
		var wrong []string
		var got map[string]float64
		for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			got, wrong = scrape(t, web), nil
			for _, name := range slices.Sorted(maps.Keys(want)) {
				if v, ok := got[name]; !ok || v != want[name] {
					wrong = append(wrong, fmt.Sprintf("%s is %v (there: %v), want %v", name, v, ok, want[name]))
				}
			}
			if len(wrong) == 0 {
				break
			}
		}
		for _, text := range wrong {
			t.Error(text)
		}
		within := func(name string, least, most float64) {
			t.Helper()
			if v := got[name]; v < least || v > most {
				t.Errorf("%s is %v, want %v to %v", name, v, least, most)
			}
		}
		within("celery_task_runtime_sum"+labels("demo.sleep", ""), .3, 60)
		within("celery_task_queue_wait_time_sum"+labels("demo.add", ""), 6.9, 60)
		// One of the seven was held for three seconds, as its sender wanted.
		within(`stalk_task_wait_seconds_sum{name="demo.add",queue_name="`+queue+`"}`, 1e-6, 2.9)
		within(`stalk_task_settle_seconds_sum{name="demo.add",queue_name="`+queue+`"}`, 1e-6, 60)
		w.stop()
	})
}

func runtimeBucket(queue, le string) string {
	return fmt.Sprintf(`{name="demo.sleep",hostname="test",queue_name="%s",le="%s"}`, queue, le)
}

func TestReadinessFollowsTheBroker(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *testservers.Server{
		"redis":    func(t *testing.T) *testservers.Server { return testservers.Redis(t) },
		"rabbitmq": func(t *testing.T) *testservers.Server { return testservers.RabbitMQ(t) },
	} {
		t.Run(name, func(t *testing.T) {
			need(t)
			t.Parallel()
			if celeryInstead {
				t.Skip("Celery's worker serves no health")
			}
			server := start(t)
			s := setup{name: name, broker: server.URL, backend: redisURL}.with("broker_heartbeat", 2)
			queue := unique("ready")
			p := s.python(t, queue)
			w := s.stalk(t, queue, "--http", "127.0.0.1:0")
			web := w.web()
			waitPage(t, web+"/readyz", 200, "ready")
			p.run(`assert add.apply_async((1,), queue=Q).get(timeout=60) == 2`)

			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			waitPage(t, web+"/readyz", 503, "no connection to the broker")
			if code, text := get(web + "/healthz"); code != 200 {
				t.Errorf("/healthz without a broker = %d %s: a restart would not bring it back", code, text)
			}
			m := scrape(t, web)
			if m["stalk_ready"] != 0 || m["stalk_connected"] != 0 || m[`celery_worker_up{hostname="test"}`] != 0 {
				t.Errorf("without a broker: ready %v, connected %v, up %v", m["stalk_ready"], m["stalk_connected"], m[`celery_worker_up{hostname="test"}`])
			}
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			waitPage(t, web+"/readyz", 200, "ready")
			if m := scrape(t, web); m["stalk_connections_total"] < 2 || m["stalk_ready"] != 1 {
				t.Errorf("with the broker again: %v connections, ready %v", m["stalk_connections_total"], m["stalk_ready"])
			}

			// A broker that is there and says nothing: noticed by its silence, and no scrape waits for it.
			if err := syscall.Kill(server.PID(), syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			took := waitPage(t, web+"/readyz", 503, "")
			t.Logf("a frozen broker was noticed after %v", took)
			scrape(t, web)
			if err := syscall.Kill(server.PID(), syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			waitPage(t, web+"/readyz", 200, "ready")
			w.stop()
		})
	}
}

// TestMetricsAgreeWithTheEvents: what celery-exporter makes of the events is what /metrics says.
func TestMetricsAgreeWithTheEvents(t *testing.T) {
	onMonitored(t, []string{"celery"}, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("Celery's worker serves no metrics")
		}
		s = s.with("event_exchange", unique("events")).with("task_acks_on_failure", false)
		queue := unique("agree")
		m := s.startMonitor(t)
		w := s.stalk(t, queue, "-E", "--http", "127.0.0.1:0")
		web := w.web()
		var ids []string
		s.python(t, queue).value(`
			from celery import current_app
			sent = [add.apply_async((i,), queue=Q) for i in range(20)]
			sent += [fail.apply_async(("x", "KeyError"), queue=Q) for i in range(3)]
			sent += [fail.apply_async(("x", "ValueError"), queue=Q) for i in range(2)]
			sent += [retry.apply_async((2, 0), queue=Q), add.apply_async((1,), queue=Q, countdown=6, expires=5)]
			sent += [sleep.apply_async((0.2,), queue=Q, countdown=0.5), current_app.send_task("nobody.knows", queue=Q)]
			nap = progress.apply_async((600, 0.1), queue=Q)
			wait(lambda: nap.state == "PROGRESS", 40)
			current_app.control.revoke(nap.id, terminate=True)
			sent.append(nap)
			for r in sent:
				wait(r.ready, 60)
			value = [r.id for r in sent]
		`, &ids, nil)
		m.do(fmt.Sprintf("ready %d", len(ids)))
		// The counts and the events are made at the same moment; the events are on their way for a while.
		got := scrape(t, web)
		r := m.end()

		counted := map[string]int{}
		exceptions := map[string]int{}
		metric := regexp.MustCompile(`^celery_task_(\w+)_total\{name="([^"]*)",hostname="test",(?:exception="(\w*)",)?queue_name="` + queue + `"\}$`)
		for key, n := range got {
			if p := metric.FindStringSubmatch(key); p != nil && n > 0 && p[1] != "sent" {
				name := p[2]
				if name == "unknown" {
					name = "None" // which an event without a name before it is to the exporter
				}
				counted["task-"+p[1]+" "+name] += int(n)
				if p[1] == "failed" {
					exceptions[name+" "+p[3]] += int(n)
				}
			}
		}
		if len(counted) < 12 {
			t.Errorf("counted only %v", counted)
		}
		if !maps.Equal(counted, r.Exporter.Counts) {
			t.Errorf("/metrics  %v\nexporter %v", counted, r.Exporter.Counts)
		}
		if !maps.Equal(exceptions, r.Exporter.Exceptions) {
			t.Errorf("exceptions: /metrics %v, exporter %v", exceptions, r.Exporter.Exceptions)
		}
		for _, name := range []string{"demo.add", "demo.sleep", "demo.retry"} {
			ours := got[fmt.Sprintf(`celery_task_runtime_sum{name="%s",hostname="test",queue_name="%s"}`, name, queue)]
			theirs := r.Exporter.Runtime[name+" test "+queue]
			if theirs == 0 || ours < theirs*.99-1e-4 || ours > theirs*1.01+1e-4 {
				t.Errorf("runtime of %s: /metrics %v s, exporter %v s", name, ours, theirs)
			}
		}
		w.stop()
	})
}
