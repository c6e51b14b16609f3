package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A printed is what a command line left.
type printed struct {
	code        int
	out, errors string
}

// commandLine runs stalk with the arguments, against the setup.
func (s setup) commandLine(t *testing.T, args ...string) printed {
	t.Helper()
	argv := append([]string{"-b", s.broker, "--result-backend", s.backend}, s.configFlag(t)...)
	return printing(t, exec.CommandContext(t.Context(), stalkBin, append(argv, args...)...))
}

// celeryLine runs celery with the arguments, in the Django project.
func (s setup) celeryLine(t *testing.T, args ...string) printed {
	t.Helper()
	return printing(t, s.celeryProcess(t.Context(), args...))
}

func (s setup) celeryProcess(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, python, append([]string{"-W", "ignore", "-m", "celery", "-A", "project"}, args...)...)
	cmd.Dir = filepath.Join(root, "pyfixtures/django_project")
	cmd.Env = append(s.environment(), "PYTHONUNBUFFERED=1")
	return cmd
}

// configFlag is --config with the setup's settings.
func (s setup) configFlag(t *testing.T) []string {
	t.Helper()
	if len(s.settings) == 0 {
		return nil
	}
	config, err := json.Marshal(s.settings)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "stalk.json")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--config", path}
}

func printing(t *testing.T, cmd *exec.Cmd) printed {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v\n%s", cmd.Args, err, errs.String())
	}
	return printed{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

var moving = regexp.MustCompile(`("?(?:clock|uptime|utime|stime|maxrss|minflt|majflt|inblock|oublock|nvcsw|nivcsw|prefetch_count|msgsnd)"?: )"?[0-9.]+"?|[0-9.]+MB`)

var header = regexp.MustCompile(`(?m)^(->)?  ?[^ ]+@test: (OK|ERROR)$`)

// answers is what status, inspect or control printed, in an order and with figures that do not depend on the
// moment: what stands before the first node, the answer of each node, sorted, and the count.
func answers(text string) []string {
	text = moving.ReplaceAllString(text, "${1}N")
	count := ""
	if i := strings.LastIndex(text, "\n\n"); i >= 0 {
		text, count = text[:i+1], text[i+1:]
	}
	var blocks []string
	start := 0
	for _, at := range header.FindAllStringIndex(text, -1) {
		blocks = append(blocks, text[start:at[0]])
		start = at[0]
	}
	blocks = append(blocks, text[start:])
	slices.Sort(blocks[1:])
	return append(blocks, count)
}

// celeryLines runs many command lines of celery in one process: it takes seconds to start.
func (s setup) celeryLines(t *testing.T, lines [][]string) []printed {
	t.Helper()
	const program = `
import json, sys, warnings
warnings.simplefilter("ignore")
from click.testing import CliRunner
from celery.bin.celery import celery
try:
    runner = CliRunner(mix_stderr=False)
except TypeError: # from click 8.2 on
    runner = CliRunner()
out = []
for line in json.load(sys.stdin):
    r = runner.invoke(celery, ["-A", "project"] + line, auto_envvar_prefix="CELERY")
    out.append([r.exit_code, r.stdout, r.stderr])
json.dump(out, sys.stdout)
`
	in, err := json.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.celeryProcess(t.Context())
	cmd.Args = []string{python, "-c", program}
	cmd.Stdin = bytes.NewReader(in)
	p := printing(t, cmd)
	var got [][3]any
	if err := json.Unmarshal([]byte(p.out), &got); err != nil || len(got) != len(lines) {
		t.Fatalf("celery: %v\n%+v", err, p)
	}
	all := make([]printed, len(lines))
	for i, g := range got {
		all[i] = printed{int(g[0].(float64)), g[1].(string), g[2].(string)}
	}
	return all
}

func TestCommandsPrintWhatCelerysDo(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		s = s.apart(t)
		ours := s.stalk(t, unique("cl-ours"))
		theirs := s.celery(t, unique("cl-theirs"), "-P", "prefork", "-c", "2")
		all := []string{"-t", "30", "-d", ours.name + "@test," + theirs.name + "@test"}
		one := []string{"-j", "-t", "30", "-d", theirs.name + "@test"}
		var lines [][]string
		for _, line := range []string{
			// What changes the nodes comes first: the second to ask finds them as the first did.
			"control rate_limit demo.add 5/s", "control rate_limit nosuch 5/s", "control rate_limit demo.add", "control rate_limit a b c",
			"control time_limit demo.add 100 200", "control revoke some-id", "control terminate TERM some-id", "control heartbeat",
			"control election", "control autoscale 3 1", "control pool_restart", "control cancel_consumer nosuch",
			"status", "inspect ping", "inspect active", "inspect reserved", "inspect scheduled", "inspect revoked", "inspect registered",
			"inspect registered rate_limit", "inspect active_queues", "inspect conf", "inspect clock", "inspect query_task a b",
			"inspect stats", "inspect memsample", "inspect objgraph", "inspect nosuch",
			"control nosuch", "-q status", "-q inspect ping", "-q control heartbeat",
		} {
			lines = append(lines, append(strings.Fields(line), all...))
		}
		for _, line := range []string{"status", "inspect ping", "inspect active_queues", "control heartbeat"} {
			lines = append(lines, append(strings.Fields(line), one...))
		}
		lines = append(lines, []string{"status", "-d", "nobody@test", "-t", "0.2"})
		nobody := len(lines) - 1

		theirLines := s.celeryLines(t, lines)
		for i, line := range lines {
			mine, celerys := s.commandLine(t, line...), theirLines[i]
			if mine.code != celerys.code || !reflect.DeepEqual(answers(mine.out), answers(celerys.out)) {
				t.Errorf("stalk %q: code %d\n%s%s\ncelery: code %d\n%s%s", line, mine.code, mine.out, mine.errors, celerys.code, celerys.out, celerys.errors)
			}
			if both := len(header.FindAllString(mine.out, -1)); mine.code == 0 && !slices.Contains(line, "-j") && both != 2 {
				t.Errorf("stalk %q shows %d nodes:\n%s", line, both, mine.out)
			}
			if i == nobody && (mine.code != 69 || mine.errors != celerys.errors) {
				t.Errorf("nobody there: stalk %+v, celery %+v", mine, celerys)
			}
		}
		// Without names: who is there, is found.
		mine := s.commandLine(t, "status", "-t", "5")
		for tries := 1; tries < 6 && !strings.HasSuffix(mine.out, "\n\n2 nodes online.\n"); tries++ { // on a busy machine five seconds may be short
			mine = s.commandLine(t, "status", "-t", "5")
		}
		if !strings.HasSuffix(mine.out, "\n\n2 nodes online.\n") {
			t.Errorf("stalk status: code %d\n%s%s", mine.code, mine.out, mine.errors)
		}
	})
}

