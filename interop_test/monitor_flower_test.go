package interop_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// A flower is a running Flower.
type flower struct {
	t *testing.T
	*worker
	url string
}

// startFlower starts Flower 2.2 as its users do and waits until it answers. It looks for nodes at once: the
// worker under test must be ready.
func (s setup) startFlower(t *testing.T) *flower {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr)
	l.Close()
	w := s.program(t, "flower", nil, []string{"FLOWER_UNAUTHENTICATED_API=true"}, "-m", "celery", "-A", "project", "flower",
		"--address=127.0.0.1", fmt.Sprintf("--port=%d", address.Port), fmt.Sprintf("--db=%s/%s", t.TempDir(), "flower"),
		// A second is Flower's default; the machine of the tests may be busier than a site's.
		"--inspect_timeout=2000")
	f := &flower{t: t, worker: w, url: "http://" + address.String()}
	f.until("an answer", func() bool {
		answer, err := http.Get(f.url + "/healthcheck")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return f
}

// until waits for what a Flower that lives must do.
func (f *flower) until(what string, holds func() bool) {
	f.t.Helper()
	until(f.t, "Flower: "+what, func() bool {
		select {
		case <-f.done:
			f.t.Fatalf("%s has ended", f.name)
		default:
		}
		return holds()
	})
}

// get returns what Flower answers at a path.
func (f *flower) get(path string) (int, string) {
	f.t.Helper()
	answer, err := http.Get(f.url + path)
	if err != nil {
		f.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// page returns a page, which must be there.
func (f *flower) page(path string) string {
	f.t.Helper()
	code, body := f.get(path)
	if code != http.StatusOK {
		f.t.Errorf("Flower answers %d at %s:\n%s", code, path, body)
	}
	return body
}

// json reads a page into value; false when it is not there (yet).
func (f *flower) json(path string, value any) bool {
	f.t.Helper()
	code, body := f.get(path)
	if code != http.StatusOK {
		return false
	}
	if err := json.Unmarshal([]byte(body), value); err != nil {
		f.t.Fatalf("%s: %v\n%s", path, err, body)
	}
	return true
}

// A flowerWorker is a row of the workers page.
type flowerWorker struct {
	Hostname  string    `json:"hostname"`
	Status    bool      `json:"status"`
	Active    int       `json:"active"`
	Load      []float64 `json:"loadavg"`
	Processed int       `json:"task-received"`
	Succeeded int       `json:"task-succeeded"`
	Failed    int       `json:"task-failed"`
	Retried   int       `json:"task-retried"`
	Software  string    `json:"sw_ident"`
}

// row is the node's row of the workers page; nil before its first event.
func (f *flower) row(node string) *flowerWorker {
	f.t.Helper()
	var page struct{ Data []flowerWorker }
	if !f.json("/workers?json=1", &page) {
		f.t.Fatal("Flower has no workers page")
	}
	for _, w := range page.Data {
		if w.Hostname == node {
			return &w
		}
	}
	return nil
}

// A flowerTask is what Flower knows of a task.
type flowerTask struct {
	UUID      string   `json:"uuid"`
	Name      string   `json:"name"`
	State     string   `json:"state"`
	Args      string   `json:"args"`
	Kwargs    string   `json:"kwargs"`
	Result    string   `json:"result"`
	Runtime   *float64 `json:"runtime"`
	Exception string   `json:"exception"`
	Traceback string   `json:"traceback"`
	Retries   int      `json:"retries"`
	Worker    string   `json:"worker"`
	Received  float64  `json:"received"`
	Started   float64  `json:"started"`
	Succeeded float64  `json:"succeeded"`
	Failed    float64  `json:"failed"`
	Root      string   `json:"root_id"`
}

// task waits until Flower knows a task in a state.
func (f *flower) task(id string, states ...string) (task flowerTask) {
	f.t.Helper()
	f.until(strings.Join(states, " or ")+" of "+id, func() bool {
		task = flowerTask{}
		return f.json("/api/task/info/"+id, &task) && slices.Contains(states, task.State)
	})
	return task
}

// showsEvents waits until the node sends the events of its tasks, which Flower asks for every five seconds.
func (f *flower) showsEvents(p *session) {
	f.t.Helper()
	f.until("task events", func() bool {
		var id string
		if err := json.Unmarshal(p.run(`r = add.apply_async((1,), queue=Q); assert r.get(timeout=60) == 2; value = r.id`), &id); err != nil {
			f.t.Fatal(err)
		}
		for range 10 { // an event is later than the result
			if code, _ := f.get("/api/task/info/" + id); code == http.StatusOK {
				f.task(id, "SUCCESS")
				return true
			}
			time.Sleep(50 * time.Millisecond)
		}
		return false
	})
}

// clean fails the test when Flower complained.
func (f *flower) clean() {
	f.t.Helper()
	for line := range strings.Lines(string(f.output())) {
		switch {
		case strings.Contains(line, "management API call failed"), strings.Contains(line, "Unable to get queues"): // the private RabbitMQ has no management plugin
		case strings.Contains(line, "Pool restarts not enabled"), strings.Contains(line, "Autoscale not enabled"),
			strings.Contains(line, "not supported with autoscale"): // as asked for
		case strings.HasPrefix(line, "[E "), strings.HasPrefix(line, "Traceback"), strings.Contains(line, "rror"),
			strings.Contains(line, "Substantial drift"):
			f.t.Errorf("Flower says: %s", line)
		}
	}
}

// TestFlowerShowsANode: workers page, worker page with all its tabs, tasks, a task of every kind, broker page,
// metrics and API, of a node started without -E beside a Python one.
func TestFlowerShowsANode(t *testing.T) {
	onMonitored(t, []string{"flower"}, func(t *testing.T, s setup) {
		queue, other := unique("flower"), unique("flower")
		w, neighbour := s.watched(t, queue), s.startNeighbour(t, other, "-E")
		w.waitReady()
		f := s.startFlower(t)
		neighbour.waitReady()
		node := w.name + "@test"
		p := s.python(t, queue)
		f.showsEvents(p)
		before := f.row(node)
		if before == nil || !before.Status {
			t.Fatalf("Flower shows the node as %+v", before)
		}

		var ids struct{ Add, Fail, Retry, Echo, Sleep string }
		if err := json.Unmarshal(p.run(`
			from celery.exceptions import TimeoutError
			sums = [add.apply_async((i, 3), queue=Q) for i in range(7)]
			assert [r.get(timeout=60) for r in sums] == list(range(3, 10))
			bad = [fail.apply_async(("no <b>luck</b>", "KeyError"), queue=Q) for _ in range(2)]
			for r in bad:
			    r.get(timeout=60, propagate=False)
			# At once, Python's own events would be in the order of a race: RETRY could be the last that Flower hears.
			again = retry.apply_async((1,), {"countdown": 1}, queue=Q)
			assert again.get(timeout=60) == 1
			said = echo.apply_async(("it's", None, True, 1.5), {"who": "Zoë", "deep": {"a": [1]}}, queue=Q)
			said.get(timeout=60)
			total.apply_async(([1, 2],), queue=OTHER).get(timeout=60)
			nap = sleep.apply_async((600,), queue=Q)
			value = {"Add": sums[4].id, "Fail": bad[0].id, "Retry": again.id, "Echo": said.id, "Sleep": nap.id}
		`, map[string]any{"OTHER": other}), &ids); err != nil {
			t.Fatal(err)
		}

		t.Run("workers", func(t *testing.T) {
			want := *before
			want.Processed, want.Succeeded, want.Failed = before.Processed+13, before.Succeeded+9, before.Failed+2
			want.Retried, want.Active = before.Retried+1, 1
			var got flowerWorker
			f.until("right counts", func() bool {
				got = *f.row(node)
				want.Load = got.Load
				return fmt.Sprint(got) == fmt.Sprint(want) || t.Context().Err() != nil
			})
			if len(got.Load) != 3 || got.Load[0] < 0 || got.Load[0] > 1000 {
				t.Errorf("load = %v", got.Load)
			}
			f.until("the Python neighbour", func() bool {
				got := f.row(neighbour.name + "@test")
				return got != nil && got.Status && got.Succeeded == 1 && got.Software == "py-celery"
			})
			if page := f.page("/workers"); !strings.Contains(page, node) {
				t.Errorf("the workers page does not name %s:\n%s", node, page)
			}
		})
		t.Run("worker", func(t *testing.T) {
			page := f.page("/worker/" + url.PathEscape(node))
			for _, part := range []string{
				`id="tab-pool"`, `id="tab-broker"`, `id="tab-queues"`, `id="tab-tasks"`, `id="tab-limits"`, `id="tab-config"`,
				`id="tab-system"`, `id="tab-other"`, `id="worker-cancel-consumer-` + queue + `"`, `id="task-rate-limit-demo.add"`,
				fmt.Sprintf("<td>%d</td>", w.cmd.Process.Pid), ids.Sleep, "broker_url", "utime", "uptime", "Max concurrency",
			} {
				if !strings.Contains(page, part) && !(part == "broker_url" && strings.Contains(page, "CELERY_BROKER_URL")) {
					t.Errorf("the worker page has no %s", part)
				}
			}
		})
		t.Run("tasks", func(t *testing.T) {
			var tasks map[string]flowerTask
			if !f.json("/api/tasks?limit=100&workername="+url.QueryEscape(node), &tasks) {
				t.Fatal("no /api/tasks")
			}
			for id, state := range map[string]string{
				ids.Add: "SUCCESS", ids.Fail: "FAILURE", ids.Retry: "SUCCESS", ids.Echo: "SUCCESS", ids.Sleep: "STARTED",
			} {
				if got := tasks[id]; got.State != state || got.Worker != node {
					t.Errorf("task %s = %+v, want %s on %s", id, got, state, node)
				}
			}
			f.page("/tasks")
		})
		t.Run("task", func(t *testing.T) {
			sum := f.task(ids.Add, "SUCCESS")
			if sum.Name != "demo.add" || sum.Args != "(4, 3)" || sum.Kwargs != "{}" || sum.Result != "7" || sum.Runtime == nil ||
				*sum.Runtime < 0 || *sum.Runtime > 30 || sum.Worker != node || sum.Root != ids.Add ||
				sum.Received == 0 || sum.Started < sum.Received-0.001 || sum.Succeeded < sum.Started-0.001 {
				t.Errorf("add = %+v", sum)
			}
			bad := f.task(ids.Fail, "FAILURE")
			if bad.Args != "('no <b>luck</b>', 'KeyError')" || bad.Exception != "KeyError('no <b>luck</b>')" || bad.Failed == 0 ||
				!strings.HasPrefix(bad.Traceback, "Traceback (most recent call last):\n") || bad.Worker != node {
				t.Errorf("fail = %+v", bad)
			}
			if again := f.task(ids.Retry, "SUCCESS"); again.Retries != 1 || again.Result != "1" {
				t.Errorf("retry = %+v", again)
			}
			said := f.task(ids.Echo, "SUCCESS")
			if said.Args != `('it\'s', None, True, 1.5)` || said.Kwargs != "{'who': 'Zoë', 'deep': {'a': [1]}}" ||
				said.Result != `{'args': ['it\'s', None, True, 1.5], 'kwargs': {'who': 'Zoë', 'deep': {'a': [...]}}}` { // so deep does Celery look
				t.Errorf("echo = %+v", said)
			}
			for _, id := range []string{ids.Add, ids.Fail, ids.Retry, ids.Echo, ids.Sleep} {
				f.page("/task/" + id)
			}
		})
		t.Run("metrics", func(t *testing.T) {
			metrics := f.page("/metrics")
			for _, line := range []string{
				fmt.Sprintf(`flower_worker_online{worker="%s"} 1.0`, node),
				fmt.Sprintf(`flower_worker_number_of_currently_executing_tasks{worker="%s"} 1.0`, node),
				fmt.Sprintf(`flower_events_total{task="demo.fail",type="task-failed",worker="%s"} 2.0`, node),
				fmt.Sprintf(`flower_events_total{task="demo.retry",type="task-retried",worker="%s"} 1.0`, node),
				fmt.Sprintf(`flower_events_total{task="demo.retry",type="task-received",worker="%s"} 2.0`, node),
				fmt.Sprintf(`flower_task_runtime_seconds_count{task="demo.echo",worker="%s"} 1.0`, node),
				fmt.Sprintf(`flower_worker_prefetched_tasks{task="demo.echo",worker="%s"} 0.0`, node),
				fmt.Sprintf(`flower_task_prefetch_time_seconds{task="demo.echo",worker="%s"} 0.0`, node),
			} {
				if !strings.Contains(metrics, line+"\n") {
					t.Errorf("/metrics has no %s", line)
				}
			}
			if t.Failed() {
				t.Logf("it has:\n%s", metrics)
			}
		})
		t.Run("api", func(t *testing.T) {
			var nodes map[string]map[string]json.RawMessage
			f.until("both nodes in /api/workers", func() bool { // the Python one may be slow to answer
				nodes = nil
				if !f.json("/api/workers?refresh=1", &nodes) {
					t.Fatal("no /api/workers")
				}
				for _, name := range []string{node, neighbour.name + "@test"} {
					for _, key := range []string{"stats", "active_queues", "registered", "conf"} {
						if nodes[name][key] == nil {
							return false
						}
					}
				}
				return true
			})
			f.until("every answer of the node in /api/workers", func() bool { // two seconds are short on a busy machine
				nodes = nil
				if !f.json("/api/workers?refresh=1&workername="+url.QueryEscape(node), &nodes) {
					t.Fatal("no /api/workers of the node")
				}
				for _, key := range []string{"stats", "active_queues", "registered", "scheduled", "active", "reserved", "revoked", "conf"} {
					if nodes[node][key] == nil {
						return false
					}
				}
				return true
			})
			// Flower as a client: it sends a task and reads its result.
			answer, err := http.Post(f.url+"/api/task/async-apply/demo.add", "application/json",
				strings.NewReader(fmt.Sprintf(`{"args": [20, 22], "queue": %q}`, queue)))
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			var sent struct {
				ID string `json:"task-id"`
			}
			if err := json.NewDecoder(answer.Body).Decode(&sent); err != nil {
				t.Fatal(err)
			}
			f.task(sent.ID, "SUCCESS")
			var result struct{ Result any }
			if !f.json("/api/task/result/"+sent.ID, &result) || result.Result != 42.0 {
				t.Errorf("/api/task/result = %+v", result)
			}
		})
		t.Run("broker", func(t *testing.T) {
			page := f.page("/broker")
			if s.name == "redis" && (!strings.Contains(page, queue) || !strings.Contains(page, other)) {
				t.Errorf("the broker page does not show both queues:\n%s", page)
			}
		})
		p.run(`nap.revoke(terminate=True); wait(lambda: nap.state == "REVOKED")`)
		f.task(ids.Sleep, "REVOKED")
		w.stop()
		f.until("offline node", func() bool { return !f.row(node).Status })
		neighbour.unharmed()
		f.clean()
	})
}
