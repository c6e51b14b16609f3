package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/worker"
)

// fake is a worker with figures to recognise.
type fake struct {
	stats  worker.Stats
	tasks  []worker.TaskStats
	queues []string
	ask    func(ctx context.Context, name string) (transports.QueueSize, error)
}

func (f *fake) Stats() worker.Stats           { return f.stats }
func (f *fake) TaskStats() []worker.TaskStats { return f.tasks }
func (f *fake) SentStats() []worker.SentStats {
	return []worker.SentStats{{Name: "app.next", Queue: "py", Count: 3}}
}
func (f *fake) Ready() error     { return nil }
func (f *fake) Node() string     { return "celery@host.example" }
func (f *fake) Queues() []string { return f.queues }
func (f *fake) QueueSize(ctx context.Context, name string) (transports.QueueSize, error) {
	return f.ask(ctx, name)
}

var bounds = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300, 600, 1800,
}

// of is a histogram of the given times.
func of(seconds ...float64) worker.Histogram {
	h := worker.Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds)+1)}
	for _, s := range seconds {
		i := 0
		for i < len(bounds) && s > bounds[i] {
			i++
		}
		h.Counts[i]++
		h.Sum += s
	}
	return h
}

func busy() *fake {
	sizes := map[string]transports.QueueSize{"celery": {Ready: 7, Consumers: 3}, "celery.quarantine": {Ready: 2}, `odd"\`: {Ready: 1, Consumers: -1}}
	return &fake{
		queues: []string{"celery", `odd"\`, "missing"},
		stats:  worker.Stats{Received: 10, Active: 2, Slots: 4, InUse: 2, Connected: true, Oldest: 1500 * time.Millisecond, Window: 16, Effects: 16, Redelivered: 1},
		tasks: []worker.TaskStats{
			{
				Name: "app.add", Queue: "celery", Received: 9, Started: 8, Succeeded: 4, Failed: 3, Retried: 1, Rejected: 1, Revoked: 1,
				Exceptions: map[string]int64{"ValueError": 2, "Reject": 1}, Outcomes: map[string]int64{"succeeded": 4, "failed": 2, "rejected": 1, "cut": 0},
				Runtime: of(.0002, .005, .006, 20), OtherRuns: of(1), Wait: of(.001), QueueWait: of(.01, 59, 9999), Settle: of(.001),
			},
			{Name: "line\nbreak\xff", Queue: `odd"\`, Received: 1},
		},
		ask: func(_ context.Context, name string) (transports.QueueSize, error) {
			if s, ok := sizes[name]; ok {
				return s, nil
			}
			return transports.QueueSize{}, fmt.Errorf("no %s: %w", name, transports.ErrNoQueue)
		},
	}
}

func scrape(t *testing.T, e *Exporter) string {
	t.Helper()
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

// parsed reads the text as Prometheus does.
func parsed(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return families
}

func TestScrapeIsWhatPrometheusReads(t *testing.T) {
	text := scrape(t, newExporter(busy(), "1.2.3"))
	families := parsed(t, text)
	if len(families) < 40 {
		t.Errorf("only %d families", len(families))
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		// The names of celery-exporter are not ours to mend.
		if strings.HasPrefix(p.Metric, "celery_active_") && strings.Contains(p.Text, `"_count"`) {
			continue
		}
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, want := range []string{
		`celery_task_sent_total{name="app.next",hostname="host.example",queue_name="py"} 3`,
		`celery_task_received_total{name="app.add",hostname="host.example",queue_name="celery"} 9`,
		`celery_task_received_total{name="line\nbreak�",hostname="host.example",queue_name="odd\"\\"} 1`,
		`celery_task_failed_total{name="app.add",hostname="host.example",exception="",queue_name="celery"} 0`,
		`celery_task_failed_total{name="app.add",hostname="host.example",exception="ValueError",queue_name="celery"} 2`,
		`celery_task_runtime_bucket{name="app.add",hostname="host.example",queue_name="celery",le="0.005"} 2`,
		`celery_task_runtime_bucket{name="app.add",hostname="host.example",queue_name="celery",le="0.01"} 3`,
		`celery_task_runtime_bucket{name="app.add",hostname="host.example",queue_name="celery",le="10.0"} 3`,
		`celery_task_runtime_bucket{name="app.add",hostname="host.example",queue_name="celery",le="+Inf"} 4`,
		`celery_task_runtime_sum{name="app.add",hostname="host.example",queue_name="celery"} 20.0112`,
		`celery_task_runtime_count{name="app.add",hostname="host.example",queue_name="celery"} 4`,
		`celery_task_queue_wait_time_bucket{name="app.add",hostname="host.example",queue_name="celery",le="0.05"} 1`,
		`celery_task_queue_wait_time_bucket{name="app.add",hostname="host.example",queue_name="celery",le="60.0"} 2`,
		`celery_task_queue_wait_time_bucket{name="app.add",hostname="host.example",queue_name="celery",le="+Inf"} 3`,
		`celery_worker_up{hostname="host.example"} 1`,
		`celery_worker_tasks_active{hostname="host.example"} 2`,
		`celery_queue_length{queue_name="celery"} 7`,
		`celery_active_consumer_count{queue_name="celery"} 3`,
		`celery_active_worker_count{queue_name="missing"} 1`,
		`celery_active_process_count{queue_name="celery"} 4`,
		`stalk_info{node="celery@host.example",version="1.2.3"`,
		`stalk_lease_age_seconds 1.5`,
		`stalk_redeliveries_total 1`,
		`stalk_task_run_seconds_count{name="app.add",queue_name="celery"} 5`,
		`stalk_quarantine_messages{queue_name="celery"} 2`,
		`stalk_quarantine_messages{queue_name="odd\"\\"} 0`,
		`stalk_task_ended_total{name="app.add",queue_name="celery",outcome="rejected"} 1`,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %s", want)
		}
	}
	for _, no := range []string{`celery_queue_length{queue_name="missing"`, `celery_active_consumer_count{queue_name="odd`, `outcome="cut"`} {
		if strings.Contains(text, no) {
			t.Errorf("unexpected %s", no)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestExporterNamesAndLabels: the families, kinds and labels of celery-exporter 0.12's exporter.py.
func TestExporterNamesAndLabels(t *testing.T) {
	families := parsed(t, scrape(t, newExporter(busy(), "")))
	task := "name hostname queue_name"
	for name, want := range map[string]struct {
		kind   dto.MetricType
		labels string
	}{
		"celery_task_sent_total":       {dto.MetricType_COUNTER, task},
		"celery_task_received_total":   {dto.MetricType_COUNTER, task},
		"celery_task_started_total":    {dto.MetricType_COUNTER, task},
		"celery_task_succeeded_total":  {dto.MetricType_COUNTER, task},
		"celery_task_failed_total":     {dto.MetricType_COUNTER, "name hostname exception queue_name"},
		"celery_task_rejected_total":   {dto.MetricType_COUNTER, task},
		"celery_task_revoked_total":    {dto.MetricType_COUNTER, task},
		"celery_task_retried_total":    {dto.MetricType_COUNTER, task},
		"celery_task_runtime":          {dto.MetricType_HISTOGRAM, task},
		"celery_task_queue_wait_time":  {dto.MetricType_HISTOGRAM, task},
		"celery_worker_up":             {dto.MetricType_GAUGE, "hostname"},
		"celery_worker_tasks_active":   {dto.MetricType_GAUGE, "hostname"},
		"celery_queue_length":          {dto.MetricType_GAUGE, "queue_name"},
		"celery_active_consumer_count": {dto.MetricType_GAUGE, "queue_name"},
		"celery_active_worker_count":   {dto.MetricType_GAUGE, "queue_name"},
		"celery_active_process_count":  {dto.MetricType_GAUGE, "queue_name"},
	} {
		f := families[name]
		if f == nil || f.GetType() != want.kind {
			t.Errorf("%s: %v, want a %s", name, f.GetType(), want.kind)
			continue
		}
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName())
			}
			if got := strings.Join(labels, " "); got != want.labels {
				t.Errorf("%s has labels %s, want %s", name, got, want.labels)
			}
		}
	}
	runtime, wait := families["celery_task_runtime"].Metric[0].Histogram, families["celery_task_queue_wait_time"].Metric[0].Histogram
	if len(runtime.Bucket) != len(exporterRuntime)+1 || len(wait.Bucket) != len(exporterWait)+1 {
		t.Errorf("%d and %d buckets, want %d and %d", len(runtime.Bucket), len(wait.Bucket), len(exporterRuntime)+1, len(exporterWait)+1)
	}
}

func TestScrapeSaysNothingItDoesNotKnow(t *testing.T) {
	f := busy()
	f.ask = func(context.Context, string) (transports.QueueSize, error) {
		return transports.QueueSize{}, errors.ErrUnsupported
	}
	text := scrape(t, newExporter(f, ""))
	for _, no := range []string{"celery_queue_length{", "stalk_queue_messages{", "stalk_quarantine_messages{", "stalk_queue_sizes_age_seconds"} {
		if strings.Contains(text, no) {
			t.Errorf("%s without an answer from the broker", no)
		}
	}
}

func TestHungBrokerDoesNotHoldTheScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		hang := make(chan struct{})
		f := busy()
		answer := f.ask
		f.ask = func(ctx context.Context, name string) (transports.QueueSize, error) {
			asked.Add(1)
			select {
			case <-hang:
				return answer(ctx, name)
			case <-ctx.Done():
				return transports.QueueSize{}, ctx.Err()
			}
		}
		e := newExporter(f, "")
		began := time.Now()
		for range 3 {
			if text := scrape(t, e); strings.Contains(text, "celery_queue_length{") || !strings.Contains(text, "stalk_ready 1") {
				t.Error("a scrape of a hung broker")
			}
		}
		if took := time.Since(began); took > 3*sizesPatience {
			t.Errorf("three scrapes took %v", took)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("the hung broker was asked %d times, want once", n)
		}
		close(hang)
		synctest.Wait()
		if text := scrape(t, e); !strings.Contains(text, `celery_queue_length{queue_name="celery"} 7`) {
			t.Error("no queue length once the broker answers")
		}
		before := asked.Load()
		scrape(t, e)
		if n := asked.Load(); n != before {
			t.Errorf("fresh sizes were asked for again, %d times", n-before)
		}
		// Away for long: what was seen is shown for a while, then no more.
		f.stats.Connected = false
		time.Sleep(time.Minute)
		if text := scrape(t, e); !strings.Contains(text, "celery_queue_length{") || !strings.Contains(text, "stalk_queue_sizes_age_seconds 60\n") {
			t.Error("no queue length from a minute ago")
		}
		time.Sleep(2 * time.Minute)
		if text := scrape(t, e); strings.Contains(text, "celery_queue_length{") {
			t.Error("a queue length from three minutes ago")
		}
		f.stats.Connected = true
		hang = make(chan struct{})
		go e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
		synctest.Wait()
		began = time.Now()
		e.Close() // ends the look under way
		if took := time.Since(began); took > 0 {
			t.Errorf("Close took %v", took)
		}
		before = asked.Load()
		scrape(t, e)
		if n := asked.Load(); n != before {
			t.Error("a look after Close")
		}
		time.Sleep(time.Second)
	})
}

func TestHeadAndOtherMethods(t *testing.T) {
	e := newExporter(busy(), "")
	defer e.Close()
	s := httptest.NewServer(e)
	defer s.Close()
	for method, want := range map[string]int{http.MethodGet: 200, http.MethodHead: 200, http.MethodPost: 405} {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close() //nolint:errcheck // it was read
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %d, %v; want %d", method, resp.StatusCode, err, want)
		}
		if want == 200 && resp.Header.Get("Content-Type") != contentType {
			t.Errorf("%s: type %q", method, resp.Header.Get("Content-Type"))
		}
		if has := len(body) > 1000; has != (method == http.MethodGet) {
			t.Errorf("%s has a body of %d bytes", method, len(body))
		}
	}
}

// FuzzLabels: no name, queue or exception breaks the text.
func FuzzLabels(f *testing.F) {
	for _, s := range []string{"a", "", "\"", "\\", "\n", "\r", "\x00", "\xff\xfe", "é\u2028", `\n"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var written bytes.Buffer
		out := newText(&written)
		out.family("x", "counter", s)
		out.sample("x", 1, label{"l", s})
		out.flush()
		p := expfmt.NewTextParser(model.UTF8Validation)
		families, err := p.TextToMetricFamilies(bytes.NewReader(written.Bytes()))
		if err != nil {
			t.Fatalf("%v\n%q", err, written.String())
		}
		want := strings.ToValidUTF8(s, "�")
		if got := families["x"].Metric[0].Label[0].GetValue(); got != want {
			t.Errorf("label %q reads as %q", want, got)
		}
	})
}

func BenchmarkScrape(b *testing.B) {
	f := busy()
	for i := range 200 {
		ts := f.tasks[0]
		ts.Name = fmt.Sprint("app.task", i)
		f.tasks = append(f.tasks, ts)
	}
	e := newExporter(f, "")
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	b.ReportAllocs()
	for b.Loop() {
		e.ServeHTTP(nowhere{}, request)
	}
}

// nowhere is a ResponseWriter that costs nothing.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}
