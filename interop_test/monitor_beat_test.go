package interop_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A beatEntry is a line of a schedule of either beat.
type beatEntry struct {
	Task    string         `json:"task"`
	Args    []any          `json:"args"`
	Kwargs  map[string]any `json:"kwargs"`
	Queue   string         `json:"queue"`
	Expires int            `json:"expire_seconds,omitempty"`
}

// beatEntries are sent each second: one that waits for a worker, one that does not.
func beatEntries(queue string, number int) map[string]beatEntry {
	return map[string]beatEntry{
		"patient": {Task: "demo.add", Args: []any{number}, Kwargs: map[string]any{"y": 40}, Queue: queue},
		"hurried": {Task: "demo.echo", Args: []any{number, "tick"}, Kwargs: map[string]any{"who": "Zoë"}, Queue: queue, Expires: 2},
	}
}

// TestBeatsScheduleTasks: celery beat with a schedule in its settings, and django-celery-beat with one in Django's
// database, each send a task every second before there is a worker. What has waited longer than it may is
// refused, the rest runs with the arguments it was given.
func TestBeatsScheduleTasks(t *testing.T) {
	onMonitored(t, []string{"django_celery_beat"}, func(t *testing.T, s setup) {
		queue, djangos := unique("beat"), unique("beat")
		m := s.startMonitor(t)
		schedule := map[string]any{}
		for name, e := range beatEntries(queue, 2) {
			options := map[string]any{"queue": e.Queue}
			if e.Expires > 0 {
				options["expires"] = e.Expires
			}
			schedule[name] = map[string]any{"task": e.Task, "schedule": 1.0, "args": e.Args, "kwargs": e.Kwargs, "options": options}
		}
		entries, err := json.Marshal(beatEntries(djangos, 3))
		if err != nil {
			t.Fatal(err)
		}
		environment := []string{"STALK_DATABASE=" + filepath.Join(t.TempDir(), "beat.sqlite3")}
		if code := s.program(t, "schedule", nil, environment, "schedule.py", string(entries)).wait(60 * time.Second); code != 0 {
			t.Fatalf("schedule.py ended with code %d", code)
		}
		argv := []string{"-m", "celery", "-A", "project", "beat", "-l", "INFO", "--pidfile="}
		beats := map[string]*worker{
			"2": s.withClient("beat_schedule", schedule).program(t, "beat", nil, nil,
				append(argv, "-s", filepath.Join(t.TempDir(), "schedule"))...),
			"3": s.program(t, "djangos-beat", nil, environment, append(argv, "-S", "django")...),
		}
		for _, beat := range beats {
			beat.waitLogs("Sending due task patient", 5)
		}
		w := s.watched(t, queue+","+djangos, "-E")
		w.waitReady()
		for _, beat := range beats {
			beat.waitLogs("Sending due task hurried", 9)
			if bad := troubles(beat.output()); len(bad) > 0 {
				t.Errorf("%s was harmed: %q", beat.name, bad)
			}
			// To TERM it answers with a traceback now and then: its signal handler writes the file that a tick has open.
			beat.kill()
		}
		s.python(t, queue).run(`
			i = app.control.inspect(destination=[NODE], timeout=60)
			wait(lambda: left(Q) == left(Q2) == 0)
			wait(lambda: not i.active()[NODE] and not i.reserved()[NODE] and not i.scheduled()[NODE])
		`, map[string]any{"NODE": w.name + "@test", "Q2": djangos})
		w.stop()
		r := m.end()
		ran, late := map[string]int{}, 0
		for id, task := range r.Tasks {
			if task.Worker != w.name+"@test" {
				continue
			}
			// Python's client tells of a list as a list or as a tuple, as it came.
			args := strings.NewReplacer("[", "(", "]", ")", ",)", ")").Replace(task.Args)
			got := fmt.Sprintf("%s %s %s %s %s", task.Name, args, task.Kwargs, task.State, task.Result)
			switch {
			case task.State == "REVOKED":
				late++
			case got == "demo.add (2) {'y': 40} SUCCESS 42", got == "demo.add (3) {'y': 40} SUCCESS 43",
				got == "demo.echo (2, 'tick') {'who': 'Zoë'} SUCCESS {'args': [2, 'tick'], 'kwargs': {'who': 'Zoë'}}",
				got == "demo.echo (3, 'tick') {'who': 'Zoë'} SUCCESS {'args': [3, 'tick'], 'kwargs': {'who': 'Zoë'}}":
				ran[task.Name+args[1:2]]++
			default:
				t.Errorf("task %s: %s", id, got)
			}
		}
		all := 0
		for number, beat := range beats {
			// A tick is announced before it is sent: the last may be cut off.
			due := strings.Count(string(beat.output()), "Sending due task patient") - 1
			all += due
			add, echo := ran["demo.add"+number], ran["demo.echo"+number]
			if add < due || echo < 1 || echo > due-1 {
				t.Errorf("%s: %d due, %d demo.add and %d demo.echo ran\n%s", beat.name, due, add, echo, tail(beat.log))
			}
			all -= echo
		}
		// RabbitMQ itself drops what has expired when nobody took it before.
		if s.name == "redis" && late < all {
			t.Errorf("%d tasks were refused for being late, want %d", late, all)
		}
	})
}
