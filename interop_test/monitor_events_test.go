package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A monitor is a running pyfixtures/django_project/monitor.py.
type monitor struct {
	*worker
	in     io.WriteCloser
	report string
}

// startMonitor waits until it hears everything.
func (s setup) startMonitor(t *testing.T) *monitor {
	t.Helper()
	m := &monitor{report: filepath.Join(t.TempDir(), "report.json")}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m.in = out
	t.Cleanup(func() { out.Close() })
	m.worker = s.program(t, "monitor", in, nil, "monitor.py", m.report)
	in.Close()
	m.waitLog("capturing")
	return m
}

// do gives it an order and waits until it is carried out.
func (m *monitor) do(order string) {
	m.t.Helper()
	done := strings.Count(string(m.output()), "did "+order+"\n")
	if _, err := io.WriteString(m.in, order+"\n"); err != nil {
		m.t.Fatal(err)
	}
	m.waitLogs("did "+order+"\n", done+1)
}

// A report is what monitor.py has seen; its doc comment tells more.
type report struct {
	Tasks    map[string]monitoredTask
	Beats    map[string][][5]float64 // arrival, timestamp, freq, active, processed
	Kinds    map[string]int
	Troubles []string
	Seen     [][3]string // type, task, node
	Workers  map[string]struct {
		Alive     bool
		Active    int
		Processed int
		Load      []float64 `json:"loadavg"`
		Software  string
	}
	Exporter struct {
		Counts, Exceptions     map[string]int
		Up, Active, Runtime    map[string]float64
		Waits                  int
		Processes, Concurrency map[string]float64
		Queued                 map[string]float64 `json:"workers"` // workers by queue
	}
}

type monitoredTask struct {
	Name, State, Args, Kwargs, Result, Exception, Traceback, Worker, ETA, Queue string
	Runtime                                                                     *float64
	Retries                                                                     int
	Ready                                                                       bool
}

// end makes it write its report.
func (m *monitor) end() (r report) {
	m.t.Helper()
	m.in.Close()
	if code := m.wait(90 * time.Second); code != 0 {
		m.t.Fatalf("monitor.py ended with code %d:\n%s", code, tail(m.log))
	}
	b, err := os.ReadFile(m.report)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		m.t.Fatalf("%v\n%s", err, b)
	}
	for i, text := range r.Troubles {
		if i == 5 {
			m.t.Errorf("and %d more", len(r.Troubles)-i)
			break
		}
		m.t.Errorf("trouble: %s", text)
	}
	return r
}

// gone tells whether the dump says that a node has left, which is its last word on it.
func gone(node string, dump []byte) bool {
	for line := range bytes.Lines(dump) {
		if bytes.HasPrefix(line, []byte(node+" [")) && bytes.Contains(line, []byte("] shutdown: ")) {
			return true
		}
	}
	return false
}

