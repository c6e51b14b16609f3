package interop_test

import (
	"slices"
	"strings"
	"testing"
)

// Python workers are killed beside Go workers, and Celery loses what it always loses. That is told apart by the ledger: it
// is Celery's only where a Python worker that was killed has been at work in what was sent together, or where, on
// Redis, a task never began that a Python worker may have popped (Kombu pops first and makes a note of it afterwards).
// What only Go workers take is always ours.

// pythons reports whether what became of a task may be the work of a killed Python worker.
func (s *soak) pythons(r *soakReport, l *ledger, id string) bool {
	if s.PythonKills == 0 {
		return false
	}
	for other, root := range r.Root {
		if root != r.Root[id] {
			continue
		}
		if l.begun[other] == 0 && r.Queue[other] != "go" && strings.HasPrefix(s.Broker, "redis") {
			return true
		}
		for key, runs := range l.runs {
			if task, _, _ := strings.Cut(key, "/"); task == other && slices.ContainsFunc(runs, func(run soakRun) bool { return s.killed[run.pid] == ofPython }) {
				return true
			}
		}
	}
	return false
}

// forgive moves what killed Python workers have lost or spoilt from our account to theirs.
func (s *soak) forgive(r *soakReport, l *ledger, res *soakResult) {
	theirs := func(id string) bool {
		if !s.pythons(r, l, id) {
			return false
		}
		res.Theirs = append(res.Theirs, r.IDs[id]+" "+id)
		s.t.Logf("by a killed Python worker: %s %s, run %d times", r.IDs[id], id, l.begun[id])
		return true
	}
	r.Lost = slices.DeleteFunc(r.Lost, func(w map[string]string) bool { return theirs(w["id"]) })
	r.Wrong = slices.DeleteFunc(r.Wrong, func(w map[string]any) bool {
		id, _ := w["id"].(string)
		return theirs(id)
	})
	res.Lost, res.Wrong = len(r.Lost), len(r.Wrong)
}

func TestOnlyWhatPythonTouchedIsForgiven(t *testing.T) {
	l := &ledger{begun: map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "f": 1}, runs: map[string][]soakRun{
		"a/0": {{pid: 1}}, "b/0": {{pid: 2}}, "c/0": {{pid: 3}}, "d/0": {{pid: 4}}, "f/1": {{pid: 3}},
	}}
	r := &soakReport{
		IDs:   map[string]string{"a": "chained", "b": "chained", "c": "one", "d": "one", "e": "one", "f": "one", "g": "one"},
		Root:  map[string]int{"a": 1, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5, "g": 6},
		Queue: map[string]string{"a": "go", "b": "both", "c": "go", "d": "py", "e": "both", "f": "both", "g": "go"},
	}
	killed := map[int]string{2: ofPython, 3: "stored"}
	for _, tt := range []struct {
		name, id, broker string
		want             bool
	}{
		{"sent together with what a killed Python worker ran", "a", "amqp://", true},
		{"run by a killed Python worker", "b", "amqp://", true},
		{"run by a killed Go worker", "c", "amqp://", false},
		{"run by a Python worker that lived", "d", "redis://", false},
		{"never begun, where Python may have popped it", "e", "redis://", true},
		{"never begun, where RabbitMQ keeps it", "e", "amqp://", false},
		{"never begun, where only Go takes it", "g", "redis://", false},
		{"a retry run by a killed Go worker", "f", "redis://", false},
	} {
		s := &soak{Broker: tt.broker, PythonKills: 1, killed: killed}
		if got := s.pythons(r, l, tt.id); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if s := (&soak{Broker: "redis://", killed: killed}); s.pythons(r, l, "e") {
		t.Error("no Python worker was killed, and something is forgiven")
	}
}
