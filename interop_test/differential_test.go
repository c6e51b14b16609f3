package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/internal/testservers"
)

// The same canvases run on a Python worker, on Stalk, and with their tasks mixed on both; messages and their
// order, results and the keys that are left must be the same. Canvases are made from a seed
// (pyfixtures/differential/canvases.py); what may differ is written in documented.py beside it.
//
//	STALK_DIFF_N     how many; 300 on Redis, 60 on RabbitMQ and 60 with other settings
//	STALK_DIFF_SEED  another seed
//	STALK_DIFF_CASE  only the canvas of this number
//
// With INTEROP_WORKER=celery Python is compared with Python.
func TestGeneratedCanvasesEndAsOnAPythonWorker(t *testing.T) {
	on(t, func(t *testing.T, s setup) {
		seed, first, n := os.Getenv("STALK_DIFF_SEED"), 0, number(t, "STALK_DIFF_N", 300)
		if s.name != "redis" && os.Getenv("STALK_DIFF_N") == "" {
			n /= 5
		}
		if seed == "" {
			seed = "1"
		}
		if os.Getenv("STALK_DIFF_CASE") != "" {
			first, n = number(t, "STALK_DIFF_CASE", 0), 1
		}
		p := s.differential(t)
		p.args["SEED"] = seed
		var sum differential
		const batch = 100 // each fits into the time that one call may take
		for from := first; from < first+n; from += batch {
			sum.add(t, p.run(`value = comparison.generated(SEED, range(FROM, TO), 60, PROMISE)`,
				map[string]any{"FROM": from, "TO": min(from+batch, first+n), "PROMISE": os.Getenv("INTEROP_WORKER") == ""}), func(number string) string {
				return "STALK_DIFF_SEED=" + seed + " STALK_DIFF_CASE=" + number
			})
		}
		t.Logf("%d canvases on each side, %d messages; %d runs in which Stalk told somebody whom Celery leaves waiting; %d canvases refused by the client; %.1f s",
			sum.Cases, sum.Messages, sum.Further, sum.Refused, sum.Seconds)
		if n >= 50 && (sum.Messages < 3*n || sum.Refused > n/10 || s.name == "redis" && sum.Further == 0 && !celeryInstead) {
			t.Error("these canvases test nothing; is the generator broken?")
		}
	}, onRedis, onRabbitMQ, otherSettings)
}

// otherSettings is Redis with the settings that change what a worker publishes and stores. Not among them:
// task_inherit_parent_priority, with which it is timing that decides the priority of a chord's body.
func otherSettings() setup {
	s := onRedis()
	s.name = "settings"
	for name, value := range map[string]any{
		"result_extended": true, "task_allow_error_cb_on_chord_header": true,
		"task_store_errors_even_if_ignored": true, "task_track_started": true,
	} {
		s = s.with(name, value)
	}
	return s
}

// What Stalk does otherwise than Celery it does on purpose: a list of canvases with what each of the two does.
func TestWhereStalkDiffersFromCeleryIsWrittenDown(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		if celeryInstead {
			t.Skip("nothing differs between Celery and Celery")
		}
		var sum differential
		sum.add(t, s.differential(t).run(`value = comparison.documented(60)`), func(string) string { return "see documented.py" })
	})
}

// differential is what one call of the comparison answers.
type differential struct {
	Cases, Messages, Refused, Further int
	Seconds                           float64
	Unfinished                        []string
	Differences                       []struct {
		Side   string
		Number json.RawMessage
		Canvas string
		Args   json.RawMessage
		Lines  []string
	}
}

// add reports every difference, with how to see it again.
func (d *differential) add(t *testing.T, answer json.RawMessage, again func(number string) string) {
	t.Helper()
	var one differential
	if err := json.NewDecoder(bytes.NewReader(answer)).Decode(&one); err != nil {
		t.Fatal(err)
	}
	if len(one.Unfinished) > 0 {
		t.Errorf("%d tasks have not ended (python, stalk or mixed, and number of the canvas): %v", len(one.Unfinished), one.Unfinished[:min(len(one.Unfinished), 20)])
	}
	for _, x := range one.Differences {
		const most = 12
		more := ""
		if len(x.Lines) > most {
			more = fmt.Sprintf("\n    and %d more", len(x.Lines)-most)
			x.Lines = x.Lines[:most]
		}
		t.Errorf("%s differs from python (%s):\n  %s called with %s\n    %s%s",
			x.Side, again(string(x.Number)), x.Canvas, x.Args, strings.Join(x.Lines, "\n    "), more)
	}
	d.Cases += one.Cases
	d.Messages += one.Messages
	d.Refused += one.Refused
	d.Further += one.Further
	d.Seconds += one.Seconds
}

// differential starts a Redis of its own, whose keys are all ours, and both workers; in the session that it
// returns, comparison is ready.
func (s setup) differential(t *testing.T) *session {
	since(t, 7, "canvases leave the messages and keys that they leave here")
	server := testservers.Redis(t)
	s.backend = server.URL
	exchange, python, stalk := "", unique("diffpy"), unique("diffgo")
	if s.name == "rabbitmq" {
		// One topic exchange for all, which a recorder can bind to.
		exchange = unique("diff")
		queues := map[string]any{}
		for _, q := range []string{python, stalk} {
			queues[q] = map[string]any{"exchange": exchange, "exchange_type": "topic", "routing_key": q}
		}
		s = s.with("task_queues", queues)
	} else {
		s.broker = server.URL
	}
	p := s.python(t, "")
	p.run(`
		import sys
		if FIXTURES not in sys.path:
		    sys.path.insert(0, FIXTURES)
		from differential.compare import Comparison
		comparison = Comparison(BROKER, BACKEND, PYTHON, STALK, SETTINGS, EXCHANGE)
	`, map[string]any{
		"FIXTURES": filepath.Join(root, "pyfixtures"), "BROKER": s.broker, "BACKEND": s.backend, "PYTHON": python, "STALK": stalk,
		"SETTINGS": s.settings, "EXCHANGE": exchange,
	})
	t.Cleanup(func() { p.run(`comparison.close()`) }) // after the workers have ended: it deletes their queues
	// What names no queue goes to that of the worker that sends it on.
	s.with("task_default_queue", python).pythonCanvases(t, python)
	if onStalk := s.with("task_default_queue", stalk); celeryInstead {
		onStalk.pythonCanvases(t, stalk)
	} else {
		onStalk.stalk(t, stalk)
	}
	return p
}

// pythonCanvases starts a Python worker that serves the demo tasks of pyfixtures/differential. It runs one
// task at a time: what it does is then always the same.
func (s setup) pythonCanvases(t *testing.T, queue string) {
	name := unique("celery")
	cmd := exec.Command(python, "-m", "celery", "-A", "differential.tasks", "worker", "-Q", queue, "-n", name+"@test", "-l", "INFO",
		"-P", "solo", "--without-mingle", "--without-gossip", "--without-heartbeat")
	cmd.Dir = filepath.Join(root, "pyfixtures")
	cmd.Env = s.environment("C_FORCE_ROOT=1")
	startWorker(t, cmd, name).waitReady()
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s is %q, want a number", name, text)
	}
	return n
}