// TestMonitorsFollowAMixedCluster: `celery events --dump`, Celery's own State and what celery-exporter does with
// events and replies, fed by the worker under test and a Python worker with everything on, for as long as
// MONITOR_SECONDS says: every task ends in its state, every heart beats in time while all slots are busy and
// hundreds of tasks run each second, and the Python worker comes to no harm.
func TestMonitorsFollowAMixedCluster(t *testing.T) {
	onMonitored(t, []string{"celery"}, func(t *testing.T, s setup) {
		// What is counted here is this test's alone; celery-exporter labels by queue when clients tell of what they send.
		s = s.with("event_exchange", unique("events")).withClient("task_send_sent_event", true)
		quick, slow, other := unique("events"), unique("events"), unique("events")
		m := s.startMonitor(t)
		dump := s.program(t, "dump", nil, nil, "-m", "celery", "-A", "project", "events", "--dump")
		dump.waitLog("starting capture")
		w, busy, neighbour := s.watched(t, quick, "-E"), s.watched(t, slow, "-E"), s.startNeighbour(t, other, "-E")
		for _, w := range []*worker{w, busy, neighbour} {
			w.waitReady()
		}
		node, busyNode := w.name+"@test", busy.name+"@test"
		nodes := map[string]string{quick: node, slow: busyNode, other: neighbour.name + "@test"}
		seconds := monitorSeconds(t)
		var fed struct {
			Began, Ended float64
			Tasks        map[string][4]string // node, state, result or exception ("" any), name
		}
		told := s.python(t, quick).runFor(2*time.Minute+time.Duration(seconds)*time.Second, `
			tasks, results, lates, began = {}, [], [], time.time()
			def put(task, state, told, queue, *args, **options):
			    r = task.apply_async(*args, queue=queue, **options)
			    tasks[r.id] = [NODES[queue], state, told, task.name]
			    results.append(r)
			    return r
			# Both slots of one node are taken, one by what uses its processor.
			put(burn, "SUCCESS", "", SLOW, (SECONDS / 2,))
			put(sleep, "SUCCESS", str(SECONDS), SLOW, (SECONDS,))
			for queue in (Q, OTHER): # which take it at once: what expires in a queue RabbitMQ drops
			    put(add, "REVOKED", "", queue, (0,), countdown=6, expires=5)
			marks = []
			round = 0
			while round == 0 or time.time() - began < SECONDS:
			    round += 1
			    last, marks = marks, []
			    for queue in (Q, Q, OTHER):
			        for i in range(20):
			            r = put(add, "SUCCESS", str(i + round), queue, (i, round))
			        marks.append(r)
			        put(echo, "SUCCESS", "{'args': ['é', None], 'kwargs': {'x': [1.5, True]}}", queue, ("é", None), {"x": [1.5, True]})
			        put(fail, "FAILURE", "ValueError('round %d')" % round, queue, ("round %d" % round,))
			        put(shelf, "FAILURE", "", queue, (9,))
			        if round % 5 == 1:
			            if queue == Q: # a busy Python worker stores and tells the RETRY after the SUCCESS of the run it caused
			                put(retry, "SUCCESS", "1", queue, (1, 1))
			            put(sleep, "SUCCESS", "0.05", queue, (0.05,), countdown=1)
			    if round % 5 == 1:
			        late = put(add, "REVOKED", "", Q, (0,), countdown=2)
			        wait(lambda: [row for row in app.control.inspect([NODES[Q]], timeout=60).scheduled()[NODES[Q]]
			                      if row["request"]["id"] == late.id] or late.ready())
			        app.control.revoke(late.id)
			        lates.append(late)
			    for r in last: # a round ahead of the workers, and no more
			        r.get(timeout=60)
			lost = app.send_task("no.such.task", queue=Q)
			tasks[lost.id] = [NODES[Q], "FAILURE", "NotRegistered('no.such.task')", "no.such.task"]
			results.append(lost)
			nap = put(progress, "REVOKED", "", Q, (600, 0.1))
			wait(lambda: nap.state == "PROGRESS", 40)
			app.control.revoke(nap.id, terminate=True)
			for r in results:
			    wait(r.ready)
			for late in lates: # a busy machine may have revoked one when it had run
			    if late.state == "SUCCESS":
			        tasks[late.id][1:3] = ["SUCCESS", "1"]
			value = {"Began": began, "Ended": time.time(), "Tasks": tasks}
		`, map[string]any{"SLOW": slow, "OTHER": other, "NODES": nodes, "SECONDS": seconds})
		if err := json.Unmarshal(told, &fed); err != nil {
			t.Fatal(err)
		}
		m.do(strings.Join([]string{"scrape", node, busyNode, neighbour.name + "@test"}, " "))
		m.do(fmt.Sprintf("ready %d", len(fed.Tasks))) // events are later than results
		busy.stop()
		m.waitLog("offline " + busyNode)
		until(t, "celery events --dump to say that the node has left", func() bool { return gone(busyNode, dump.output()) })
		r := m.end()
		dumped := map[string]bool{}
		for _, found := range regexp.MustCompile(`\] (task \w+): ([\w.]+\([\w-]+\)) `).FindAllSubmatch(dump.output(), -1) {
			dumped[string(found[1])+" "+string(found[2])] = true
		}

		t.Logf("%d tasks, %d events in %.0f s", len(fed.Tasks), len(r.Seen), fed.Ended-fed.Began)
		if os.Getenv("MONITOR_SECONDS") != "" && len(fed.Tasks) < 20*seconds {
			t.Errorf("only %d tasks ran in %d s", len(fed.Tasks), seconds)
		}
		said := map[string]string{"SUCCESS": "task succeeded ", "FAILURE": "task failed ", "REVOKED": "task revoked "}
		wrong, counts, exceptions := 0, map[string]int{}, map[string]int{}
		for id, want := range fed.Tasks {
			got := r.Tasks[id]
			right := got.Worker == want[0] && got.State == want[1] && got.Name == want[3] && got.Ready
			switch want[1] {
			case "SUCCESS":
				right = right && got.Runtime != nil && *got.Runtime >= 0 && (want[2] == "" || got.Result == want[2])
				counts["task-succeeded "+want[3]]++
			case "FAILURE":
				right = right && got.Exception != "" && (want[2] == "" || got.Exception == want[2]) &&
					(want[3] == "no.such.task" || strings.HasPrefix(got.Traceback, "Traceback (most recent call last):\n"))
				class, _, _ := strings.Cut(got.Exception, "(")
				exceptions[want[3]+" "+class]++
				counts["task-failed "+want[3]]++
			case "REVOKED":
				counts["task-revoked "+want[3]]++
			}
			if !right {
				if wrong++; wrong <= 10 {
					t.Errorf("State has task %s as %+v, want %q", id, got, want)
				}
			}
			// The dump remembers the names of 4,095 tasks, and the long ones' may be forgotten.
			if line := fmt.Sprintf("%s%s(%s)", said[want[1]], want[3], id); !dumped[line] && (want[0] != busyNode || len(fed.Tasks) < 3000) {
				if wrong++; wrong <= 10 {
					t.Errorf("celery events --dump has no line with %q", line)
				}
			}
		}
		if wrong > 0 {
			t.Errorf("%d of %d tasks are shown wrongly", wrong, len(fed.Tasks))
		}

		t.Run("heartbeats", func(t *testing.T) {
			for _, name := range []string{node, busyNode} {
				beats := r.Beats[name]
				if len(beats) < 2 {
					t.Errorf("%s sent %d heartbeats", name, len(beats))
					continue
				}
				last, full := fed.Began, 0
				for _, beat := range append(slices.Clone(beats), [5]float64{0, fed.Ended, 2, 0, 0}) {
					if at := beat[1]; at > last {
						if at-last >= 10 { // Celery misses it after 4, and a busy machine is late
							t.Errorf("%s is silent for %.1f s", name, at-last)
						}
						last = at
					}
					// A monitor that starts asks for one, and is answered without numbers and with another rhythm.
					if asked := beat[2] == 5 && beat[3] == 0 && beat[4] == 0; !asked && (beat[3] > 2 || beat[2] != 2) {
						t.Errorf("a heartbeat of %s is %v", name, beat)
					}
					if beat[3] == 2 {
						full++
					}
				}
				if name == busyNode && full < seconds/6 {
					t.Errorf("%d of its %d heartbeats say that both slots are taken", full, len(beats))
				}
			}
			if online := r.Workers[node]; !online.Alive || len(online.Load) != 3 || online.Processed == 0 {
				t.Errorf("State has the node as %+v", online)
			}
			if r.Workers[busyNode].Alive || r.Kinds[busyNode+" worker-offline"] != 1 || r.Kinds[busyNode+" worker-online"] != 1 {
				t.Errorf("the node that has stopped is %+v, events %v", r.Workers[busyNode], r.Kinds)
			}
		})
		t.Run("exporter", func(t *testing.T) {
			for key, want := range counts {
				if got := r.Exporter.Counts[key]; got != want {
					t.Errorf("%s: %d, want %d", key, got, want)
				}
			}
			for key, want := range exceptions {
				if got := r.Exporter.Exceptions[key]; got != want || strings.HasSuffix(key, " ") {
					t.Errorf("exception label %q: %d, want %d", key, got, want)
				}
			}
			for key, n := range r.Exporter.Exceptions {
				if exceptions[key] == 0 {
					t.Errorf("exception label %q: %d", key, n)
				}
			}
			for queue, name := range nodes {
				if r.Exporter.Processes[queue] != 2 || r.Exporter.Queued[queue] != 1 || r.Exporter.Concurrency[name] != 2 {
					t.Errorf("%s of %s: %+v", queue, name, r.Exporter)
				}
				if total, ok := r.Exporter.Runtime["demo.add test "+queue]; queue != slow && (!ok || total <= 0) {
					t.Errorf("runtime of demo.add in %s = %v, %v", queue, total, ok)
				}
			}
			if r.Exporter.Waits == 0 {
				t.Error("no time in the queue was observed")
			}
		})
		w.stop()
		neighbour.unharmed()
		dump.signal(syscall.SIGINT)
		dump.wait(20 * time.Second)
	})
}
