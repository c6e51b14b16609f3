package interop_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A soakResult is a line of the table.
type soakResult struct {
	Name    string         `json:"broker"`
	Seed    uint64         `json:"seed"`
	Tasks   int            `json:"tasks"`
	Runs    int            `json:"runs"`
	Kills   int            `json:"kills"`
	ByPoint map[string]int `json:"kills_by_point"`
	Lost    int            `json:"lost"`
	Wrong   int            `json:"wrong"`
	Untold  int            `json:"errbacks_missing"`
	Python  int            `json:"python_kills"`
	Theirs  []string       `json:"lost_or_wrong_by_killed_python_workers"`
	Left    int            `json:"messages_left"`
	Again   int            `json:"begun_again_after_a_kill"` // by a kill in or after the run
	Twice   int            `json:"sent_twice"`               // what a killed run had sent already was sent again
	Bound   int            `json:"kills_times_concurrency"`
	Most    int            `json:"kills_times_begun"`
	Longest float64        `json:"longest_seconds"`
	Slowest string         `json:"longest_kind"`
	Revoked int            `json:"revoked"`
	Seconds float64        `json:"seconds"`
	Celery  string         `json:"celery"`
	Kinds   map[string]int `json:"kinds"`
}

// judge compares what the client got with what the ledger tells. Whatever was lost, wrong or left fails the test,
// unless Celery did all the work.
func (s *soak) judge(r *soakReport, l *ledger, took time.Duration) soakResult {
	killed := map[int]bool{}
	res := soakResult{
		Name: s.Name, Seed: s.Seed, Tasks: r.Tasks, Kills: len(s.killed), ByPoint: map[string]int{}, Lost: len(r.Lost), Wrong: len(r.Wrong),
		Longest: r.Longest, Slowest: r.Slowest, Revoked: r.Revoked, Seconds: took.Seconds(), Celery: r.Celery, Kinds: r.Kinds,
	}
	for pid, point := range s.killed {
		killed[pid] = true
		res.ByPoint[point]++
		if point == ofPython {
			res.Python++
		}
	}
	for _, runs := range l.runs {
		res.Runs += len(runs)
	}
	res.Again, res.Twice = l.duplicates(killed)
	res.Bound = res.Kills * s.Slots
	res.Most = res.Kills * s.Slots * 5
	for _, n := range r.Left {
		res.Left += n
	}
	complain := s.t.Errorf
	if s.Celery {
		complain = s.t.Logf
	} else {
		s.forgive(r, l, &res)
	}
	for _, w := range first(r.Lost, 10) {
		complain("lost: %v, run %d times", w, l.begun[w["id"]])
	}
	for _, w := range first(r.Wrong, 10) {
		complain("wrong: %v", w)
	}
	// What was revoked before it began, and the body of a chord that failed, never run.
	if ids := l.unrun(r.IDs, "revoked", "failed_chord"); len(ids) > 0 && res.Lost+len(res.Theirs) == 0 {
		complain("%d tasks have a result and never ran, such as %q of kind %q", len(ids), ids[0], r.IDs[ids[0]])
	}
	for _, id := range r.Notes {
		if l.notes[id] == 0 && (s.Celery || !s.pythons(r, l, id)) {
			res.Untold++
			complain("no errback heard of the failure of %s", id)
		}
	}
	// RabbitMQ does not tell what its consumers hold, so there the workers may have ended with copies in their hands.
	if res.Left > 0 && r.Held {
		complain("messages are left: %v", r.Left)
	}
	if res.Kills < s.Kills+s.PythonKills {
		complain("%d kills, want %d and %d of Python workers", res.Kills, s.Kills, s.PythonKills)
	}
	// What a worker has begun and not settled: one task per slot runs, and four per slot may have ended and be on their
	// way to the result store and the broker (worker.Config.Settling). Where a task lasts longer than that takes, which
	// is a few milliseconds, it is the running ones alone.
	if res.Again > res.Most {
		complain("%d runs begun again, more than %d kills times %d begun and not settled", res.Again, res.Kills, s.Slots*5)
	}
	return res
}

func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }

// printSoak writes the table.
func printSoak(out io.Writer, results []soakResult) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "broker\tseed\ttasks\tkills\tlost\twrong\tby Celery\tduplicates\tof these sent twice\tkills*slots\tlongest s\tminutes\tkills by point")
	for _, r := range results {
		var points []string
		for _, p := range slices.Sorted(maps.Keys(r.ByPoint)) {
			points = append(points, fmt.Sprintf("%s %d", p, r.ByPoint[p]))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f (%s)\t%.1f\t%s\n", r.Name, r.Seed, r.Tasks, r.Kills, r.Lost, r.Wrong, len(r.Theirs),
			r.Again+r.Twice, r.Twice, r.Bound, r.Longest, r.Slowest, r.Seconds/60, strings.Join(points, ", "))
	}
	w.Flush()
}

// saveSoak writes .build/soak.json.
func saveSoak(results []soakResult) error {
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(root, ".build", "soak.json")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