func TestCallResultAndPurgeWithPythonWorkers(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("cl-call")
		s.celery(t, queue)
		send := func(args ...string) string {
			t.Helper()
			p := s.commandLine(t, append([]string{"call", "--queue", queue}, args...)...)
			id := strings.TrimSuffix(p.out, "\n")
			if p.code != 0 || len(id) != 36 {
				t.Fatalf("stalk call %q: %+v", args, p)
			}
			return id
		}
		good := send("demo.add", "-a", "[2]", "-k", `{"y": 3.5}`)
		if p := s.commandLine(t, "result", good, "--timeout", "60"); p.code != 0 || p.out != "5.5\n" {
			t.Errorf("stalk result: %+v", p)
		}
		bad := send("demo.fail", "-a", `["boom"]`)
		p := s.commandLine(t, "result", bad, "--timeout", "60")
		celerys := s.celeryLine(t, "result", bad)
		lastLine := func(text string) string {
			lines := strings.Split(strings.TrimSpace(text), "\n")
			return lines[len(lines)-1]
		}
		if p.code != 1 || celerys.code != 1 || lastLine(p.errors) != lastLine(celerys.errors) {
			t.Errorf("a failed task: stalk %+v\ncelery %+v", p, celerys)
		}
		for _, args := range [][]string{{"result", good}, {"result", "--traceback", good}, {"result", "--traceback", bad}} {
			if p, c := s.commandLine(t, args...), s.celeryLine(t, args...); p.out != c.out || p.code != c.code {
				t.Errorf("stalk %q: %+v\ncelery: %+v", args, p, c)
			}
		}

		hold, other := unique("cl-hold"), unique("cl-hold")
		fill := func(n int) {
			t.Helper()
			for range n {
				queue = hold
				send("demo.add", "-a", "[1, 1]")
			}
		}
		for _, n := range []int{3, 1, 0} {
			fill(n)
			mine := s.commandLine(t, "purge", "-f", "-Q", hold+","+other)
			fill(n)
			celerys := s.celeryLine(t, "purge", "-f", "-Q", hold+","+other)
			if mine.code != 0 || mine.out != celerys.out {
				t.Errorf("purge of %d: stalk %+v, celery %+v", n, mine, celerys)
			}
		}
		s.python(t, hold).run(`app.connection_for_write().default_channel.queue_delete(Q)`, nil)
	})
}

