package interop_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLogLinesAreThoseOfAPythonWorker: the same tasks and orders, in turn, to a Python worker and to Stalk, leave the
// same lines in both logs, but for names, ids and times.
func TestLogLinesAreThoseOfAPythonWorker(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		// Orders go to all: each broker has a namespace of its own here.
		s = s.with("control_exchange", unique("log")).with("task_acks_late", true)
		scenario := func(start func(queue string) *worker) []string {
			queue := unique("log")
			w := start(queue)
			p, node := s.python(t, queue), map[string]any{"NODE": w.name + "@test"}
			p.run(`
				def over(r, seconds=60):
					wait(lambda: r.state in ("SUCCESS", "FAILURE", "REVOKED"), seconds)
					time.sleep(0.1) # the line after it
				def ask(name, **args):
					return app.control.broadcast(name, args, destination=[NODE], reply=True, timeout=60, limit=1)
				over(add.apply_async((2, 3), queue=Q))
				over(fail.apply_async(("boom",), queue=Q))
				over(echo.apply_async(("text", None, True, 1.5, [1], {"a": 'it\'s'}), queue=Q))
				over(echo.apply_async(("x" * 3000,), queue=Q))
				over(retry.apply_async(kwargs={"times": 1, "countdown": 0}, queue=Q))
				over(retry.apply_async(kwargs={"times": 1, "countdown": 1}, queue=Q))
				over(add.apply_async((1,), queue=Q, expires=datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=9)))
				ids = ["00000000-0000-0000-0000-00000000000%d" % i for i in range(2)]
				ask("revoke", task_id=ids)
				for i in ids:
					over(add.apply_async((1,), queue=Q, task_id=i))
				over(app.send_task("no.such", queue=Q))
				over(sleep.apply_async((30,), queue=Q, soft_time_limit=1))
				over(add.apply_async((2, 3), queue=Q, shadow="other.name"))
				ask("rate_limit", task_name="demo.echo", rate_limit="100/s")
				ask("rate_limit", task_name="demo.echo", rate_limit=0)
				ask("time_limit", task_name="demo.echo", soft=5, hard=9)
				ask("add_consumer", queue=Q + "-more")
			`, node)
			w.waitLog("Started consuming from")
			p.run(`
				ask("cancel_consumer", queue=Q + "-more")
			`, node)
			w.waitLog("Canceling queue")
			p.run(`
				ask("ping")
				ask("no_such_command")
				app.control.broadcast("shutdown", destination=[NODE])
			`, node)
			if code := w.wait(90 * time.Second); code != 0 {
				t.Errorf("%s ended with code %d", w.name, code)
			}
			return normalised(string(w.output()), w.name, queue)
		}
		python := scenario(func(queue string) *worker { return s.celery(t, queue, "-P", "prefork", "-c", "1") })
		if !celeryHas(t, 7) {
			python = logBefore57(python)
		}
		ours := scenario(func(queue string) *worker { return s.stalk(t, queue, "-c", "1", "--without-mingle") })
		if d := cmp.Diff(python, ours); d != "" {
			t.Errorf("lines (-python +stalk):\n%s", d)
		}
	})
}

var (
	logLine   = regexp.MustCompile(`(?m)^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: (\w+)/(?:MainProcess|ForkPoolWorker-1)\] (.*)$`)
	aTaskID   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	aDuration = regexp.MustCompile(`succeeded in [0-9.e-]+s`)
)

// normalised are the first lines of what a worker logged, without what differs from run to run: those about one task
// stand together and in order of their text, for a retry may be received before the line that tells of it.
func normalised(log, name, queue string) []string {
	groups, order := map[string][]string{}, []string{}
	for i, m := range logLine.FindAllStringSubmatch(log, -1) {
		if strings.HasPrefix(m[2], "missed heartbeat from") { // of a neighbour, at any time
			continue
		}
		text := strings.NewReplacer(name, "NODE", queue, "QUEUE").Replace(m[2])
		key := aTaskID.FindString(text)
		if key == "" || strings.HasPrefix(text, "Tasks flagged") {
			key = strconv.Itoa(i)
		}
		text = aTaskID.ReplaceAllString(text, "ID")
		text = aDuration.ReplaceAllString(text, "succeeded in Ns")
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], m[1]+" "+text)
	}
	var lines []string
	for _, key := range order {
		lines = append(lines, slices.Sorted(slices.Values(groups[key]))...)
	}
	return lines
}
