package command

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/dial"
	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/transports"
)

// output is a writer that can be read while it is written to.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// wait polls until the output matches and returns the match.
func (o *output) wait(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if m := re.FindStringSubmatch(o.String()); m != nil {
			return m
		}
	}
	t.Fatalf("no %q in:\n%s", pattern, o)
	return nil
}

func hello(_ context.Context, in struct {
	Name string `json:"name"`
},
) (string, error) {
	return "hello " + in.Name, nil
}

func TestRefusalsSayWhatToChange(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name string
		env  []string
		args string
		want string
	}{
		{"no task", nil, "worker -b redis://", "add --demo or --media-root"},
		{"no broker", nil, "worker --demo", "give -b URL, CELERY_BROKER_URL, or broker_url"},
		{"unknown command", nil, "wrker", `no such command: "wrker"`},
		{"unknown command below quarantine", nil, "quarantine lits", `no such command: "lits"; stalk quarantine --help`},
		{"unknown command below list", nil, "list bindigns", `no such command: "bindigns"; stalk list --help`},
		{"unknown flag", nil, "worker --quues x", "flag provided but not defined: -quues"},
		{"an argument", nil, "worker x", `takes no arguments but key=value settings, got "x"`},
		{"an override of nothing", nil, "worker worker_concurency=2", `did you mean "worker_concurrency"?`},
		{"an override of the wrong type", nil, "worker --demo -b redis:// worker_prefetch_multiplier=many", "command line: worker_prefetch_multiplier is many, want a whole number"},
		{"an override with a cast that fails", nil, "worker --demo -b redis:// task_routes=(dict)x", "task_routes=(dict)x: invalid character"},
		{"a pool that Celery refuses too", nil, "worker --demo -b redis:// -P fibers", `--pool "fibers": want prefork, eventlet`},
		{"a boolean variable of the wrong type", []string{"CELERY_WORKER_TASK_EVENTS=maybe"}, "worker --demo -b redis://", `CELERY_WORKER_TASK_EVENTS="maybe": want true or false`},
		{"a number of the wrong type", []string{"CELERY_WORKER_PREFETCH_MULTIPLIER=x"}, "worker --demo -b redis://", `CELERY_WORKER_PREFETCH_MULTIPLIER="x"`},
		{"a concurrency of the wrong type", []string{"CELERY_WORKER_CONCURRENCY=many"}, "worker --demo -b redis://", `-c "many": want a number`},
		{"a level from the environment", []string{"CELERY_WORKER_LOGLEVEL=loud"}, "worker --demo -b redis://", `-l "loud": want DEBUG`},
		{"a limit of the wrong type", []string{"CELERY_WORKER_REVOKES_MAX=many"}, "worker --demo -b redis://", `invalid value for CELERY_WORKER_REVOKES_MAX: expected int, got "many"`},
		{"a lifetime of the wrong type", []string{"CELERY_WORKER_SUCCESSFUL_EXPIRES=soon"}, "worker --demo -b redis://", `invalid value for CELERY_WORKER_SUCCESSFUL_EXPIRES: expected float, got "soon"`},
		{"a lifetime that ends before it begins", []string{"CELERY_WORKER_REVOKE_EXPIRES=-1"}, "worker --demo -b redis://", "want seconds, 0 or more"},
		{"room for no success", []string{"CELERY_WORKER_SUCCESSFUL_MAX=0"}, "worker --demo -b redis://", "want 1 to 10000000"},
		{"the state db of a Python worker", nil, "worker --demo -b redis:// -S " + file("shelve", "SQLite format 3\x00"), "the state db of a Python worker"},
		{"a state file nobody can name", nil, "worker --demo -b redis:// -S /tmp/%q.state", "--statedb: unknown format %q"},
		{"an autoscaler that shrinks too fast", []string{"AUTOSCALE_KEEPALIVE=0"}, "worker --demo -b redis:// --autoscale 3", "AUTOSCALE_KEEPALIVE: want seconds, more than 0"},
		{"too many numbers", nil, "worker --demo -b redis:// --autoscale 1,2,3", "expected two comma separated integers or one integer, got 3"},
		{"a rate nobody can keep", []string{"CELERY_TASK_DEFAULT_RATE_LIMIT=5/y"}, "worker --demo -b redis://", `task_default_rate_limit: handlers: rate "5/y": unknown unit "y"`},
		{"a user id by a setting", []string{"CELERY_WORKER_UID=www"}, "worker --demo -b redis://", "start it as that user"},
		{"heartbeats that go back", nil, "worker --demo -b redis:// --heartbeat-interval -1", "--heartbeat-interval -1: want seconds"},
		{"unknown broker scheme", nil, "worker --demo -b sqs://", `scheme "sqs" is not one of amqp`},
		{"unknown result scheme", nil, "worker --demo -b redis:// --result-backend db+sqlite:///x", `scheme "db+sqlite" is not one of redis`},
		{"the results of Django's database", nil, "worker --demo -b redis:// --result-backend django-db", `scheme "django-db" is not one of redis`},
		{"a broker URL that cannot be", nil, "worker --demo -b redis://h/x", `database "x" is not a number`},
		{"bad concurrency", nil, "worker --demo -b redis:// -c many", `-c "many": want a number from 1, or auto`},
		{"bad grace", nil, "worker --demo -b redis:// --grace soon", `--grace "soon": want seconds`},
		{"bad level", nil, "worker --demo -b redis:// -l loud", `-l "loud": want DEBUG`},
		{"beat", nil, "worker --demo -b redis:// -B", "run celery beat as a process of its own"},
		{"a missing settings file", nil, "--config /no/such worker --demo -b redis://", "--config: open /no/such"},
		{"a misspelt setting", nil, "--config " + file("a", "broker_ulr: x") + " worker --demo", `did you mean "broker_url"?`},
		{"half of Django's spelling", nil, "--config " + file("b", "celery_result_backend: x") + " worker --demo", `write "result_backend"`},
		{"old and new names", nil, "--config " + file("f", "broker_url: x\nCELERYD_CONCURRENCY: 3") + " worker --demo", "CELERYD_CONCURRENCY                  -> worker_concurrency"},
		{"a Python module of settings", nil, "--config " + file("celeryconfig.py", "broker_url = 'redis://'\n") + " worker --demo", "a Python module cannot be read here"},
		{"a setting of the wrong type", nil, "--config " + file("c", "task_track_started: soon") + " worker --demo -b redis://", "task_track_started is soon, want true or false"},
		{"a settings file that is none", nil, "--config " + file("d", "- a\n- b") + " worker --demo -b redis://", "not a YAML mapping"},
		{"an environment of the wrong type", []string{"CELERY_TASK_TIME_LIMIT=[1]"}, "worker --demo -b redis://", "CELERY_TASK_TIME_LIMIT: task_time_limit is [1], want a number of seconds"},
		{"pickle", []string{"CELERY_RESULT_SERIALIZER=pickle"}, "worker --demo -b redis://", "pickle runs code when it is read"},
		{"results nobody could read", []string{"CELERY_RESULT_SERIALIZER=yaml", "CELERY_RESULT_ACCEPT_CONTENT=[json]"}, "worker --demo -b redis:// --result-backend redis://", "no client could read the results"},
		{"an unknown zone", []string{"CELERY_TIMEZONE=Mars/Olympus"}, "worker --demo -b redis://", `timezone "Mars/Olympus"`},
		{"an alias without a task", nil, "worker --demo -b redis:// --alias a=b", `there is no task "b"; there are: demo.add`},
		{"half an alias", nil, "worker --demo -b redis:// --alias a", "want NEW=NAME"},
		{"serving nothing", nil, "worker --demo -b redis:// --serve x.*", `--serve "x.*" names no task`},
		{"a queue that may not be made", []string{"CELERY_TASK_CREATE_MISSING_QUEUES=false"}, "worker --demo -b redis:// -Q a", "task_create_missing_queues is false"},
		{"no queue left", nil, "worker --demo -b redis:// -X celery", "no queue is left"},
		{"a media root that is missing", nil, "worker --media-root /no/such -b redis://", "--media-root"},
		{"rpc results need a broker that exists", nil, "worker --demo -b nope:// --result-backend rpc://", `scheme "nope"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), Program{}, append([]string{"stalk"}, strings.Fields(tt.args)...), process{stdout: &stdout, stderr: &stderr, environ: tt.env})
			if code != 2 || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("code %d, stderr %q; want code 2 and %q", code, stderr.String(), tt.want)
			}
		})
	}
}

// started is a demo in the background: an embedded broker and a worker.
type started struct {
	url            string
	stdout, stderr *output
	signals        chan os.Signal
	code           chan int
}

func startDemo(t *testing.T, args ...string) *started {
	t.Helper()
	s := &started{stdout: &output{}, stderr: &output{}, signals: make(chan os.Signal, 2), code: make(chan int, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		s.code <- run(ctx, Program{Handlers: []handlers.Handler{handlers.Func("hello", hello)}}, append([]string{"stalk", "demo"}, args...),
			process{stdout: s.stdout, stderr: s.stderr, signals: s.signals})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-s.code:
		case <-time.After(60 * time.Second):
			t.Error("the demo does not end")
		}
	})
	s.url = s.stdout.wait(t, `broker (redis://127\.0\.0\.1:\d+/0)`)[1]
	s.stderr.wait(t, `demo@localhost ready\.`)
	return s
}

// publish sends a task as a client would.
func publish(t *testing.T, url, queue string, task protocol.Task) {
	t.Helper()
	b, err := dial.Broker(url, dial.BrokerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := b.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m, err := task.Encode(protocol.Encoding{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Publish(t.Context(), transports.Publishing{RoutingKey: queue, Message: m}); err != nil {
		t.Fatal(err)
	}
}

// call sends a task as a client would and waits for its end.
func call(t *testing.T, url, queue string, task protocol.Task) protocol.Result {
	t.Helper()
	publish(t, url, queue, task)
	return await(t, url, task.ID, protocol.State.Ready)
}

// await waits until the task's state is one of those wanted.
func await(t *testing.T, url, id string, wanted func(protocol.State) bool) protocol.Result {
	t.Helper()
	store, err := dial.Results(url, dial.ResultOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var last protocol.State
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		r, err := store.(resultbackend.Loader).Load(t.Context(), id)
		if err == nil && wanted(r.Status) {
			return r
		}
		last = r.Status
	}
	t.Fatalf("task %s came to %q only", id, last)
	return protocol.Result{}
}

func TestDemoServesTasksWithoutAnyServer(t *testing.T) {
	s := startDemo(t)
	r := call(t, s.url, "celery", protocol.Task{ID: "one", Name: "hello", Args: []protocol.Value{"Ada"}, Kwargs: &protocol.Object{}})
	if r.Status != protocol.Success || r.Value != "hello Ada" {
		t.Errorf("result = %v %v", r.Status, r.Value)
	}
	r = call(t, s.url, "go", protocol.Task{ID: "two", Name: "demo.add", Args: []protocol.Value{int64(2), 0.5}, Kwargs: &protocol.Object{}})
	if r.Value != 2.5 {
		t.Errorf("2 + 0.5 = %v", r.Value)
	}
	for _, line := range []string{
		`\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: INFO/MainProcess\] Task hello\[one\] received\n`,
		`INFO/MainProcess\] Task hello\[one\] succeeded in [0-9.e-]+s: 'hello Ada'\n`,
	} {
		s.stderr.wait(t, line)
	}
	s.signals <- syscall.SIGTERM
	s.stdout.wait(t, "worker: Warm shutdown \\(MainProcess\\)")
	if code := <-s.code; code != 0 {
		t.Errorf("exit code %d\n%s", code, s.stderr)
	}
	s.code <- 0
}

// TestWorkerWithFlagsSettingsAndAliases runs the worker command against the demo's broker.
func TestWorkerWithFlagsSettingsAndAliases(t *testing.T) {
	s := startDemo(t)
	config := filepath.Join(t.TempDir(), "celery.yaml")
	text := "task_default_queue: mine\nresult_extended: true\ntask_track_started: true\nbeat_max_loop_interval: 5\nbroker_url: redis://never.used.invalid/0\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr output
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan int, 1)
	args := []string{
		"stalk", "-b", "redis://127.0.0.1:1/0", "worker", "--config", config, "-b", s.url, "--demo", "-c", "2", "-n", "w7@%h", "-l", "info",
		"--alias", "myapp.tasks.plus=demo.add", "--serve", "myapp.*,demo.echo", "-P", "prefork", "--max-tasks-per-child", "9",
	}
	go func() {
		end <- run(ctx, Program{}, args, process{stdout: &stdout, stderr: &stderr, environ: []string{"CELERY_RESULT_BACKEND=" + s.url}})
	}()
	stderr.wait(t, `w7@\S+ ready\.`)
	r := call(t, s.url, "mine", protocol.Task{ID: "x", Name: "myapp.tasks.plus", Args: []protocol.Value{int64(2), int64(3)}, Kwargs: &protocol.Object{}})
	if r.Value != int64(5) || r.Extended == nil || r.Extended.Name != "myapp.tasks.plus" {
		t.Errorf("result = %#v", r)
	}
	r = call(t, s.url, "mine", protocol.Task{ID: "y", Name: "demo.add", Args: []protocol.Value{int64(2), int64(3)}, Kwargs: &protocol.Object{}})
	if r.Status != protocol.Failure || r.Exception.Type != "NotRegistered" {
		t.Errorf("a task that was not selected: %v", r.Exception)
	}
	for _, want := range []string{".> transport:   " + strings.Replace(s.url, "://", "://:**@", 1), ".> mine             exchange=mine(direct) key=mine", "  . demo.echo\n", "  . myapp.tasks.plus\n", ".> concurrency: 2"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the banner lacks %q:\n%s", want, stdout.String())
		}
	}
	for _, want := range []string{"--pool has no effect", "--max-tasks-per-child has no effect", "settings without effect here: beat_max_loop_interval"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, stderr.String())
		}
	}
	cancel()
	if code := <-end; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestASecondCtrlCEndsRunningTasks(t *testing.T) {
	s := startDemo(t)
	publish(t, s.url, "celery", protocol.Task{ID: "long", Name: "demo.progress", Args: []protocol.Value{int64(2), int64(600)}, Kwargs: &protocol.Object{}})
	await(t, s.url, "long", func(s protocol.State) bool { return s == protocol.Progress }) // received is not yet running
	s.signals <- syscall.SIGTERM                                                           // ends nothing that runs, however often
	s.signals <- syscall.SIGTERM
	s.signals <- syscall.SIGINT
	s.stdout.wait(t, "Hitting Ctrl\\+C again will initiate cold shutdown")
	s.signals <- syscall.SIGINT
	s.stdout.wait(t, "Hitting Ctrl\\+C again will terminate all running tasks!")
	if code := <-s.code; code != 0 {
		t.Errorf("exit code %d, want 0: TERM was first", code)
	}
	s.code <- 0
	s.stderr.wait(t, `tasks were cut short.*demo.progress\[long\]`)
}

func TestQuitEndsRunningTasksAtOnce(t *testing.T) {
	s := startDemo(t)
	s.signals <- syscall.SIGQUIT
	s.stdout.wait(t, "Cold shutdown")
	if code := <-s.code; code != 0 {
		t.Errorf("exit code %d: nothing was running", code)
	}
	s.code <- 0
}

func TestGraceIsSecondsOrADuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "0": 0, "1": time.Second, "1.5": 1500 * time.Millisecond, "2m": 2 * time.Minute} {
		if got, err := graceful(text); err != nil || got != want {
			t.Errorf("graceful(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--help", "worker"},
		{"--version", Version},
		{"worker --help", "--media-root"},
		{"demo --help", "--port"},
		{"", "COMMANDS"},
		{"-v", "stalk version " + Version},
		{"inspect active -h", "--destination"},
		{"quarantine show --help", "stalk quarantine show [options] [ID ...]"},
		{"quarantine", "   replay  send"},
	} {
		var stdout bytes.Buffer
		if code := Run(t.Context(), nil, append([]string{"stalk"}, strings.Fields(tt.args)...), &stdout, io.Discard); code != 0 || !strings.Contains(stdout.String(), tt.want) {
			t.Errorf("stalk %s: code %d, output\n%s", tt.args, code, stdout.String())
		}
	}
}

func TestConcurrencyIsANumberOrAuto(t *testing.T) {
	for text, want := range map[string]int{"": 0, "auto": 0, "0": 0, "1": 1, "64": 64} {
		if got, err := concurrency(text); err != nil || got != want {
			t.Errorf("concurrency(%q) = %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1", "many", "1.5", "1000000"} {
		if got, err := concurrency(text); err == nil {
			t.Errorf("concurrency(%q) = %d, want an error", text, got)
		}
	}
}
