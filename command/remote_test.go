package command

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/worker"
)

// stalk runs a command line against a broker and returns what it printed.
func stalk(t *testing.T, url, line string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return stalkWith(t, strings.NewReader(""), url, line, args...)
}

func stalkWith(t *testing.T, stdin io.Reader, url, line string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	argv := append([]string{"stalk", "-b", url, "--result-backend", url}, strings.Fields(line)...)
	code = run(t.Context(), Program{}, append(argv, args...), process{stdin: stdin, stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

// wantRun runs a command line that must print just this and end with the code.
func wantRun(t *testing.T, url, line string, code int, stdout, stderr string) {
	t.Helper()
	gotCode, out, errs := stalk(t, url, line)
	if gotCode != code || out != stdout || errs != stderr {
		t.Errorf("stalk %s: code %d\n%s%s\nwant code %d\n%s%s", line, gotCode, out, errs, code, stdout, stderr)
	}
}

func TestRemoteControlFromTheCommandLine(t *testing.T) {
	s := startDemo(t)
	count := "\n1 node online.\n"
	nobody := "Error: No nodes replied within time constraint\n"
	for _, tt := range []struct {
		line           string
		code           int
		stdout, stderr string
	}{
		{"status", 0, "->  demo@localhost: OK\n" + count, ""},
		{"status -j", 0, `{"demo@localhost": {"ok": "pong"}}` + "\n" + count, ""},
		{"-q status", 0, " demo@localhost: OK\n" + count, ""},
		{"status -d demo@localhost -t 20", 0, "->  demo@localhost: OK\n" + count, ""}, // ends at the answer
		{"status -d other@localhost -t 0.05", 69, "", nobody},
		{"inspect ping -t 0.3", 0, "->  demo@localhost: OK\n        pong\n" + count, ""},
		{"inspect ping --json -t 0.3", 0, `{"demo@localhost": {"ok": "pong"}}` + "\n", ""},
		{"inspect active -t 0.3", 0, "->  demo@localhost: OK\n    - empty -\n" + count, ""},
		{"inspect query_task a b -t 0.3", 0, "->  demo@localhost: OK\n    {}\n" + count, ""},
		{"control rate_limit hello 5/s -t 0.3", 0, "->  demo@localhost: OK\n        new rate limit set successfully\n", ""},
		{"control rate_limit nosuch 5/s -t 0.3", 0, "->  demo@localhost: ERROR\n        unknown task\n", ""},
		{"control heartbeat -j -t 0.3", 0, `[{"demo@localhost": null}]` + "\n", ""},
		{"control revoke a -t 0.05 -d other@localhost", 69, "", nobody},
		{"inspect nosuch", 2, "", "stalk: Command nosuch not recognized. Available inspect commands: active, active_queues, clock, conf, memdump, memsample, " +
			"objgraph, ping, query_task, registered, report, reserved, revoked, scheduled, stats\n"},
		{"control ping", 2, "", "stalk: Command ping not recognized. Available control commands: add_consumer, autoscale, cancel_consumer, disable_events, " +
			"election, enable_events, heartbeat, pool_grow, pool_restart, pool_shrink, rate_limit, revoke, revoke_by_stamped_headers, shutdown, terminate, time_limit\n"},
		{"inspect", 2, "", "stalk: Missing argument 'COMMAND'.\n"},
		{"control pool_grow 1 2", 2, "", "stalk: Command 'pool_grow' takes arguments: [N=1]\n"},
		{"status -t -1", 2, "", "stalk: --timeout -1: want seconds, 0 or more\n"},
		{"status --nope", 2, "", "stalk: flag provided but not defined: -nope\n"},
	} {
		wantRun(t, s.url, tt.line, tt.code, tt.stdout, tt.stderr)
	}
}

func TestAProgramsOwnCommandsCanBeCalled(t *testing.T) {
	k := remoteKinds(Program{Control: map[string]worker.Command{"flush": nil, "ping": nil}})
	for _, kind := range k {
		c, ok := find(kind.panel, "flush")
		if !ok || !c.pairs {
			t.Errorf("%s: flush is %+v", kind.name, c)
		}
	}
	if c, _ := find(k[0].panel, "ping"); c.pairs {
		t.Error("inspect ping is not Celery's any more")
	}
	args, err := keyValues([]string{"n=3", "name=a b", "list=[1]", "empty="})
	if err != nil || jsonText(args) != `{"n": 3, "name": "a b", "list": [1], "empty": ""}` {
		t.Errorf("keyValues = %s, %v", jsonText(args), err)
	}
	if _, err := keyValues([]string{"n"}); err == nil {
		t.Error("an argument without = is taken")
	}
}

func TestCallAndResult(t *testing.T) {
	s := startDemo(t)
	uuid := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n$`)
	send := func(args ...string) string {
		t.Helper()
		code, out, errs := stalk(t, s.url, "call", args...)
		if code != 0 || !uuid.MatchString(out) {
			t.Fatalf("stalk call %q: code %d, %q %q", args, code, out, errs)
		}
		return strings.TrimSpace(out)
	}
	id := send("hello", "-a", `["Ada"]`)
	wantRun(t, s.url, "result --timeout 20 "+id, 0, "hello Ada\n", "")
	wantRun(t, s.url, "result --traceback "+id, 0, "\n", "")
	wantRun(t, s.url, "result --json "+id, 0, `{"id": "`+id+`", "state": "SUCCESS", "result": "hello Ada", "exception": null, "traceback": null}`+"\n", "")
	id = send("demo.add", "-k", `{"x": 1, "y": 2.5}`, "--queue", "go", "--countdown", "0.1")
	wantRun(t, s.url, "result "+id, 0, "3.5\n", "")

	id = send("no.such.task", "--expires", "2099-01-01T00:00:00")
	code, out, errs := stalk(t, s.url, "result --timeout 20 "+id)
	if code != 1 || out != "" || !strings.Contains(errs, "NotRegistered") {
		t.Errorf("result of a failed task: code %d, %q %q", code, out, errs)
	}
	if code, out, _ = stalk(t, s.url, "result --json "+id); code != 1 || !strings.Contains(out, `"state": "FAILURE", "result": null, "exception": {"module": `) {
		t.Errorf("result --json of a failed task: code %d, %s", code, out)
	}
	wantRun(t, s.url, "result --timeout 0.1 unknown", 1, "", "Error: The operation timed out: task unknown has not ended.\n")

	for _, tt := range []struct{ line, want string }{
		{"call", "Missing argument 'NAME'."},
		{"call a b", `call takes one name, got also "b"`},
		{"call t -a {}", "Invalid value for '-a' / '--args': {} was not an array"},
		{"call t -a [", "Invalid value for '-a' / '--args':"},
		{"call t -k []", "Invalid value for '-k' / '--kwargs': [] was not an object"},
		{"call t --eta soon", "Invalid value for '--eta':"},
		{"call t --expires soon", "Invalid value for '--expires':"},
		{"call t --serializer pickle", "pickle runs code"},
		{"result", "Missing argument 'TASK_ID'."},
		{"result x --timeout -1", "want seconds"},
		{"result x --result-backend rpc://", "rpc:// results go to the process that sent the task"},
	} {
		code, _, errs := stalk(t, s.url, tt.line)
		if code != 2 || !strings.Contains(errs, tt.want) {
			t.Errorf("stalk %s: code %d, %q; want 2 and %q", tt.line, code, errs, tt.want)
		}
	}
}

func TestATimeWithoutZoneIsInThatOfTheSettings(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	s := &session{encoding: protocol.Encoding{Zone: berlin}}
	for text, want := range map[string]string{
		"2030-01-01T10:00:00":       "2030-01-01T09:00:00Z",
		"2030-01-01T10:00:00Z":      "2030-01-01T10:00:00Z",
		"2030-01-01T10:00:00-05:00": "2030-01-01T15:00:00Z",
	} {
		got, err := s.instant(text)
		if err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("instant(%s) = %v, %v; want %s", text, got.UTC(), err, want)
		}
	}
}

func TestPurgeCountsAndAsks(t *testing.T) {
	s := startDemo(t)
	for range 3 {
		publish(t, s.url, "other", protocol.Task{ID: "x", Name: "hello", Kwargs: &protocol.Object{}})
	}
	question := "WARNING:This will remove all tasks from queues: other, third.\n         There is no undo for this operation!\n\n" +
		"(to skip this prompt use the -f option)\nAre you sure you want to delete all tasks? [y/N]: "
	for _, answer := range []string{"", "n\n", "nonsense\n"} {
		code, out, errs := stalkWith(t, strings.NewReader(answer), s.url, "purge -Q other,third")
		if code != 1 || out != question || errs != "Aborted!\n" {
			t.Errorf("answer %q: code %d, %q %q", answer, code, out, errs)
		}
	}
	code, out, _ := stalkWith(t, strings.NewReader("y\n"), s.url, "purge -Q other,third")
	if code != 0 || out != question+"Purged 3 messages from 2 known task queues.\n" {
		t.Errorf("answer y: code %d, %q", code, out)
	}
	wantRun(t, s.url, "purge -f -Q other", 0, "No messages purged from 1 queue.\n", "")
	publish(t, s.url, "other", protocol.Task{ID: "x", Name: "hello", Kwargs: &protocol.Object{}})
	wantRun(t, s.url, "purge -f -j -Q other", 0, `{"purged": 1, "queues": [{"messages": 1, "queue": "other"}]}`+"\n", "")
	wantRun(t, s.url, "purge -f -Q other -X other", 0, "", "")
}

func TestBindingsAreListed(t *testing.T) {
	s := startDemo(t)
	code, out, _ := stalk(t, s.url, "list bindings")
	if code != 0 || !strings.HasPrefix(out, "Queue                        Exchange                     Routing Key\n----------------             -") ||
		!strings.Contains(out, "\ncelery                       celery                       celery\n") {
		t.Errorf("code %d\n%s", code, out)
	}
	if code, out, _ = stalk(t, s.url, "list bindings -j"); code != 0 || !strings.Contains(out, `{"exchange": "celery", "queue": "celery", "routing_key": "celery"}`) {
		t.Errorf("code %d\n%s", code, out)
	}
}

func TestAMissingBrokerIsOneLine(t *testing.T) {
	for _, url := range []string{"redis://:topsecret@127.0.0.1:1/0", "amqp://guest:topsecret@127.0.0.1:1//"} {
		for _, line := range []string{
			"status", "inspect ping", "control heartbeat", "call x", "purge -f", "events", "quarantine list", "quarantine show", "list bindings",
		} {
			began := time.Now()
			code, out, errs := stalk(t, url, line)
			if code != 69 || strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "Error: Could not connect to the message broker.") {
				t.Errorf("stalk %s: code %d, %q", line, code, errs)
			}
			if strings.Contains(out+errs, "topsecret") {
				t.Errorf("stalk %s prints the password: %s%s", line, out, errs)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("stalk %s took %v", line, took)
			}
		}
	}
	code, _, errs := stalk(t, "redis://:topsecret@127.0.0.1:1/0", "result x")
	if code != 69 || !strings.HasPrefix(errs, "Error: Could not connect to the result backend.") || strings.Contains(errs, "topsecret") {
		t.Errorf("stalk result: code %d, %q", code, errs)
	}
	var out, text bytes.Buffer
	code = run(t.Context(), Program{}, []string{"stalk", "status"}, process{stdout: &out, stderr: &text})
	if code != 2 || !strings.Contains(text.String(), "no broker: give -b URL") {
		t.Errorf("no broker at all: code %d, %q", code, text.String())
	}
}

func TestASignalEndsACommand(t *testing.T) {
	s := startDemo(t)
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGINT
	var out, errs bytes.Buffer
	args := []string{"stalk", "-b", s.url, "inspect", "ping", "-t", "3600", "-d", "nobody@h"}
	if code := run(t.Context(), Program{}, args, process{stdout: &out, stderr: &errs, signals: signals}); code != 1 || errs.String() != "Aborted!\n" {
		t.Errorf("code %d, %q", code, errs.String())
	}
}

func TestReportMasksSecrets(t *testing.T) {
	var out, errs bytes.Buffer
	p := process{stdout: &out, stderr: &errs, environ: []string{"CELERY_REDIS_PASSWORD=topsecret", "CELERY_TIMEZONE=Europe/Berlin"}}
	code := run(t.Context(), Program{}, []string{"stalk", "-b", "redis://:topsecret@h/1", "report", "--result-backend", "redis://u:topsecret@h/2"}, p)
	text := out.String()
	if code != 0 || strings.Contains(text, "topsecret") {
		t.Errorf("code %d\n%s%s", code, text, errs.String())
	}
	for _, want := range []string{
		"\nsoftware -> stalk:" + Version, "platform -> system:", "settings -> transport:redis results:redis://u:********@h/2",
		"broker_url: 'redis://:********@h/1'\n", "redis_password: '********'\n", "timezone: 'Europe/Berlin'\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	out.Reset()
	if code := run(t.Context(), Program{}, []string{"stalk", "report", "-j"}, p); code != 0 {
		t.Errorf("code %d", code)
	}
	v, err := protocol.ParseJSON(bytes.TrimSpace(out.Bytes()), protocol.Limits{})
	if doc, ok := v.(*protocol.Object); err != nil || !ok || doc.Len() != 5 {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestWhatIsNotOfferedSaysWhatToUse(t *testing.T) {
	for _, n := range notOffered {
		code, out, errs := stalk(t, "redis://127.0.0.1:1", n.name+" --whatever x -n 3")
		if code != 2 || out != "" || errs != "stalk: "+n.name+" is not offered here: "+n.instead+"\n" {
			t.Errorf("%s: code %d, %q %q", n.name, code, out, errs)
		}
	}
	if code, _, errs := stalk(t, "redis://127.0.0.1:1", "events -c x.Cam"); code != 2 || !strings.Contains(errs, "run celery events -c CLASS") {
		t.Errorf("events -c: code %d, %q", code, errs)
	}
}