// A message set aside because of its serializer runs once it is replayed to a worker that takes it, and its
// caller, who was told of the failure, sees the result.
func TestAQuarantinedTaskRunsAfterItIsReplayed(t *testing.T) {
	if celeryInstead {
		t.Skip("Celery has no quarantine")
	}
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("cl-poison")
		first := s.stalk(t, queue)
		py := s.withClient("accept_content", []string{"json", "yaml"}).python(t, queue)
		var id string
		got := py.run(`
			r = add.apply_async((20, 3), queue=Q, serializer="yaml")
			wait(lambda: r.state == "FAILURE")
			value = r.id
		`, nil)
		if err := json.Unmarshal(got, &id); err != nil {
			t.Fatal(err)
		}
		first.stop()
		if p := s.commandLine(t, "quarantine", "list", "-Q", queue, "--json"); !strings.Contains(p.out, `"messages": 1,`) {
			t.Fatalf("quarantine list: %+v", p)
		}
		p := s.commandLine(t, "quarantine", "show", "-Q", queue)
		for _, want := range []string{"* " + id + " demo.add [" + queue + "]", "args: (20, 3) kwargs: {}", "application/x-yaml"} {
			if !strings.Contains(p.out, want) {
				t.Errorf("quarantine show: no %q in %+v", want, p)
			}
		}
		s.with("accept_content", []string{"json", "yaml"}).stalk(t, queue)
		if p := s.commandLine(t, "quarantine", "replay", "-Q", queue, id); p.code != 0 || p.out != "Replayed 1 message.\n" {
			t.Fatalf("quarantine replay: %+v", p)
		}
		if got := py.run(`
			r = app.AsyncResult(ID)
			wait(lambda: r.state == "SUCCESS")
			value = r.result
		`, map[string]any{"ID": id}); string(got) != "23" {
			t.Errorf("the result is %s", got)
		}
		py.run(`app.connection_for_write().default_channel.queue_delete(Q + ".quarantine")`, nil)
	})
}

var received = regexp.MustCompile(`local_received=[0-9.]+, `)

// TestEventsAreDumpedLineByLineAsCeleryDoes: both watch a Python and a Go worker at the same time.
func TestEventsAreDumpedLineByLineAsCeleryDoes(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		s = s.apart(t)
		ours, theirs := unique("cl-ev"), unique("cl-ev")
		workers := []*worker{s.stalk(t, ours, "-E"), s.celery(t, theirs, "-E")}

		dump := func(cmd *exec.Cmd) (path string) {
			t.Helper()
			path = filepath.Join(t.TempDir(), "events")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.Stdout = f
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				cmd.Process.Kill()
				cmd.Wait()
			})
			return path
		}
		argv := append([]string{"-b", s.broker}, s.configFlag(t)...)
		mine := dump(exec.Command(stalkBin, append(argv, "events", "-d")...))
		celerys := dump(s.celeryProcess(context.Background(), "events", "--dump"))
		// lines waits for a text in a dump.
		lines := func(path, text string) []string {
			t.Helper()
			for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(b), text) {
					return strings.Split(string(b), "\n")
				}
				if time.Now().After(deadline) {
					t.Fatalf("no %q in\n%s", text, b)
				}
			}
		}
		for _, path := range []string{mine, celerys} {
			lines(path, workers[0].name+"@test [") // it hears: the other worker sends no heartbeats
		}
		s.python(t, theirs).run(`
			for q in QUEUES:
			    add.apply_async((2, 3), queue=q)
			    fail.apply_async(("boom",), queue=q)
		`, map[string]any{"QUEUES": []string{ours, theirs}})
		done := func(path string) []string {
			t.Helper()
			var all []string
			for _, w := range workers {
				for _, what := range []string{"] task succeeded: ", "] task failed: "} {
					for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
						all = lines(path, "evdump")
						if slices.ContainsFunc(all, func(l string) bool {
							return strings.HasPrefix(l, w.name+"@test [") && strings.Contains(l, what)
						}) {
							break
						}
						if time.Now().After(deadline) {
							t.Fatalf("no %q of %s in\n%s", what, w.name, strings.Join(all, "\n"))
						}
					}
				}
			}
			var tasks []string
			for _, l := range all {
				if strings.Contains(l, "] task ") {
					tasks = append(tasks, received.ReplaceAllString(l, ""))
				}
			}
			return tasks
		}
		got, want := done(mine), done(celerys)
		for _, lines := range [][]string{got, want} { // RabbitMQ may mix two publishers' messages otherwise in one queue than in another
			slices.SortStableFunc(lines, func(a, b string) int {
				a, _, _ = strings.Cut(a, " ")
				b, _, _ = strings.Cut(b, " ")
				return strings.Compare(a, b)
			})
		}
		if !celeryHas(t, 6) {
			want = dumpBefore56(want)
		}
		if len(got) != 12 || !slices.Equal(got, want) {
			t.Errorf("stalk events prints %d lines\n%s\ncelery events %d\n%s", len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
		}
	})
}
